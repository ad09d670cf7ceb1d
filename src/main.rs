//! The `rootgan` program: parse, run, say what went wrong on one line.

use std::process::ExitCode;

use clap::Parser;
use rootgan::cli::{Cli, usage_error};

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => rootgan::run(cli),
        Err(error) => usage_error(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            rootgan::ui::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
