//! `--processes N`: starts the same command N times on this machine, as `torchrun --nproc-per-node N` would.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::system::signals::{Signal, StopRequest, Stopped, led_by_this_process};
use crate::system::ui::say;
use crate::tensor::world::free_port;

/// The time between two looks at the processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The time that the others get to end by themselves once one has failed; it may be writing what went wrong.
const GRACE: Duration = Duration::from_secs(10);

/// Starts this very command in `count` processes, without `--processes`, and waits for all of them.
///
/// # Errors
/// A process cannot be started or fails; its own message says why. [`Stopped`] where a signal ended them.
pub fn run(count: u64) -> Result<()> {
    ensure!((1..=1024).contains(&count), "--processes must be from 1 to 1024, not {count}");
    ensure!(
        std::env::var_os("WORLD_SIZE").is_none(),
        "WORLD_SIZE is set, so these processes have been started already (torchrun); leave --processes away"
    );
    let stop = StopRequest::listen()?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let arguments = without_processes(std::env::args_os().skip(1));
    // A program that takes the port in the next moment makes the first process fail with a clear line.
    let port = free_port()?;
    let threads = (std::thread::available_parallelism().map_or(1, usize::from) as u64 / count).max(1);
    let mut children = Vec::new();
    for rank in 0..count {
        let mut command = Command::new(&program);
        command.args(&arguments);
        let variables = [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", count), ("LOCAL_WORLD_SIZE", count)];
        command.envs(variables.map(|(name, value)| (name, value.to_string())));
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", threads.to_string());
        }
        let started = led_by_this_process(&mut command).spawn();
        // Upon an error this process ends, and those already started with it.
        children.push(started.with_context(|| format!("cannot start process {rank} of {count}"))?);
    }
    wait(children, &stop)
}

/// Waits until all have ended. A signal is handed on, and once one has failed the others are ended.
fn wait(mut children: Vec<Child>, stop: &StopRequest) -> Result<()> {
    let mut ended: Vec<Option<ExitStatus>> = vec![None; children.len()];
    let (mut failed, mut told): (Option<(usize, Instant)>, bool) = (None, false);
    while ended.iter().any(Option::is_none) {
        for (rank, child) in children.iter_mut().enumerate() {
            if ended[rank].is_none() {
                ended[rank] = child.try_wait().context("cannot wait for a process")?;
                let is_first_failure = failed.is_none() && ended[rank].is_some_and(|status| !status.success());
                failed = if is_first_failure { Some((rank, Instant::now())) } else { failed };
            }
        }
        if let (Some(signal), false) = (stop.received(), told) {
            // A second one ends this process, and the children with it.
            children.iter().for_each(|child| send(child, signal));
            told = true;
        }
        if failed.is_some_and(|(_, at)| at.elapsed() > GRACE) && stop.received().is_none() {
            for (child, status) in children.iter_mut().zip(&ended) {
                if status.is_none() {
                    let _ = child.kill();
                }
            }
        }
        sleep(LOOK_INTERVAL);
    }
    // A signal to one of them ends all; the first process has told of it and of the command that goes on.
    if let Some(signal) = stop.received().or_else(|| ended.iter().flatten().find_map(stopped_by)) {
        return Err(Stopped { signal, message: String::new() }.into());
    }
    match failed {
        None => Ok(()),
        Some((rank, _)) => {
            let status = ended[rank].map_or_else(String::new, |status| status.to_string());
            say(format!("process {rank} ended first ({status})"));
            bail!("process {rank} of {} failed; its message is above", ended.len())
        }
    }
}

/// Returns the signal that made a process end in good order.
fn stopped_by(status: &ExitStatus) -> Option<Signal> {
    let signals = [Signal::Interrupt, Signal::Terminate, Signal::Hangup];
    signals.into_iter().find(|signal| status.code() == Some(i32::from(signal.exit_code())))
}

fn send(child: &Child, signal: Signal) {
    let number = i32::from(signal.exit_code()) - 128;
    // SAFETY: the call takes two numbers; a process that has just ended is a zombie until it is waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, number) };
}

/// Leaves `--processes N` and `--processes=N` out.
fn without_processes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--processes" {
            arguments.next();
        } else if !text.starts_with("--processes=") {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_of_processes_is_left_out() {
        let of = |text: &str| -> Vec<String> {
            let words = text.split(' ').map(OsString::from);
            without_processes(words).into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(of("finetune --processes 2 --kimg 3").join(" "), "finetune --kimg 3");
        assert_eq!(of("finetune --kimg 3 --processes=4").join(" "), "finetune --kimg 3");
    }
}
