//! The `rootgan` program: parse, run, say what went wrong on one line.

use std::process::ExitCode;

use clap::Parser;
use rootgan::cli::{Cli, usage_error};
use rootgan::signals::Stopped;

fn main() -> ExitCode {
    // A file beyond `ulimit -f` is an error like a full disk, not the end of the program.
    rootgan::signals::survive_file_limits();
    let outcome = match Cli::try_parse() {
        Ok(cli) => rootgan::run(cli),
        Err(error) => usage_error(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                rootgan::ui::say(stopped);
                return stopped.signal.exit_code().into();
            }
            let line = rootgan::ui::on_one_line(&format!("{error:#}"));
            rootgan::ui::say(format!("error: {}", rootgan::ui::shortened(&line)));
            ExitCode::FAILURE
        }
    }
}
