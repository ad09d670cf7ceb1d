//! rootgan: finetunes pretrained StyleGAN2 networks with the rooted logistic objective (Wang et al., arXiv 2310.03890).
//!
//! The program is `rootgan finetune` and its fellows (`README.md`); this is the library behind it. [`train`] is an iteration:
//! networks and settings in, better networks out, without paths or files. [`run`] is a run with a folder around it.
//! [`model`] loads TorchScript generators and discriminators and checks what their code does before it is run. [`metrics`]
//! measures pictures, [`data`] reads them, [`latent`] makes them, [`augment`] transforms what the discriminator sees.
//! [`config`] turns options into settings.
//!
//! One training step of the default pair:
//!
//! ```
//! use rootgan::config::{NetworkFacts, Options, train_settings};
//! use rootgan::model::{Discriminator, FreezeSettings, Generator};
//! use rootgan::train::{Networks, Reals, Statistics, Trainer};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> anyhow::Result<()> {
//! let generator = || Generator::load("weights/generator.pt".as_ref(), Device::Cpu, None);
//! let discriminator = Discriminator::load("weights/discriminator.pt".as_ref(), Device::Cpu)?;
//! // The generator is there twice: as it is trained, and as the average over time that pictures are made with.
//! let networks = Networks::from_pair(generator()?, generator()?, discriminator, FreezeSettings::default())?;
//!
//! let options = Options { batch: Some(4), root_k: Some(20.0), r1_gamma: Some(8.0), ..Options::default() };
//! let facts = NetworkFacts::from_pair(&networks.g, &networks.d);
//! let (settings, _precision) = train_settings(&options, facts)?;
//! let mut trainer = Trainer::new(networks, settings, None);
//!
//! // [batch, channels, height, width] in [-1, 1]; pictures of yours, from `rootgan::data`.
//! let reals = Reals::unlabelled(Tensor::rand([4, 3, 64, 64], (Kind::Float, Device::Cpu)) * 2.0 - 1.0);
//! let mut statistics = Statistics::default();
//! trainer.iterate(&reals, &mut statistics)?;
//! assert!(statistics.take()["Loss/G/loss"].mean.is_finite());
//! # Ok(())
//! # }
//! ```
//!
//! The layers, each importing only from those below (`tests/layering.rs` keeps it so, and that files use each other in no
//! circle), are drawn in `CONTRIBUTING.md`.

pub mod augment;
pub mod config;
pub mod data;
pub mod latent;
pub mod metrics;
pub mod model;
pub mod run;
pub mod tensor;
pub mod train;

// Modules for the program and its tests, not for others.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod draw;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod system;
#[doc(hidden)]
pub mod web;

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

use cli::{Cli, Command};

/// Runs what the command line asks for.
///
/// # Errors
/// The command fails; the error is to be shown on one line.
pub fn run(cli: Cli) -> Result<()> {
    system::ui::set_verbosity(cli.verbosity());
    tensor::device::fix_cublas_workspace();
    tensor::device::configure_runtime();
    if cli.trust {
        model::safety::trust_files();
    }
    let work = || match cli.command {
        Command::Finetune(args) => cli::finetune::run(*args).map(|_| ()),
        Command::Dataset(args) => cli::dataset::run(args),
        Command::Import(args) => cli::python::import(args),
        Command::New(args) => cli::python::new(args),
        Command::Generate(args) => cli::generate::run(*args),
        Command::Mix(args) => cli::mix::run(*args),
        Command::Project(args) => cli::project::run(*args),
        Command::Directions(args) => cli::directions::run(*args),
        Command::Blend(args) => cli::blend::run(args),
        Command::Dump(args) => cli::dump::run(args),
        Command::Metrics(args) => cli::metrics::run(*args),
        Command::Detector(args) => cli::python::detector(args),
        Command::Export(args) => cli::export::run(args),
        Command::Inspect(args) => cli::inspect::run(args),
        Command::Devices(args) => cli::devices::run(args),
        Command::Compare(args) => cli::compare::run(*args),
        Command::Tune(args) => cli::compare::tune::run(*args),
        Command::Plot(args) => cli::plot::run(args),
        Command::Serve(args) => cli::serve::run(args),
        Command::Report(args) => cli::report::run(args),
        Command::Bench(args) => cli::bench::run(args),
        Command::Cache(command) => cli::cache::run(command),
        Command::Pictures(args) => cli::python::pictures(args),
        Command::Demo(args) => cli::demo::run(args),
        Command::Completions { shell } => {
            cli::print_completions(shell);
            Ok(())
        }
    };
    system::panics::keep_places();
    let outcome = catch_unwind(AssertUnwindSafe(work));
    source::remove_scratch();
    match outcome {
        Ok(outcome) => outcome.map_err(with_remedy).map_err(told_as_stopped),
        Err(panic) => explain_panic(&*panic),
    }
}

/// A signal that ended a command before it could tell what is left is no failure.
fn told_as_stopped(error: anyhow::Error) -> anyhow::Error {
    system::signals::Interrupted::or_else(error, |signal| format!("stopped by {signal}"))
}

/// Adds the advice that fits wherever memory runs out.
fn with_remedy(error: anyhow::Error) -> anyhow::Error {
    match system::memory::lacks_memory(&format!("{error:#}")) {
        true => error.context("out of memory; pass a smaller --micro-batch or --batch"),
        false => error,
    }
}

fn explain_panic(panic: &(dyn std::any::Any + Send)) -> Result<()> {
    let text = tensor::panic_line(panic);
    // Whoever closed the pipe has seen enough, as in `rootgan inspect FILE | head`.
    if text.contains("failed printing to stdout") {
        return if text.contains("Broken pipe") { Ok(()) } else { Err(anyhow!("{text}; is the disk full?")) };
    }
    if system::memory::lacks_memory(&text) {
        return Err(with_remedy(anyhow!("{text}")));
    }
    Err(anyhow!(
        "an operation failed that should not: {text}; please report it with the command and what -v adds to it"
    ))
}
