//! The command line: which subcommands there are. No logic.

use clap::{Parser, Subcommand};

use crate::commands::{bench, devices, dump, export, finetune, generate, inspect};

/// Finetunes pretrained StyleGAN2 networks with the rooted logistic objective.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a generator and discriminator on a folder of pictures
    Finetune(Box<finetune::FinetuneArgs>),
    /// Make pictures or a grid from seeds
    Generate(generate::GenerateArgs),
    /// Make many pictures for tools that compute FID
    Dump(dump::DumpArgs),
    /// Write the weights of a run for use elsewhere
    Export(export::ExportArgs),
    /// Say what a file is and what it can do
    Inspect(inspect::InspectArgs),
    /// Say which devices are usable, and why one is not
    Devices(devices::DevicesArgs),
    /// Measure the time of each training phase, and memory
    Bench(bench::BenchArgs),
}
