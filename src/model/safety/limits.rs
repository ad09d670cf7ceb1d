//! Bounds the little that is run of a file before its user has said what it is for: `describe` and the like may take
//! little time and memory, and a warning says so where a trial of networks takes long.

use std::sync::mpsc;
use std::time::Duration;

use crate::system::ui::say;

const MOST_TIME: Duration = Duration::from_secs(20);
const LONG_TRIAL: Duration = Duration::from_secs(60);
/// The bytes that a description may take beyond what the program has already.
const SPARE_BYTES: u64 = 1 << 30;

/// Runs `work`, a call into the code of the file `name`. Where it does not end, the whole program is ended with an
/// error; where it takes memory without end, it fails.
pub fn bounded<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    let watch = std::thread::spawn({
        let name = name.to_owned();
        move || {
            if waiting.recv_timeout(MOST_TIME) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!(
                    "error: '{name}' does not say what it is: its code ran for {} s without an end, which no network's does; \
                     pass another file",
                    MOST_TIME.as_secs()
                );
                std::process::exit(1);
            }
        }
    });
    let result = {
        let _limit = MemoryLimit::new();
        work()
    };
    drop(done);
    let _ = watch.join();
    result
}

/// Runs `work`, a trial of the networks `names`. Where it goes on for longer than a trial of large networks takes, a
/// warning says how to end it: their code may be slow or have a loop without end, and nobody can tell which.
pub fn told_when_long<T>(names: &str, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    let names = names.to_owned();
    let watch = std::thread::spawn(move || {
        if waiting.recv_timeout(LONG_TRIAL) == Err(mpsc::RecvTimeoutError::Timeout) {
            say(format!(
                "warning: {names}: the trial of a few images has taken {} s so far; a network whose loop never ends does not come \
                 back; Ctrl-C ends this",
                LONG_TRIAL.as_secs()
            ));
        }
    });
    let result = work();
    drop(done);
    let _ = watch.join();
    result
}

/// A bound on the address space of the program, which is lifted when this is dropped.
struct MemoryLimit(Option<libc::rlimit>);

impl MemoryLimit {
    fn new() -> Self {
        Self(Self::set())
    }

    fn set() -> Option<libc::rlimit> {
        let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
        // SAFETY: the call only reads a constant of the system.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        // SAFETY: all zeros are a valid value, which the call fills in.
        let mut before: libc::rlimit = unsafe { std::mem::zeroed() };
        // SAFETY: `before` outlives the call.
        if unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut before) } != 0 {
            return None;
        }
        let limit = libc::rlimit { rlim_cur: before.rlim_cur.min(pages * page + SPARE_BYTES), ..before };
        // SAFETY: `limit` outlives the call.
        (unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } == 0).then_some(before)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: `before` outlives the call. A failure leaves the bound, which is no danger.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const *before) };
        }
    }
}
