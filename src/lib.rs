//! rootgan: finetunes pretrained StyleGAN2 networks with the rooted logistic objective.
//!
//! The layers, each importing only from those below (tests/layering.rs keeps it so): `cli`;
//! `commands`; `train`; `config`; `loss`, `regularize`, `augment`, `ema`, `optimizer`, `metrics`; `model`, `data`;
//! `tensor`, `io`, `ui`, `signals`.

pub mod augment;
pub mod cli;
pub mod config;
pub mod data;
pub mod draw;
pub mod files;
pub mod latent;
pub mod metrics;
pub mod model;
pub mod run;
pub mod system;
pub mod tensor;
pub mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

use cli::{Cli, Command};

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever went wrong, to be shown on one line.
pub fn run(cli: Cli) -> Result<()> {
    tensor::device::keep_float32_exact();
    tensor::device::configure_runtime();
    if cli.trust {
        model::safety::trust_files();
    }
    let work = || match cli.command {
        Command::Finetune(args) => cli::finetune::run(*args),
        Command::Dataset(args) => cli::dataset::run(args),
        Command::Generate(args) => cli::generate::run(args),
        Command::Dump(args) => cli::dump::run(args),
        Command::Metrics(args) => cli::metrics::run(*args),
        Command::Export(args) => cli::export::run(args),
        Command::Inspect(args) => cli::inspect::run(args),
        Command::Devices(args) => cli::devices::run(args),
        Command::Compare(args) => cli::compare::run(*args),
        Command::Plot(args) => cli::plot::run(args),
        Command::Bench(args) => cli::bench::run(args),
    };
    // Plain tensor operators panic where libtorch refuses, for lack of memory above all.
    std::panic::set_hook(Box::new(|_| {}));
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(with_remedy),
        Err(panic) => explain_panic(&*panic),
    }
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
    Err(anyhow!("an operation failed that should not: {text}; please report it with the command"))
}
