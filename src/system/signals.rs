//! SIGINT, SIGTERM and SIGHUP: the first one asks the loop to stop at the next good place, a second ends the program at once.
//!
//! One wish can come as two signals: a terminal that is closed sends SIGHUP by the shell and by the kernel, `timeout` signals
//! the program and then its group. So a second signal counts only after a moment, and SIGHUP never does.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

/// Milliseconds in which signals are taken for one.
const ONE_WISH_MS: u64 = 500;

/// A request to stop; the default never asks for anything.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    signal: Arc<AtomicUsize>,
}

impl StopRequest {
    /// Listens from now on, once for the whole process: a signal that came during one run holds for the next one too.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen() -> Result<Self> {
        static LISTENING: Mutex<Option<StopRequest>> = Mutex::new(None);
        let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(request) = &*listening {
            return Ok(request.clone());
        }
        let request = Self::default();
        let first_at = Arc::new(AtomicU64::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` makes a program ignore the end of its terminal, and that must stay so.
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
            let (first_at, asked) = (Arc::clone(&first_at), Arc::clone(&request.signal));
            let act = move || {
                let now = now_ms();
                match first_at.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => asked.store(signal as usize, Ordering::SeqCst),
                    // The first signal can have a later time than this one, which another thread received.
                    Err(first) if signal != SIGHUP && now.saturating_sub(first) >= ONE_WISH_MS => {
                        low_level::exit(128 + signal)
                    }
                    Err(_) => {}
                }
            };
            // SAFETY: the handler reads a clock, swaps atomics and ends the process, each of which signal handlers may.
            unsafe { low_level::register(signal, act) }.context("cannot listen for SIGINT, SIGTERM and SIGHUP")?;
        }
        *listening = Some(request.clone());
        Ok(request)
    }

    /// Asks to stop as `signal` does: for a program around this library, and for tests.
    pub fn ask(&self, signal: Signal) {
        self.signal.store(usize::from(signal.exit_code() - 128), Ordering::Relaxed);
    }

    /// Ends long work between two of its steps.
    ///
    /// # Errors
    /// [`Interrupted`] once a signal came.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.received().map_or(Ok(()), |_| Err(Interrupted))
    }

    /// Returns the signal that came, if one did.
    pub fn received(&self) -> Option<Signal> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Signal::Interrupt),
            SIGTERM => Some(Signal::Terminate),
            SIGHUP => Some(Signal::Hangup),
            _ => None,
        }
    }
}

/// The error of long work that a signal ended.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left because of a signal")
    }
}

impl std::error::Error for Interrupted {}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros are a valid value, which the call fills in; without a new action it changes nothing.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let status = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    status == 0 && action.sa_sigaction == libc::SIG_IGN
}

impl Interrupted {
    /// Returns the error that a command ends with: [`Stopped`] with the message where it was interrupted, `error`
    /// itself otherwise.
    pub fn or_else(error: anyhow::Error, message: impl FnOnce(Signal) -> String) -> anyhow::Error {
        let signal = StopRequest::listen().ok().and_then(|request| request.received());
        match signal.filter(|_| error.is::<Self>()) {
            Some(signal) => Stopped { signal, message: message(signal) }.into(),
            None => error,
        }
    }
}

/// Milliseconds of a clock that never goes back, never 0.
fn now_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills `time` in.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000 + 1
}

/// Leaves signals to the process that `command` will start to this one: those of the terminal do not reach it, and it is
/// killed when this one ends. Otherwise one Ctrl-C would come twice, from the terminal and from here.
pub fn led_by_this_process(command: &mut Command) -> &mut Command {
    signalled_at_the_end_of_this_process(command.process_group(0), libc::SIGKILL)
}

/// Has the system send `signal` to the process that `command` will start when this one ends, however it does.
pub fn signalled_at_the_end_of_this_process(command: &mut Command, signal: libc::c_int) -> &mut Command {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: the call changes a setting of the calling process alone.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before.
        match std::os::unix::process::parent_id() == parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: prctl and getppid may be called between fork and exec, and nothing is allocated.
    unsafe { command.pre_exec(ask) }
}

/// Makes writing beyond the limit on the size of files an error of the write.
pub fn survive_file_limits() {
    // SAFETY: ignoring a signal needs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// A signal that asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
    /// SIGTERM, which `kill` and batch systems send.
    Terminate,
    /// SIGHUP, which a terminal sends when it is closed.
    Hangup,
}

impl Signal {
    /// Returns the exit code that shells expect after the signal: 130, 143 or 129.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Hangup => 129,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        })
    }
}

/// The end of work that was asked to stop by a signal. It is no failure, so it is shown without `error:`.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The signal that asked for the end.
    pub signal: Signal,
    /// The message to the user, shown in place of an error.
    pub message: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stopped {}
