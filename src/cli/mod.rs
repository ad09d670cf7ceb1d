//! The command line: which subcommands there are, one file each with its flags and what it does with the layers below.

pub mod args;
pub mod bench;
pub mod blend;
pub mod cache;
pub mod compare;
pub mod confine;
pub mod dataset;
pub mod demo;
pub mod devices;
pub mod direction;
pub mod directions;
pub mod dump;
pub mod export;
pub mod finetune;
pub mod generate;
pub mod grid;
pub mod inspect;
pub mod metrics;
pub mod mix;
mod output;
pub mod plot;
pub mod processes;
pub mod project;
pub mod python;
pub mod report;
pub mod serve;
pub mod team;
pub mod version;
pub mod video;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::version::VERSION;
use crate::system::ui::Verbosity;

/// Finetunes pretrained StyleGAN2 networks with the rooted logistic objective.
#[derive(Debug, Parser)]
#[command(version, long_version = VERSION, propagate_version = true, arg_required_else_help = true, args_override_self = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// Load TorchScript files whatever their code does: it can do whatever you can; only for files whose maker you trust
    #[arg(long, global = true)]
    pub trust: bool,
    /// Tell more: what takes how long, and where something failed that should not
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Tell only results, warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

impl Cli {
    /// Reads the command line of this process.
    ///
    /// # Errors
    /// It is wrong, or help or the version were asked for.
    pub fn of_process() -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut Self::adapted_command().try_get_matches()?)
    }

    /// Returns the description of the command line, with the help that suits each subcommand.
    pub fn adapted_command() -> clap::Command {
        Self::command()
            .mut_subcommand("compare", compare::help::of_compare)
            .mut_subcommand("tune", compare::help::of_tune)
    }

    /// Returns how much is told.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a generator and discriminator on a folder of pictures
    Finetune(Box<finetune::FinetuneArgs>),
    /// Check a folder or zip of pictures, and make a clean one of it
    Dataset(dataset::DatasetArgs),
    /// Make networks of a checkpoint of another program: NVIDIA's .pkl, rosinality's .pt, safetensors, a state dict
    Import(python::ImportArgs),
    /// Make a pair with random weights
    New(python::NewArgs),
    /// Make pictures or a grid from seeds or ws
    Generate(Box<generate::GenerateArgs>),
    /// Draw a grid of pictures with some layers of their column and the others of their row
    Mix(Box<mix::MixArgs>),
    /// Make a film of walks between latents, or of a run's grids
    Video(Box<video::VideoArgs>),
    /// Look for the w whose picture is nearest to a given one
    Project(Box<project::ProjectArgs>),
    /// Find directions in W along which pictures change
    Directions(Box<directions::DirectionsArgs>),
    /// Make one generator of two of the same architecture: low resolutions from one, high ones from the other
    Blend(blend::BlendArgs),
    /// Make many pictures for tools that compute FID
    Dump(dump::DumpArgs),
    /// Measure pictures or a generator against real pictures: FID, KID, precision and recall, ...
    Metrics(Box<metrics::MetricsArgs>),
    /// Make a network of features for metrics
    Detector(python::DetectorArgs),
    /// Write weights for use elsewhere: TorchScript, safetensors, a state dict, rosinality's .pt, NVIDIA's .pkl, ONNX
    Export(export::ExportArgs),
    /// Say what a file is and what it can do
    Inspect(inspect::InspectArgs),
    /// Say which devices are usable, and why one is not
    Devices(devices::DevicesArgs),
    /// Compare losses on the same pictures, weights and random draws
    Compare(Box<compare::CompareArgs>),
    /// Find the R1 gamma and learning rate for your pictures, by short runs
    Tune(Box<compare::tune::TuneArgs>),
    /// Show runs live and explore generators in a browser
    Serve(serve::ServeArgs),
    /// Write a run or a comparison as one HTML file
    Report(report::ReportArgs),
    /// Draw a statistic of runs against the images seen
    Plot(plot::PlotArgs),
    /// Measure the time of each training phase, and memory
    Bench(bench::BenchArgs),
    /// Show or empty the cache of imports, downloads and features
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Make pictures to try a training out with
    Pictures(python::PicturesArgs),
    /// Finetune the default pair on pictures of cats, to see that everything works
    Demo(demo::DemoArgs),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell, as in `rootgan completions bash > ~/.local/share/bash-completion/completions/rootgan`
        shell: clap_complete::Shell,
    },
}

/// Prints the script for a shell.
pub fn print_completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::adapted_command(), "rootgan", &mut std::io::stdout());
}

/// Shows help and version where they were asked for; turns anything else that clap says into one line.
///
/// # Errors
/// The command line is wrong; the message has clap's words.
pub fn usage_error(error: &clap::Error) -> Result<()> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print() {
            // Whoever closed the pipe has seen enough, as in `rootgan --help | head`.
            Err(broken) if broken.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            printed => Ok(printed?),
        };
    }
    let text = error.to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{text}");
        bail!("say what to do: one of the commands above");
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let words = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words = words.map(|line| line.trim_start_matches("error: ")).collect::<Vec<_>>().join("; ");
    let words = words.replace("invalid digit found in string", "pass a whole number, 0 or more");
    let words = words.replace("invalid float literal", "pass a number").replace(":; ", ": ");
    bail!("{words}; `rootgan --help` and `rootgan <COMMAND> --help` list what there is")
}
