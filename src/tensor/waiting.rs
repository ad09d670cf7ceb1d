//! Adapts how OpenMP's threads wait for each other: they spin on a quiet machine, and sleep where other programs want
//! its cores.
//!
//! A thread that spins answers within a microsecond, which is worth a third of the speed of small networks. Where
//! another program wants the same core, it spins away the time in which the thread that it waits for could run: a
//! training step becomes ten times slower. libgomp reads its settings when it is loaded, but its threads stop spinning
//! by themselves as long as there are more OpenMP threads than cores (GOMP_SPINCOUNT in its manual: 300,000 turns
//! become 100). So a thread of this file looks at the load ten times a second, and while other programs are busy it
//! keeps as many idle OpenMP threads as it takes, with those that compute, to be more than there are cores. How many
//! threads compute does not change, so neither do the numbers.
//!
//! The weakness: where the load of the machine cannot be seen, as in a container whose `/proc/stat` is hidden, threads
//! always spin.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_void;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two looks at the load.
const INTERVAL: Duration = Duration::from_millis(100);
/// The number of intervals that one judgement spans. The system counts hundredths of a second per core, which is too
/// coarse for the 0.02 seconds that are tolerated in one interval.
const SPANNED_LOOKS: usize = 5;
/// The number of looks in a row that have to find a quiet machine before threads spin again.
const QUIET_LOOKS: u32 = 10;
/// The share of one core that other programs may take beside this one: what a desktop or a monitor needs now and then.
const TOLERATED_CORES: f64 = 0.2;
/// Environment variables by which a user chooses how threads wait; where one is set, it stands.
const OWN_SETTINGS: [&str; 3] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"];

/// `GOMP_parallel` of libgomp's binary interface: runs the function in a team of that many threads.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);

/// Begins to watch the load, for as long as the process lives. Nothing is watched where a user chose how threads wait,
/// where `threads` is one, or where libtorch has another OpenMP than GNU's.
pub fn adapt_to_load(threads: usize) {
    if threads < 2 || OWN_SETTINGS.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Some(parallel) = libgomp_parallel() else { return };
    // Without this thread the process is slower beside others, but computes the same.
    let _ = std::thread::Builder::new().name("openmp-load".into()).spawn(move || watch(threads, parallel));
}

fn watch(threads: usize, parallel: Parallel) {
    let cores = usable_cores();
    let mut crowd: Option<Crowd> = None;
    let mut quiet_looks = 0;
    let mut looks = VecDeque::new();
    loop {
        let Some(load) = Load::now(&cores) else { return };
        looks.push_back(load);
        std::thread::sleep(INTERVAL);
        if looks.len() <= SPANNED_LOOKS {
            continue;
        }
        let (Some(first), Some(last)) = (looks.pop_front(), looks.back()) else { return };
        quiet_looks = if last.leaves_room(&first, cores.len(), threads) { quiet_looks + 1 } else { 0 };
        if quiet_looks == 0 && crowd.is_none() {
            crowd = Some(Crowd::gather((cores.len() + 2).saturating_sub(threads).max(2), parallel));
        } else if quiet_looks == QUIET_LOOKS {
            crowd = None;
        }
    }
}

/// A team of idle OpenMP threads. While they exist, libgomp counts more threads than cores and none of its threads
/// spins for long.
struct Crowd {
    dismiss: Option<Sender<()>>,
    leader: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts a team of `size` threads beside those that compute.
    fn gather(size: usize, parallel: Parallel) -> Self {
        extern "C" fn nothing(_: *mut c_void) {}
        let (dismiss, dismissed): (Sender<()>, Receiver<()>) = channel();
        let lead = move || {
            // SAFETY: the function takes no data; a team lives until the thread that made it ends.
            unsafe { parallel(nothing, std::ptr::null_mut(), size as u32, 0) };
            let _ = dismissed.recv();
        };
        let leader = std::thread::Builder::new().name("openmp-crowd".into()).spawn(lead).ok();
        Self { dismiss: Some(dismiss), leader }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.dismiss.take());
        if let Some(leader) = self.leader.take() {
            let _ = leader.join();
        }
    }
}

/// The processor time that all programs have used since the machine began, and this process since it began.
struct Load {
    at: Instant,
    /// Seconds of all programs on the cores that this process may use.
    all: f64,
    /// Seconds of this process, in its own code and in the kernel.
    own: f64,
}

impl Load {
    fn now(cores: &BTreeSet<usize>) -> Option<Self> {
        let all = busy_seconds(&std::fs::read_to_string("/proc/stat").ok()?, cores)?;
        Some(Self { at: Instant::now(), all, own: own_seconds()? })
    }

    /// Whether other programs left this one a core for each of its threads since `before`.
    fn leaves_room(&self, before: &Self, cores: usize, threads: usize) -> bool {
        let others = (self.all - before.all) - (self.own - before.own);
        let spare = cores.saturating_sub(threads) as f64;
        others <= (spare + TOLERATED_CORES) * (self.at - before.at).as_secs_f64()
    }
}

/// Returns the seconds in which the given cores were busy, from the text of `/proc/stat`. Time that a hypervisor gave
/// to other machines (steal) counts as busy, because this machine did not have it either.
fn busy_seconds(stat: &str, cores: &BTreeSet<usize>) -> Option<f64> {
    // SAFETY: the call only reads a constant of the system.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let mut ticks = 0;
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let Some(core) = fields.next()?.strip_prefix("cpu") else { break };
        if core.parse().is_ok_and(|core| cores.contains(&core)) {
            let times: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
            // The fields are user, nice, system, idle, iowait, irq, softirq and steal.
            let idle = |place: &usize| matches!(place, 3 | 4);
            ticks +=
                times.iter().enumerate().take(8).filter(|(place, _)| !idle(place)).map(|(_, time)| time).sum::<u64>();
        }
    }
    (ticks_per_second > 0).then(|| ticks as f64 / ticks_per_second as f64)
}

fn own_seconds() -> Option<f64> {
    // SAFETY: all zeros are a valid value, which the call fills in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` outlives the call.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    (status == 0).then(|| seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Returns the cores that the process may run on.
fn usable_cores() -> BTreeSet<usize> {
    // SAFETY: all zeros are an empty set, which the call fills in.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of the set.
    let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let count = if status == 0 { libc::CPU_SETSIZE as usize } else { 0 };
    // SAFETY: the index is below the size of the set.
    (0..count).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Finds libgomp's entry for compiled parallel regions, if this process has loaded libgomp.
fn libgomp_parallel() -> Option<Parallel> {
    // SAFETY: the name ends in a zero byte.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr()) };
    // LLVM's OpenMP offers the same entry, but waits by rules of its own.
    let other = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__kmpc_fork_call".as_ptr()) };
    // SAFETY: libgomp has kept this signature since its version 4.
    (!symbol.is_null() && other.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Parallel>(symbol) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 30 1000 50 4 6 40 7 7\ncpu1 1 2 3 4 5 6 7 8 0 0\nintr 5\ncpu2 9 9 9\n";

    #[test]
    fn only_busy_time_of_the_usable_cores_counts() {
        let ticks = |seconds: Option<f64>| (seconds.unwrap() * 100.0).round();
        assert_eq!(ticks(busy_seconds(STAT, &BTreeSet::from([0]))), 200.0);
        assert_eq!(ticks(busy_seconds(STAT, &BTreeSet::from([0, 1]))), 227.0);
        assert_eq!(ticks(busy_seconds(STAT, &BTreeSet::new())), 0.0);
    }

    #[test]
    fn others_may_use_the_cores_that_no_thread_of_ours_wants() {
        let begin = Instant::now();
        let before = Load { at: begin, all: 10.0, own: 5.0 };
        let after = |all, own| Load { at: begin + Duration::from_secs(1), all, own };
        assert!(after(12.0, 7.0).leaves_room(&before, 2, 2));
        assert!(!after(12.0, 6.0).leaves_room(&before, 2, 2));
        assert!(after(12.0, 6.0).leaves_room(&before, 4, 2));
        assert!(!after(15.0, 7.0).leaves_room(&before, 4, 2));
        assert!(!after(11.0, 5.0).leaves_room(&before, 1, 2));
    }

    #[test]
    fn a_crowd_of_idle_threads_comes_and_goes() {
        let _ = tch::get_num_threads(); // links libtorch, which brings libgomp
        let Some(parallel) = libgomp_parallel() else { panic!("this libtorch has no libgomp") };
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        // Other tests of this program have threads too, but far fewer than this crowd.
        let before = threads();
        let crowd = Crowd::gather(40, parallel);
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads() < before + 30 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(threads() >= before + 30, "{before} threads became {}", threads());
        drop(crowd);
        while threads() > before + 20 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(threads() <= before + 20, "{} threads stayed", threads());
    }

    #[test]
    fn this_machine_tells_its_load() {
        let cores = usable_cores();
        assert!(!cores.is_empty());
        let load = Load::now(&cores).unwrap();
        assert!(load.all > 0.0 && load.own > 0.0);
    }
}
