//! Commands whose work the Python package does, because it needs Python's torch: arguments are checked here, and handed
//! over.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::model::FileKind;
use crate::source::{self, PythonOutput};
use crate::system::installation::Installation;
use crate::system::signals::Interrupted;
use crate::system::ui::{say, shell_command};

/// A command line for Python.
pub struct HandOver {
    command: &'static str,
    arguments: Vec<OsString>,
}

impl HandOver {
    /// Begins a command line for a command of the package.
    pub fn to(command: &'static str) -> Self {
        Self { command, arguments: Vec::new() }
    }

    /// Adds an argument without a flag.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds the name of one of several values, without a flag.
    pub fn name(self, value: impl ValueEnum) -> Self {
        let value = value.to_possible_value();
        self.argument(value.as_ref().map_or("", PossibleValue::get_name))
    }

    /// Adds `--flag value`.
    pub fn option(self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        // Flag and value are one word, so that a value that begins with a dash is none of Python's flags.
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        self.argument(word)
    }

    /// Adds `--flag value` where there is a value.
    pub fn optional(self, flag: &str, value: Option<impl AsRef<OsStr>>) -> Self {
        match value {
            Some(value) => self.option(flag, value),
            None => self,
        }
    }

    /// Adds `--flag` where `holds`.
    pub fn switch(self, flag: &str, holds: bool) -> Self {
        match holds {
            true => self.argument(format!("--{flag}")),
            false => self,
        }
    }

    /// Runs the command, whose output is this program's.
    ///
    /// # Errors
    /// The command fails, with its own words, or there is no Python.
    pub fn run(self) -> Result<()> {
        let mut python = Installation::find().python(self.command)?;
        source::run_python(python.args(self.arguments), PythonOutput::Printed)
            .map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))
    }
}

/// Make TorchScript networks of a checkpoint of another program.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// NVIDIA's .pkl, rosinality's .pt, safetensors, a state dict, or the http(s) address of one. Nothing in it is executed
    pub file: PathBuf,
    /// Folder for generator.pt, discriminator.pt, import.json, and generator_raw.pt where the generator in training differs
    #[arg(long, value_name = "DIR", alias = "outdir")]
    pub out: PathBuf,
    /// SHA-256 that the file has to have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Drop or add blocks until the pair makes RxR images
    #[arg(long, value_name = "R")]
    pub resolution: Option<u32>,
    /// Images that the discriminator compares with one another (minibatch standard deviation), or all [default: as the file
    /// says, else 4]
    #[arg(long, value_name = "N")]
    pub mbstd_group: Option<String>,
    /// Replace the networks in DIR
    #[arg(long)]
    pub force: bool,
}

/// Runs `rootgan import`.
///
/// # Errors
/// The file cannot be imported; the message says why.
pub fn import(args: ImportArgs) -> Result<()> {
    let file = source::local_file(&args.file, args.sha256.as_deref())?;
    if file.is_file()
        && let FileKind::Foreign { what, remedy } = FileKind::detect(&file)?
    {
        bail!("cannot import '{}': it is {what}; {remedy}", file.display());
    }
    HandOver::to("import")
        .option("out", &args.out)
        .optional("resolution", args.resolution.map(|side| side.to_string()))
        .optional("mbstd-group", args.mbstd_group)
        .switch("force", args.force)
        .argument("--")
        .argument(file)
        .run()?;
    say(format!("next: {}", next_command(&args.out)));
    Ok(())
}

/// The command line that goes on with an import.
fn next_command(folder: &Path) -> String {
    let words: &[&str] = match folder.join("discriminator.pt").is_file() {
        true => &["--data", "PICTURES", "--outdir", "runs"],
        false => &["--seeds", "0-15", "--grid", "grid.png"],
    };
    let command = if words[0] == "--data" { "finetune" } else { "generate" };
    let start = ["rootgan", command, "--from"].map(OsStr::new);
    shell_command(start.into_iter().chain([folder.as_os_str()]).chain(words.iter().map(|word| OsStr::new(*word))))
}

/// Make a pair with random weights.
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// Folder for generator.pt and discriminator.pt
    #[arg(long, value_name = "DIR", alias = "outdir")]
    pub out: PathBuf,
    /// Take sizes and weights from this file; the options below are then not used
    #[arg(long, value_name = "FILE", hide = true)]
    pub from_safetensors: Option<PathBuf>,
    /// Height and width of the images, 16 to 1024, a power of two
    #[arg(long, value_name = "R", default_value_t = 64)]
    pub resolution: u32,
    /// 3 (colour) or 1 (grey)
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub img_channels: u32,
    /// Width of z
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub z_dim: u32,
    /// Classes, 0 without labels
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub c_dim: u32,
    /// Width of w
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub w_dim: u32,
    /// Layers of the mapping network
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub mapping_layers: u32,
    /// Channels at resolution r: this divided by r, at most --channel-max
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    pub channel_base: u32,
    /// Most channels of a layer
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub channel_max: u32,
    /// Clamp the outputs of convolutions (256 for half precision) [default: not]
    #[arg(long, value_name = "VALUE")]
    pub conv_clamp: Option<f64>,
    /// Images that the discriminator compares with one another
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub mbstd_group_size: u32,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Replace the networks in DIR
    #[arg(long)]
    pub force: bool,
}

/// Runs `rootgan new`.
///
/// # Errors
/// Sizes that make no network, or a folder that has networks or cannot be written.
pub fn new(args: NewArgs) -> Result<()> {
    let numbers = [
        ("resolution", u64::from(args.resolution)),
        ("img-channels", args.img_channels.into()),
        ("z-dim", args.z_dim.into()),
        ("c-dim", args.c_dim.into()),
        ("w-dim", args.w_dim.into()),
        ("mapping-layers", args.mapping_layers.into()),
        ("channel-base", args.channel_base.into()),
        ("channel-max", args.channel_max.into()),
        ("mbstd-group-size", args.mbstd_group_size.into()),
        ("seed", args.seed),
    ];
    let start = HandOver::to("new").option("out", args.out).optional("from-safetensors", args.from_safetensors);
    let sized = numbers.iter().fold(start, |line, (flag, number)| line.option(flag, number.to_string()));
    sized.optional("conv-clamp", args.conv_clamp.map(|value| value.to_string())).switch("force", args.force).run()
}

/// A network of features.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DetectorKind {
    /// 1,152 features, for Frechet and kernel distances
    Alexnet,
    /// 1,472 features for precision, recall, density and coverage, and a perceptual distance for the path length
    Vgg16,
}

/// Make a network of features for `metrics`, from one PyPI wheel (64 MB).
#[derive(Debug, clap::Args)]
pub struct DetectorArgs {
    /// Network to make; its numbers compare only with each other, and are never called FID
    pub network: DetectorKind,
    /// The TorchScript file to write
    #[arg(long, value_name = "FILE.pt")]
    pub out: PathBuf,
    /// Replace the file
    #[arg(long)]
    pub force: bool,
}

/// Runs `rootgan detector`.
///
/// # Errors
/// The wheel cannot be downloaded, or the file is there or cannot be written.
pub fn detector(args: DetectorArgs) -> Result<()> {
    HandOver::to("detector").name(args.network).option("out", args.out).switch("force", args.force).run()
}

/// Pictures of one kind.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum PictureSet {
    /// Aligned avatars, as the next four
    Robots,
    /// Of many shapes and colours
    Monsters,
    /// Of robots
    Heads,
    /// Drawn by hand
    Cats,
    /// Flat portraits
    People,
    /// Twitter's emoji, not aligned and harder to learn
    Twemoji,
    /// Google's emoji, not aligned and harder to learn
    Noto,
}

/// Make pictures to try a training out with: avatars or emoji, from one PyPI wheel (44 or 66 MB).
#[derive(Debug, clap::Args)]
pub struct PicturesArgs {
    /// Avatars or emoji
    pub set: PictureSet,
    /// Folder for 000000.png, ... and pictures.json, which holds the credit that goes with them
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Pictures to make
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub count: u32,
    /// Height and width
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub size: u32,
    /// Seed of the pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Runs `rootgan pictures`.
///
/// # Errors
/// The wheel cannot be downloaded, or the folder not be written.
pub fn pictures(args: PicturesArgs) -> Result<()> {
    let numbers = [("count", u64::from(args.count)), ("size", args.size.into()), ("seed", args.seed)];
    let start = HandOver::to("pictures").name(args.set).option("out", args.out);
    numbers.iter().fold(start, |line, (flag, number)| line.option(flag, number.to_string())).run()
}
