//! What `generate` and `dump` share: which generator, how it is called, and pictures that travel
//! from it to the disk while it makes the next ones.

use std::ops::Range;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use tch::{Tensor, no_grad};

use crate::commands::source::load_generator;
use crate::io::pixels::to_interleaved;
use crate::model::{Generator, NoiseMode, Truncation};
use crate::tensor::device;
use crate::tensor::images::{ToBytes, bytes, check_finite, to_u8};
use crate::tensor::labels::one_hot;
use crate::ui::say;

/// How many finished batches may wait to be written: more would only take memory.
const AHEAD: usize = 2;

/// `1 picture`, `2 pictures`.
pub fn count_text(count: usize) -> String {
    format!("{count} picture{}", if count == 1 { "" } else { "s" })
}

/// Which generator, and how it is called.
#[derive(Debug, clap::Args)]
pub struct PictureArgs {
    /// Generator (TorchScript)
    #[arg(long, value_name = "G.pt")]
    pub generator: Option<PathBuf>,
    /// Run directory or snapshot, instead of --generator: its averaged generator
    #[arg(long, value_name = "RUN_OR_SNAPSHOT")]
    pub from: Option<PathBuf>,
    /// Width of z, for a generator that does not say its own
    #[arg(long, value_name = "N")]
    pub z_dim: Option<i64>,
    /// Truncation: 1 is none, 0 the average picture; between them less variety, fewer failures
    #[arg(long, visible_alias = "trunc", value_name = "PSI", default_value_t = 1.0, allow_negative_numbers = true)]
    pub psi: f64,
    /// Truncate only the first N layers, the coarse ones
    #[arg(long, value_name = "N")]
    pub truncation_cutoff: Option<i64>,
    /// Noise of the layers [default: const for generate, random for dump]
    #[arg(long, value_enum)]
    pub noise_mode: Option<NoiseArg>,
    /// Class, for a generator with labels
    #[arg(long, value_name = "N")]
    pub class: Option<i64>,
    /// Pictures at a time [default: 1 to 32, the fewer the larger they are]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Where the per-pixel noise comes from, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NoiseArg {
    /// The noise stored in the generator
    Const,
    /// Drawn for each picture from its own seed
    Random,
    /// No noise
    None,
}

impl From<NoiseArg> for NoiseMode {
    fn from(noise: NoiseArg) -> Self {
        match noise {
            NoiseArg::Const => NoiseMode::Const,
            NoiseArg::Random => NoiseMode::Random,
            NoiseArg::None => NoiseMode::None,
        }
    }
}

/// Which classes pictures of a conditional generator have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRule {
    /// `--class` has to say it.
    OneForAll,
    /// Each its own where `--class` is not given.
    Drawn,
}

/// What one batch is made of. Drawn on the CPU.
pub struct Latents {
    /// [N, z_dim].
    pub z: Tensor,
    /// [N, noise_numel]; no columns where no noise is given from outside.
    pub noise: Tensor,
    /// The class of each, where they differ.
    pub classes: Option<Vec<u32>>,
    /// Seeds libtorch, for a script that draws numbers of its own.
    pub script_seed: i64,
}

/// A finished batch.
pub struct Batch {
    /// The place of its first picture.
    pub first: usize,
    /// N x C x R x R, planar.
    pub pixels: Vec<u8>,
}

/// A generator with the way it is called, checked against what it can do.
pub struct PictureSource {
    /// The generator.
    pub generator: Generator,
    /// As asked.
    pub truncation: Truncation,
    /// As asked; without effect on a generator that only takes z.
    pub noise_mode: NoiseMode,
    /// As asked: that of all pictures; None where each has its own.
    pub class: Option<i64>,
    /// Pictures at a time.
    pub batch: usize,
}

impl PictureSource {
    /// Loads the generator and checks everything that can be known before a picture is made.
    ///
    /// # Errors
    /// No such generator or device, or an option that this generator cannot follow.
    pub fn open(args: &PictureArgs, default_noise: NoiseMode, rule: ClassRule) -> Result<Self> {
        ensure!(args.psi.is_finite(), "cannot truncate with psi {}; it must be a number, mostly 0 to 1", args.psi);
        let cutoff = args.truncation_cutoff;
        let layers = cutoff.unwrap_or(0);
        ensure!(layers >= 0, "cannot truncate {layers} layers; pass a --truncation-cutoff of 0 or more");
        ensure!(args.batch != Some(0), "cannot make pictures 0 at a time; pass --batch 1 or more");
        let device = device::parse(&args.device)?;
        let generator = load_generator(args.generator.as_deref(), args.from.as_deref(), args.z_dim, device)?;
        if args.class.is_some() || rule == ClassRule::OneForAll {
            generator.class_labels(args.class, 1)?;
        }
        let truncation = Truncation { psi: args.psi, cutoff };
        if generator.spec().is_none() {
            let path = generator.script.path.display();
            ensure!(truncation == Truncation::OFF, "'{path}' only takes z: it cannot truncate; leave --psi at 1");
            ensure!(args.noise_mode.is_none(), "'{path}' only takes z: its noise is its own; leave --noise-mode away");
            say(format!(
                "'{path}' only takes z: the pictures are the same at any --batch only if it draws no random numbers"
            ));
        }
        let batch = args.batch.unwrap_or_else(|| default_batch(generator.img_resolution()));
        let noise_mode = args.noise_mode.map_or(default_noise, NoiseMode::from);
        Ok(Self { generator, truncation, noise_mode, class: args.class, batch })
    }

    /// How many numbers of noise are to be drawn for one picture.
    pub fn noise_numel(&self) -> i64 {
        if self.noise_mode == NoiseMode::Random { self.generator.noise_numel() } else { 0 }
    }

    /// Height and width, in pixels.
    pub fn side(&self) -> usize {
        self.generator.img_resolution() as usize
    }

    /// 3 or 1.
    pub fn channels(&self) -> usize {
        self.generator.img_channels() as usize
    }

    /// The length of one picture.
    pub fn picture_bytes(&self) -> usize {
        self.channels() * self.side() * self.side()
    }

    /// Cuts places into batches, always at the same places: what a picture is batched with can
    /// change its last bit.
    pub fn batches(&self, places: usize) -> impl Iterator<Item = Range<usize>> {
        let batch = self.batch;
        (0..places).step_by(batch).map(move |first| first..places.min(first.saturating_add(batch)))
    }

    /// Makes the pictures of `batches`. `write` gets them in order on a thread of its own, while the
    /// next ones are made.
    ///
    /// # Errors
    /// What the generator or `write` says.
    pub fn make(
        &self,
        batches: &[Range<usize>],
        how: ToBytes,
        draw: impl Fn(Range<usize>) -> Latents,
        write: impl FnMut(Batch) -> Result<()> + Send,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            // Upon an error the receiver goes, which ends the making too.
            let writer = scope.spawn(move || receiver.into_iter().try_for_each(write));
            let made = self.feed(batches, how, draw, &sender);
            drop(sender);
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            written.and(made)
        })
    }

    fn feed(
        &self,
        batches: &[Range<usize>],
        how: ToBytes,
        draw: impl Fn(Range<usize>) -> Latents,
        sender: &SyncSender<Batch>,
    ) -> Result<()> {
        let mut batches = batches.iter().cloned().peekable();
        let mut drawn = batches.peek().cloned().map(&draw);
        while let (Some(range), Some(latents)) = (batches.next(), drawn.take()) {
            let images = no_grad(|| self.images(&latents))?;
            check_finite(&images)
                .with_context(|| format!("cannot make pictures with '{}'", self.generator.script.path.display()))?;
            let pixels = to_u8(&images, how);
            // A GPU is computing now: the time to draw. Reading the pixels waits for it.
            drawn = batches.peek().cloned().map(&draw);
            if sender.send(Batch { first: range.start, pixels: bytes(&pixels) }).is_err() {
                return Ok(()); // The writer has ended and says why.
            }
        }
        Ok(())
    }

    fn images(&self, latents: &Latents) -> Result<Tensor> {
        let device = self.generator.script.device;
        let z = latents.z.to_device(device);
        let noise = (latents.noise.size()[1] > 0).then(|| latents.noise.to_device(device));
        let labels = match &latents.classes {
            Some(classes) => Some(one_hot(classes, self.generator.c_dim(), device)),
            None => self.generator.class_labels(self.class, z.size()[0])?,
        };
        tch::manual_seed(latents.script_seed);
        self.generator.images(&z, labels.as_ref(), self.truncation, self.noise_mode, noise.as_ref())
    }
}

/// As many pictures as have four million pixels together: 32 up to 256 pixels a side, 4 at 1024.
fn default_batch(side: i64) -> usize {
    ((1 << 22) / (side * side).max(1)).clamp(1, 32) as usize
}

/// [`encode_png`](crate::io::pixels::encode_png) or its fellow without syncing: file, interleaved
/// pixels, width, height, channels.
pub type Encode = fn(&Path, &[u8], usize, usize, usize) -> Result<()>;

/// Encodes pictures on threads of its own, so that whoever draws latents need not wait for them.
pub struct PngWriter {
    pool: rayon::ThreadPool,
    encode: Encode,
    side: usize,
    channels: usize,
}

impl PngWriter {
    /// For the pictures of `source`, which `encode` writes one by one.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn new(source: &PictureSource, encode: Encode) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("png-{index}"))
            .build()
            .context("cannot start the threads that encode pictures; lower the number of processes")?;
        Ok(Self { pool, encode, side: source.side(), channels: source.channels() })
    }

    /// Writes planar pictures to their files, all at the same time.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, pictures: &[(PathBuf, &[u8])]) -> Result<()> {
        let encode = |(path, planar): &(PathBuf, &[u8])| {
            (self.encode)(path, &to_interleaved(planar, self.channels), self.side, self.side, self.channels)
        };
        self.pool.install(|| pictures.par_iter().try_for_each(encode))
    }
}

#[cfg(test)]
mod tests {
    use super::default_batch;

    #[test]
    fn larger_pictures_come_in_smaller_batches() {
        assert_eq!([16, 64, 256, 512, 1024, 4096].map(default_batch), [32, 32, 32, 16, 4, 1]);
    }
}
