//! Runs a command of the Python package as a part of this program: it ends with this program, and its errors are this
//! program's.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::{complain, say};

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
/// The command fails, with its own words, or it was killed.
pub fn run(command: &mut Command, lines: PythonOutput) -> Result<()> {
    let stop = StopRequest::listen()?;
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    if lines == PythonOutput::Notes {
        command.stdout(Stdio::piped());
    }
    // SAFETY: between fork and exec only a call of the system is made.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let program = command.get_program().to_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run '{}'", program.display()))?;
    let notes = child.stdout.take().map(|stdout| {
        std::thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .filter(|line| line.starts_with("note: "))
                .for_each(say);
        })
    });
    let mut error = None;
    for line in child.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
        match line.strip_prefix("error: ") {
            Some(text) => error = Some(text.to_owned()),
            // The same is told once, by this program.
            None if line.starts_with("stopped by ") => {}
            None => complain(line),
        }
    }
    let status = child.wait().context("cannot wait for Python")?;
    if let Some(thread) = notes {
        // A panic of the thread loses remarks only.
        let _ = thread.join();
    }
    // Ctrl-C in a terminal reaches this program and Python.
    if stop.received().is_some() {
        return Err(Interrupted.into());
    }
    match (status.success(), error, status.signal()) {
        (true, _, _) => Ok(()),
        (false, Some(text), _) => Err(anyhow!(text)),
        (false, None, Some(libc::SIGKILL)) => bail!("Python was killed, which the system does where memory runs out"),
        (false, None, _) => bail!("Python ended with {status}; the lines above say why"),
    }
}
