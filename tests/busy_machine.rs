//! How OpenMP's threads wait beside other programs. Times are measured by benches/busy.py; this is what can be told apart
//! on any machine: whether idle threads, which keep the others from spinning, are there.

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{pair16, text};

/// A process that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `rootgan bench` for many iterations on two threads, with a user's own settings.
fn training(settings: &[(&str, &str)]) -> Ended {
    let (generator, discriminator) = pair16();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
    command.args(["bench", "--generator", text(&generator), "--discriminator", text(&discriminator)]);
    command.args(["--batch", "4", "--iterations", "100000"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT").env("OMP_NUM_THREADS", "2");
    Ended(command.envs(settings.iter().copied()).spawn().expect("the program starts"))
}

/// The folders of a process's threads, each with its name and the time that it has used.
fn threads(process: &Ended) -> impl Iterator<Item = PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).expect("the process is there");
    tasks.flatten().map(|task| task.path())
}

/// Whether `is_so` becomes true within `patience`.
fn comes_true(patience: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether a thread of this name is there.
fn has_thread(process: &Ended, name: &str) -> bool {
    let names = threads(process).filter_map(|task| std::fs::read_to_string(task.join("comm")).ok());
    names.into_iter().any(|found| found.trim_end() == name)
}

/// Whether a thread besides the first has computed for half a second, or spun, as a second one of OpenMP does.
fn has_second_thread_at_work(process: &Ended) -> bool {
    let first = process.0.id().to_string();
    let others = threads(process).filter(|task| !task.ends_with(&first));
    let stats = others.filter_map(|task| std::fs::read_to_string(task.join("stat")).ok());
    // Hundredths of a second are the 12th field after the name in brackets.
    let used = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(11)?.parse::<u64>().ok();
    stats.into_iter().any(|stat| used(&stat) >= Some(50))
}

#[test]
fn threads_stop_spinning_while_other_programs_are_busy() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let busy = |_| Ended(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let others: Vec<Ended> = (0..cores).map(busy).collect();
    let process = training(&[]);
    let minute = Duration::from_secs(60);
    assert!(comes_true(minute, || has_thread(&process, "openmp-load")), "nobody watches the load");
    let is_crowded = comes_true(minute, || has_thread(&process, "openmp-crowd"));
    assert!(is_crowded, "threads spin beside {} others", others.len());
}

#[test]
fn a_users_own_way_of_waiting_stands() {
    let mut process = training(&[("OMP_WAIT_POLICY", "ACTIVE")]);
    assert!(comes_true(Duration::from_secs(60), || has_second_thread_at_work(&process)), "nothing is trained");
    assert!(!has_thread(&process, "openmp-load"));
    assert!(process.0.try_wait().unwrap().is_none(), "the program ended");
}
