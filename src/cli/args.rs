//! Options that several subcommands share: the networks, how they are called, and pictures on their way to the disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;
use tch::Device;

use crate::cli::confine::write_only_to;
use crate::data::{Labels, Pictures};
use crate::draw::pixels::to_interleaved;
use crate::latent::picture_source::{PictureSource, class_counts_of, default_batch};
use crate::model::{Generator, NoiseMode, Truncation};
use crate::source::Source;
use crate::system::ui::detail;
use crate::system::ui::say;
use crate::tensor::device;

/// Parses the options of a command that is called from within the program.
///
/// # Errors
/// What is wrong with them, in clap's words, on one line.
pub fn parsed<T: clap::Args>(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<T> {
    let command = T::augment_args(clap::Command::new("rootgan").no_binary_name(true).args_override_self(true));
    let parsed = command.try_get_matches_from(words).and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let text = error.to_string();
        anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
    })
}

/// Formats a count as in `1 picture` and `2 pictures`.
pub fn count_text(count: usize) -> String {
    format!("{count} picture{}", if count == 1 { "" } else { "s" })
}

/// Names that file managers put into any folder; hidden files are passed over everywhere.
const OF_FILE_MANAGERS: [&str; 3] = ["Thumbs.db", "desktop.ini", "@eaDir"];
/// Most files that an error names.
const NAMED_FILES: usize = 3;

/// Makes sure that a folder, which may not be there yet, holds only what `is_ours` knows by its name.
///
/// # Errors
/// The folder holds something else, or cannot be listed.
pub fn refuse_foreign(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let context = || format!("cannot list the folder '{}'", folder.display());
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let name = entry.with_context(context)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !OF_FILE_MANAGERS.contains(&name.as_str()) && !is_ours(&name) {
            foreign.push(name);
        }
    }
    foreign.sort_unstable();
    let named = foreign.iter().take(NAMED_FILES).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let more = if foreign.len() > NAMED_FILES { ", ..." } else { "" };
    ensure!(
        foreign.is_empty(),
        "cannot write pictures to '{}', where they would mix with other files ({named}{more}, {} in all); pass a new or an \
         empty folder",
        folder.display(),
        foreign.len()
    );
    Ok(())
}

/// The source of networks in any format.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OriginArgs {
    /// Networks: a run (its newest snapshot), a run's best.json, a snapshot, a folder or file of TorchScript, NVIDIA's .pkl,
    /// rosinality's .pt, safetensors or a state dict (imported once), or the http(s) address of a file (downloaded once)
    #[arg(long, value_name = "SOURCE")]
    pub from: Option<PathBuf>,
    /// SHA-256 that the file of --from has to have
    #[arg(long, value_name = "HEX", requires = "from")]
    pub sha256: Option<String>,
}

/// A pair of networks in any format.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PairArgs {
    /// The source of the networks.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Generator (TorchScript), with --discriminator in place of --from
    #[arg(long, value_name = "G.pt")]
    pub generator: Option<PathBuf>,
    /// Discriminator (TorchScript), with --generator in place of --from
    #[arg(long, value_name = "D.pt")]
    pub discriminator: Option<PathBuf>,
}

impl PairArgs {
    /// Whether any network is given.
    pub fn is_given(&self) -> bool {
        self.origin.from.is_some() || self.generator.is_some() || self.discriminator.is_some()
    }

    /// Finds the networks; a discriminator need not be among them.
    ///
    /// # Errors
    /// No networks or two sources are given, or the networks cannot be found.
    pub fn find(&self) -> Result<Source> {
        match (&self.origin.from, &self.generator) {
            (Some(_), Some(_)) => {
                bail!("--from brings its own networks; pass it without --generator and --discriminator")
            }
            (Some(_), None) if self.discriminator.is_some() => {
                bail!("--from brings its own networks; pass it without --generator and --discriminator")
            }
            (Some(from), None) => Source::find(from, self.origin.sha256.as_deref()),
            (None, Some(generator)) => Ok(Source::of_files(generator, self.discriminator.as_deref())),
            (None, None) if self.discriminator.is_some() => {
                bail!("a discriminator alone is no pair; pass --generator G.pt too")
            }
            (None, None) => {
                bail!("no networks are given; pass --from SOURCE, or --generator G.pt and --discriminator D.pt")
            }
        }
    }

    /// Finds a pair: the averaged generator and the discriminator.
    ///
    /// # Errors
    /// The errors of [`PairArgs::find`], or there is no discriminator.
    pub fn find_pair(&self) -> Result<(PathBuf, PathBuf)> {
        let source = self.find()?;
        let discriminator = source.discriminator()?.context(
            "there is no discriminator beside this generator; pass a --from that has both, or --generator and --discriminator",
        )?;
        Ok((source.generator()?, discriminator))
    }
}

/// The generator, the class of its pictures, and the device.
#[derive(Debug, clap::Args)]
pub struct GeneratorArgs {
    /// The source of the generator.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Generator alone (TorchScript), instead of --from
    #[arg(long, value_name = "G.pt")]
    pub generator: Option<PathBuf>,
    /// Width of z, for a generator that does not say its own
    #[arg(long, value_name = "N")]
    pub z_dim: Option<i64>,
    /// One class for all pictures, from 0, for a generator with labels
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub class: Option<i64>,
    /// Pictures at a time [default: 1 to 32, the fewer the larger they are]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
}

impl GeneratorArgs {
    /// Whether a generator is given.
    pub fn is_given(&self) -> bool {
        self.generator.is_some() || self.origin.from.is_some()
    }

    /// Finds the generator. An address is downloaded and a checkpoint imported, which writes the cache: call it before
    /// the program loses that right.
    ///
    /// # Errors
    /// No generator or two are given, or it cannot be found.
    pub fn find(&self) -> Result<Source> {
        match (&self.generator, &self.origin.from) {
            (Some(generator), None) => Ok(Source::of_files(generator, None)),
            (None, Some(from)) => Source::find(from, self.origin.sha256.as_deref()),
            (None, None) => bail!("no generator is given; pass --from SOURCE or --generator G.pt"),
            (Some(generator), Some(from)) => bail!(
                "two generators are given, --generator '{}' and --from '{}'; pass one of them",
                generator.display(),
                from.display()
            ),
        }
    }

    /// Returns the device that is named, after checking the other options that need no generator.
    ///
    /// # Errors
    /// There is no such device, or the number of pictures at a time is 0.
    pub fn device(&self) -> Result<Device> {
        ensure!(self.batch != Some(0), "cannot make pictures 0 at a time; pass --batch 1 or more");
        device::parse(&self.device)
    }

    /// Loads the generator that was found.
    ///
    /// # Errors
    /// The generator cannot be used.
    pub fn load(&self, source: &Source, device: Device) -> Result<Generator> {
        let (begun, path) = (Instant::now(), source.generator()?);
        let generator = Generator::load(&path, device, self.z_dim)?;
        detail(format!("'{}' loaded: {:.2} s", path.display(), begun.elapsed().as_secs_f64()));
        Ok(generator)
    }

    /// Returns the number of pictures at a time, by the size of the pictures of `generator` where none is given.
    pub fn batch_for(&self, generator: &Generator) -> usize {
        self.batch.unwrap_or_else(|| default_batch(generator.img_resolution()))
    }
}

/// The generator, and how it is called.
#[derive(Debug, clap::Args)]
pub struct PictureArgs {
    /// The generator.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// Truncation: 1 is none, 0 the average picture, between them less variety and fewer failures; above 1 more of both
    #[arg(long, visible_alias = "trunc", value_name = "PSI", default_value_t = 1.0, allow_negative_numbers = true)]
    pub psi: f64,
    /// Truncate only the first N layers, the coarse ones [default: all]
    #[arg(long, value_name = "N")]
    pub truncation_cutoff: Option<i64>,
    /// Noise of the layers [default: const, for dump random]
    #[arg(long, value_enum)]
    pub noise_mode: Option<NoiseArg>,
}

impl PictureArgs {
    /// Loads the generator, after checking everything that can be known before. From then on the program may only write
    /// to `places`.
    ///
    /// # Errors
    /// No such generator or device, or an option out of range.
    pub fn load(&self, places: &[&Path]) -> Result<Generator> {
        ensure!(self.psi.is_finite(), "cannot truncate with psi {}; it must be a number, mostly 0 to 1", self.psi);
        let layers = self.truncation_cutoff.unwrap_or(0);
        ensure!(layers >= 0, "cannot truncate {layers} layers; pass a --truncation-cutoff of 0 or more");
        let device = self.generator.device()?;
        let source = self.generator.find()?;
        write_only_to(places, device);
        self.generator.load(&source, device)
    }

    /// Returns the way in which `generator` is to be called.
    ///
    /// # Errors
    /// An option that this generator cannot follow.
    pub fn source<'g>(
        &self,
        generator: &'g Generator,
        default_noise: NoiseMode,
        rule: ClassRule,
    ) -> Result<PictureSource<'g>> {
        let class = self.generator.class;
        if class.is_some() || rule == ClassRule::OneForAll {
            generator.class_labels(class, 1)?;
        }
        let truncation = Truncation { psi: self.psi, cutoff: self.truncation_cutoff };
        if generator.spec().is_none() {
            let path = generator.script.path.display();
            ensure!(truncation == Truncation::OFF, "'{path}' only takes z: it cannot truncate; leave --psi at 1");
            ensure!(self.noise_mode.is_none(), "'{path}' only takes z: its noise is its own; leave --noise-mode away");
            say(format!(
                "'{path}' only takes z: the pictures are the same at any --batch only if it draws no random numbers"
            ));
        }
        let batch = self.generator.batch_for(generator);
        let noise_mode = self.noise_mode.map_or(default_noise, NoiseMode::from);
        Ok(PictureSource { generator, truncation, noise_mode, class, batch })
    }
}

/// The source of the per-pixel noise, as the user types it.
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

/// The rule by which pictures of a conditional generator get their classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRule {
    /// All pictures have the class of `--class`, which has to be given.
    OneForAll,
    /// Each picture has a drawn class where `--class` is not given.
    Drawn,
}

/// Returns the number of pictures of each class in the data whose classes are imitated; None where classes are not
/// drawn.
///
/// # Errors
/// Pictures without labels, a generator that was trained without, or neither pictures nor a record.
pub fn class_counts(source: &PictureSource<'_>, labels_of: Option<&Path>) -> Result<Option<Vec<u64>>> {
    let (c_dim, path) = (source.generator.c_dim(), source.generator.script.path.display());
    if c_dim == 0 {
        ensure!(labels_of.is_none(), "cannot use --labels-of: '{path}' was trained without labels");
        return Ok(None);
    }
    if source.class.is_some() {
        return Ok(None);
    }
    if let Some(root) = labels_of {
        return Ok(Some(Labels::from_pictures(&Pictures::open(root)?, c_dim as u32)?.counts()));
    }
    class_counts_of(source.generator).map(Some)
}

/// An encoder, [`encode_png`](crate::draw::pixels::encode_png) or its variant that writes in place: file, interleaved
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
    /// Makes a writer for the pictures of `source`, which `encode` writes one by one.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn new(source: &PictureSource<'_>, encode: Encode) -> Result<Self> {
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
