//! Runs a command of the Python package as a part of this program: it ends with this program, and its errors are this
//! program's.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::system::signals::{Interrupted, StopRequest, signalled_at_the_end_of_this_process};
use crate::system::ui::{complain, say};

/// The time between two looks at whether the command has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The use of the lines that the command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PythonOutput {
    /// The lines are this program's output.
    Printed,
    /// Notes among the lines are remarks of this program; the rest is left out.
    Notes,
}

/// Runs a command of the package to its end.
///
/// # Errors
/// The command fails, with its own words; or it was killed, or stopped by a signal to this program.
pub fn run(command: &mut Command, lines: PythonOutput) -> Result<()> {
    let stop = StopRequest::listen()?;
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    if lines == PythonOutput::Notes {
        command.stdout(Stdio::piped());
    }
    signalled_at_the_end_of_this_process(command, libc::SIGTERM);
    let program = command.get_program().to_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run '{}'", program.display()))?;
    let notes = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            lines_of(stdout).filter(|line| line.starts_with("note: ")).for_each(say);
        })
    });
    let errors = child.stderr.take().map(|stderr| {
        let stop = stop.clone();
        std::thread::spawn(move || last_error(lines_of(stderr), &stop))
    });
    let status = ended(&mut child, &stop).context("cannot wait for Python")?;
    if let Some(thread) = notes {
        // A panic of the thread loses remarks only.
        let _ = thread.join();
    }
    let error = errors.and_then(|thread| thread.join().ok()).flatten();
    match (status.success(), error, status.signal()) {
        // A signal may have come too late to stop it.
        (true, _, _) => Ok(()),
        _ if stop.received().is_some() => Err(Interrupted.into()),
        (false, Some(text), _) => Err(anyhow!(text)),
        (false, None, Some(libc::SIGKILL)) => bail!("Python was killed, which the system does where memory runs out"),
        (false, None, _) => bail!("Python ended with {status}; the lines above say why"),
    }
}

/// Waits for the end of a process. A signal that asks this program to stop is passed on: Python then removes what it has
/// begun, and ends.
fn ended(child: &mut Child, stop: &StopRequest) -> std::io::Result<ExitStatus> {
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if !is_told && stop.received().is_some() {
            // SAFETY: the call only sends a signal; the process has not been waited for, so the number is still its own.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
            is_told = true;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Returns the error among the lines, and shows the others as they come. The end of a command that is stopped is told by
/// this program.
fn last_error(lines: impl Iterator<Item = String>, stop: &StopRequest) -> Option<String> {
    let mut error = None;
    for line in lines {
        match line.strip_prefix("error: ") {
            Some(text) => error = Some(text.to_owned()),
            None if line.starts_with("stopped by ") || stop.received().is_some() => {}
            None => complain(line),
        }
    }
    error
}

fn lines_of(stream: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map_while(Result::ok)
}
