//! The `rootgan` program: parse, run, say what went wrong on one line.

use std::process::ExitCode;

use clap::Parser;
use rootgan::cli::Cli;

fn main() -> ExitCode {
    match rootgan::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            rootgan::ui::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
