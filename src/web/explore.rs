//! The section *Explore*: pictures of generators as a page asks for them, made on one thread that owns the generators.
//!
//! A picture is made in the very way of `rootgan generate`, so that a saved one equals what the command shown with it
//! writes. A request whose page has already asked for something newer is passed over.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Tensor};
use tokio::sync::oneshot;

use super::answer::{Content, constant, json_of, problem};
use super::runs::catalog::Catalog;
use super::runs::run::{WatchedRun, id_of};
use super::site::{Asset, Section};
use crate::draw::pixels::{png_bytes, to_interleaved};
use crate::latent::directions::{Directions, Method};
use crate::latent::interpolation::slerp;
use crate::latent::layers::LayerRange;
use crate::latent::mixing::mixed;
use crate::latent::picture_source::{Latents, PictureSource, PictureStart};
use crate::latent::seeds::{NormalStream, latents_of_seeds};
use crate::latent::w_samples::{drawn_w, sizes_of_ws};
use crate::latent::ws_file;
use crate::model::{Generator, NoiseMode, Truncation};
use crate::run::numbering::Number;
use crate::run::snapshot::{self, Network, SnapshotFiles, SnapshotManifest};
use crate::source::{Source, is_address};
use crate::system::ui::shell_command;
use crate::tensor::caught;
use crate::tensor::images::{ToBytes, bytes};

/// Requests that may wait for the thread.
const MOST_WAITING: usize = 64;
/// Generators that are kept loaded.
const MOST_LOADED: usize = 3;
/// Directions that are found for a generator, and the ws that they are found in.
const DIRECTIONS: i64 = 8;
const DIRECTION_SAMPLES: usize = 10_000;

/// Files of the page.
const ASSETS: [Asset; 2] = [
    Asset { name: "explore.js", content: Content::JavaScript, text: include_str!("page/explore.js") },
    Asset { name: "explore.css", content: Content::Css, text: include_str!("page/explore.css") },
];

/// A generator that can be explored.
#[derive(Clone, Debug, Serialize)]
pub struct GeneratorEntry {
    /// Name in addresses.
    pub id: String,
    /// The name that is shown.
    pub name: String,
    /// The run that it is a snapshot of, by its name in addresses.
    pub run: Option<String>,
    /// Thousands of images that it has seen.
    pub kimg: Option<f64>,
}

/// What a picture is made of.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    generator: String,
    #[serde(default)]
    seed: u32,
    /// A second seed, and the share of the way towards it, 0 to 1.
    to: Option<u32>,
    #[serde(default)]
    at: f64,
    #[serde(default = "one")]
    psi: f64,
    /// `const` or `none`.
    #[serde(default = "const_noise")]
    noise: String,
    class: Option<i64>,
    /// A seed whose style some layers take.
    mix: Option<u32>,
    /// Those layers, as `rootgan mix --layers` takes them.
    #[serde(default = "coarse")]
    layers: String,
    /// Strengths along the directions, by their number: `0:1.5,3:-2`.
    #[serde(default)]
    moves: String,
}

fn one() -> f64 {
    1.0
}

fn const_noise() -> String {
    "const".to_owned()
}

fn coarse() -> String {
    "coarse".to_owned()
}

/// The parts of a view in numbers that are in range.
struct CheckedView {
    noise: NoiseMode,
    moves: Vec<(i64, f64)>,
    layers: LayerRange,
}

impl View {
    /// Checks every number, before any generator is touched.
    fn plan(&self) -> Result<CheckedView> {
        ensure!((-2.0..=2.0).contains(&self.psi), "psi must be from -2 to 2, not {}", self.psi);
        ensure!((0.0..=1.0).contains(&self.at), "the place between two seeds must be from 0 to 1, not {}", self.at);
        let noise = match self.noise.as_str() {
            "const" => NoiseMode::Const,
            "none" => NoiseMode::None,
            other => bail!("noise is const or none, not '{other}'"),
        };
        let part = |text: &str| -> Option<(i64, f64)> {
            let (index, strength) = text.split_once(':')?;
            let (index, strength) = (index.parse().ok()?, strength.parse::<f64>().ok()?);
            ((0..DIRECTIONS).contains(&index) && strength.abs() <= 20.0).then_some((index, strength))
        };
        let moves =
            self.moves.split(',').filter(|text| !text.is_empty()).map(|text| {
                part(text).with_context(|| format!("'{text}' is no step: write NUMBER:STRENGTH, at most 20"))
            });
        let moves: Vec<_> = moves.collect::<Result<_>>()?;
        ensure!(moves.len() <= DIRECTIONS as usize, "there are {DIRECTIONS} directions");
        Ok(CheckedView { noise, moves, layers: self.layers.parse().map_err(|error| anyhow!("layers: {error}"))? })
    }

    /// Whether `rootgan generate --seeds` makes this picture by itself.
    fn is_plain(&self) -> bool {
        self.to.is_none() && self.mix.is_none() && self.moves.is_empty()
    }
}

/// What is asked of the thread.
enum Wish {
    Picture,
    Ws,
}

struct Request {
    view: View,
    wish: Wish,
    reply: oneshot::Sender<Result<Vec<u8>>>,
}

/// The generators that there are.
struct Generators {
    /// Those that were named at the start: what is shown, the name for commands, and the file.
    named: Vec<(GeneratorEntry, PathBuf, PathBuf)>,
    /// The runs, whose snapshots are the others.
    catalog: Arc<Catalog>,
}

/// The way to the thread that makes pictures.
struct Explorer {
    generators: Arc<Generators>,
    requests: SyncSender<Request>,
}

/// Makes the section of the generators in `named` (the names that the user gave, and their files) and of the snapshots of
/// the catalog's runs.
///
/// # Errors
/// The system refuses a thread.
pub fn section(named: Vec<(PathBuf, PathBuf)>, catalog: Arc<Catalog>, device: Device) -> Result<Section> {
    let api = Router::new()
        .route("/", get(list))
        .route("/picture", get(picture_of))
        .route("/ws", get(ws_of))
        .route("/command", get(command_of))
        .with_state(Arc::new(Explorer::start(named, catalog, device)?));
    Ok(Section {
        path: "/explore",
        title: "Explore",
        head: "<link rel=\"stylesheet\" href=\"/assets/explore.css\">\n<script type=\"module\" src=\"/assets/explore.js\"></script>",
        main: include_str!("page/explore.html"),
        assets: &ASSETS,
        api,
    })
}

async fn list(State(explorer): State<Arc<Explorer>>, headers: HeaderMap) -> Response {
    let listed = tokio::task::spawn_blocking(move || explorer.generators.list()).await.unwrap_or_default();
    json_of(&headers, &json!({ "generators": listed }))
}

/// The view that an address asks for, or what is wrong with the address.
type AskedView = Result<Query<View>, QueryRejection>;

async fn picture_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    answer(&headers, Content::Png, explorer.ask(asked, Wish::Picture).await)
}

async fn ws_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    answer(&headers, Content::Binary, explorer.ask(asked, Wish::Ws).await)
}

async fn command_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    // Looking for a snapshot reads folders, and would block the server's only thread.
    let command = tokio::task::spawn_blocking(move || explorer.generators.command(&view_of(asked)?)).await;
    answer(&headers, Content::Text, command.map_err(Error::from).flatten().map(String::into_bytes))
}

fn view_of(asked: AskedView) -> Result<View> {
    match asked {
        Ok(Query(view)) => Ok(view),
        Err(rejection) => {
            // Its source names the value and why it does not do, without the words about query strings.
            let why = std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
            bail!("{why}; seeds are from 0 to {}, classes whole numbers", u32::MAX)
        }
    }
}

fn answer(headers: &HeaderMap, content: Content, outcome: Result<Vec<u8>>) -> Response {
    match outcome {
        Ok(bytes) => constant(headers, content, bytes),
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

impl Explorer {
    /// Starts the thread. `named` are generators by the names that the user gave, and their files.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn start(named: Vec<(PathBuf, PathBuf)>, catalog: Arc<Catalog>, device: Device) -> Result<Self> {
        let named = named.into_iter().map(|(from, file)| {
            let name = from.display().to_string();
            (GeneratorEntry { id: id_of(&file), name, run: None, kimg: None }, from, file)
        });
        let generators = Arc::new(Generators { named: named.collect(), catalog });
        let (requests, received) = sync_channel(MOST_WAITING);
        let worker = Worker { generators: Arc::clone(&generators), device, loaded: VecDeque::new() };
        let work = move || worker.work(&received);
        Builder::new().name("explore".to_owned()).spawn(work).context("cannot start the thread that makes pictures")?;
        Ok(Self { generators, requests })
    }

    async fn ask(&self, asked: AskedView, wish: Wish) -> Result<Vec<u8>> {
        let view = view_of(asked)?;
        view.plan()?;
        let (reply, answer) = oneshot::channel();
        let request = Request { view, wish, reply };
        self.requests.try_send(request).map_err(|_| anyhow!("too many pictures are waiting; try again"))?;
        answer.await.context("this was passed over for something newer")?
    }
}

impl Generators {
    /// Lists the generators: those that were named, and the snapshots of runs.
    fn list(&self) -> Vec<GeneratorEntry> {
        let named = self.named.iter().map(|(entry, ..)| entry.clone());
        named.chain(snapshots(&self.catalog)).collect()
    }

    /// Finds a generator: its name for commands, and its file or the manifest of its snapshot.
    fn find(&self, id: &str) -> Result<(PathBuf, PathBuf)> {
        if let Some((_, from, file)) = self.named.iter().find(|(entry, ..)| entry.id == id) {
            return Ok((from.clone(), file.clone()));
        }
        let of_run = || {
            let (run, number) = id.split_once('-')?;
            let (run, number) = (self.catalog.find(run)?, number.parse::<Number>().ok()?);
            snapshots_of(&run).into_iter().find(|(files, _)| files.number == number).map(|(files, _)| files.manifest)
        };
        let manifest = of_run().context("there is no such generator; reload the page")?;
        Ok((manifest.clone(), manifest))
    }

    /// Returns the command that makes the picture of a view; where seeds alone do not say it, from its saved ws.
    ///
    /// # Errors
    /// A number out of range, or no such generator.
    fn command(&self, view: &View) -> Result<String> {
        view.plan()?;
        let (from, _) = self.find(&view.generator)?;
        let from = if is_address(&from) { from } else { std::path::absolute(from)? };
        let mut words = vec!["rootgan".into(), "generate".into(), "--from".into(), from.into_os_string()];
        if view.is_plain() {
            words.extend(["--seeds".into(), view.seed.to_string().into(), "--psi".into(), view.psi.to_string().into()]);
            words.extend(view.class.into_iter().flat_map(|class| ["--class".into(), class.to_string().into()]));
        } else {
            words.extend(["--ws".into(), "rootgan-ws.npz".into()]);
        }
        words.extend(["--noise-mode".into(), view.noise.clone().into(), "--outdir".into(), "out".into()]);
        Ok(shell_command(words.iter().map(|word: &std::ffi::OsString| word.as_os_str())))
    }
}

/// Lists the snapshots of runs.
fn snapshots(catalog: &Catalog) -> Vec<GeneratorEntry> {
    let of_run = |run: &Arc<WatchedRun>| {
        let entry = |(files, kimg): (SnapshotFiles, f64)| GeneratorEntry {
            id: format!("{}-{}", run.id, files.number),
            name: format!("{} at {kimg} kimg", run.full_name()),
            run: Some(run.id.clone()),
            kimg: Some(kimg),
        };
        snapshots_of(run).into_iter().map(entry).collect::<Vec<_>>()
    };
    catalog.runs().iter().flat_map(of_run).collect()
}

/// Lists the snapshots of a run with the thousands of images that they saw; those whose manifest or generator is a link do not count.
fn snapshots_of(run: &WatchedRun) -> Vec<(SnapshotFiles, f64)> {
    let names = run.folder.names();
    let is_there = |path: &Path| path.file_name().is_some_and(|name| names.iter().any(|known| name == known.as_str()));
    let with_kimg = |files: SnapshotFiles| {
        let manifest = is_there(&files.manifest).then(|| SnapshotManifest::read(&files.manifest).ok()).flatten()?;
        let generator = manifest.path_of(&files.manifest, Network::GEma).ok()?;
        is_there(&generator).then_some((files, manifest.kimg))
    };
    snapshot::all(run.folder.path()).unwrap_or_default().into_iter().filter_map(with_kimg).collect()
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
struct Worker {
    generators: Arc<Generators>,
    device: Device,
    /// The newest used comes first.
    loaded: VecDeque<Loaded>,
}

impl Worker {
    fn work(mut self, requests: &Receiver<Request>) {
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
            let w = drawn_w(&loaded.generator, class, &mut draws, DIRECTION_SAMPLES)?;
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
