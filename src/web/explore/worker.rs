//! The thread that owns the generators and makes the pictures.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::{Context, Result};
use tch::{Device, Tensor};
use tokio::sync::oneshot;

use super::generators::Generators;
use super::view::{CheckedView, DIRECTIONS, View};
use crate::draw::pixels::{png_bytes, to_interleaved};
use crate::latent::directions::{Directions, Method};
use crate::latent::interpolation::slerp;
use crate::latent::mixing::mixed;
use crate::latent::picture_source::{Latents, PictureSource, PictureStart};
use crate::latent::seeds::{NormalStream, latents_of_seeds};
use crate::latent::w_samples::{SAMPLES, drawn_w, sizes_of_ws};
use crate::latent::ws_file;
use crate::model::{Generator, Truncation};
use crate::source::Source;
use crate::tensor::caught;
use crate::tensor::images::{ToBytes, bytes};

/// Generators that are kept loaded.
const MOST_LOADED: usize = 3;

/// What is asked of the thread.
pub enum Wish {
    /// The picture, as PNG.
    Picture,
    /// Its ws, as a file that `rootgan generate --ws` takes.
    Ws,
}

/// A picture that is asked for, and where it goes.
pub struct Request {
    pub view: View,
    pub wish: Wish,
    pub reply: oneshot::Sender<Result<Vec<u8>>>,
}

/// A generator in memory.
struct Loaded {
    path: PathBuf,
    changed: std::time::SystemTime,
    generator: Generator,
    /// The directions of each class; without a class, those of all of its w.
    directions: HashMap<Option<i64>, Directions>,
}

/// The thread's own.
pub struct Worker {
    generators: Arc<Generators>,
    device: Device,
    /// The newest used comes first.
    loaded: VecDeque<Loaded>,
}

impl Worker {
    /// Begins without a generator in memory.
    pub fn new(generators: Arc<Generators>, device: Device) -> Self {
        Self { generators, device, loaded: VecDeque::new() }
    }

    /// Answers requests until nobody can ask any more.
    pub fn work(mut self, requests: &Receiver<Request>) {
        while let Ok(Request { view, wish, reply }) = requests.recv() {
            // The page has gone on to something else.
            if !reply.is_closed() {
                let outcome = caught(|| self.answer(&view, &wish));
                let _ = reply.send(outcome);
            }
        }
    }

    fn answer(&mut self, view: &View, wish: &Wish) -> Result<Vec<u8>> {
        let plan = view.plan()?;
        let (_, path) = self.generators.find(&view.generator)?;
        let loaded = self.load(&path)?;
        let truncation = Truncation { psi: view.psi, cutoff: None };
        let (noise_mode, class) = (plan.noise, view.class);
        loaded.generator.class_labels(class, 1)?;
        if !plan.moves.is_empty() && !loaded.directions.contains_key(&class) {
            let mut draws = NormalStream::from_seed(0);
            let w = drawn_w(&loaded.generator, class, &mut draws, SAMPLES)?;
            loaded.directions.insert(class, Directions::find(Method::Pca, &w, &[], DIRECTIONS)?);
        }
        let generator = &loaded.generator;
        let source = PictureSource { generator, truncation, noise_mode, class, batch: 1 };
        let latents = latents(&source, view, &plan, loaded.directions.get(&class))?;
        match wish {
            Wish::Picture => picture(&source, latents),
            Wish::Ws => {
                let ws = match latents.start {
                    PictureStart::Ws(ws) => ws,
                    PictureStart::Z(z) => source.ws_of(&z)?,
                };
                ws_file::to_bytes(&ws)
            }
        }
    }

    /// Loads a generator, unless it is in memory and its file has not changed. What a snapshot's manifest says of the file is
    /// checked whenever it is loaded.
    fn load(&mut self, path: &Path) -> Result<&mut Loaded> {
        let changed = std::fs::metadata(path)
            .and_then(|found| found.modified())
            .with_context(|| format!("cannot read '{}'; was it moved?", path.display()))?;
        let at = self.loaded.iter().position(|loaded| loaded.path == path && loaded.changed == changed);
        let loaded = match at.and_then(|at| self.loaded.remove(at)) {
            Some(loaded) => loaded,
            None => {
                let generator = Generator::load(&Source::find(path, None)?.generator()?, self.device, None)?;
                Loaded { path: path.to_owned(), changed, generator, directions: HashMap::new() }
            }
        };
        self.loaded.push_front(loaded);
        self.loaded.truncate(MOST_LOADED);
        self.loaded.front_mut().context("a generator was put there")
    }
}

/// Returns the latents of a view: z where `rootgan generate` would take a seed, else ws.
fn latents(
    source: &PictureSource<'_>,
    view: &View,
    plan: &CheckedView,
    directions: Option<&Directions>,
) -> Result<Latents> {
    let z_dim = source.generator.z_dim();
    let z = latents_of_seeds(&[view.seed], z_dim, Device::Cpu);
    let none = || Tensor::zeros([1, 0], tch::kind::FLOAT_CPU);
    let latents =
        |start| Latents { start, shift: None, noise: none(), classes: None, script_seed: i64::from(view.seed) };
    if view.is_plain() {
        return Ok(latents(PictureStart::Z(z)));
    }
    let z = match view.to {
        Some(to) => slerp(&z, &latents_of_seeds(&[to], z_dim, Device::Cpu), view.at),
        None => z,
    };
    let (num_ws, _) = sizes_of_ws(source.generator)?;
    let mut ws = source.ws_of(&z)?;
    if let Some(seed) = view.mix {
        let style = source.ws_of(&latents_of_seeds(&[seed], z_dim, Device::Cpu))?;
        ws = mixed(&ws, &style, &plan.layers.rows(num_ws)?).squeeze_dim(1);
    }
    for &(index, strength) in &plan.moves {
        let directions = directions.context("directions were found before")?;
        ws += directions.shift(index, strength, &(0..num_ws), num_ws)?.unsqueeze(0);
    }
    Ok(latents(PictureStart::Ws(ws)))
}

fn picture(source: &PictureSource<'_>, latents: Latents) -> Result<Vec<u8>> {
    let mut png = None;
    let (side, channels) = (source.side(), source.channels());
    let latents = std::cell::Cell::new(Some(latents));
    let draw = |_| latents.take().expect("one batch is drawn once");
    let whole: Vec<_> = source.batches(1).collect();
    source.each(&whole, ToBytes::Round, draw, |_, pixels| {
        png = Some(png_bytes(&to_interleaved(&bytes(pixels), channels), side, side, channels, &[])?);
        Ok(true)
    })?;
    png.context("no picture was made")
}
