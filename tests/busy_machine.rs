//! How OpenMP's threads wait beside other programs. Times are measured by benches/busy.py; this is what can be told apart
//! on any machine: whether idle threads, which keep the others from spinning, are there.

mod common;

use std::path::Path;
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

/// Whether a thread of this name is there, now or within `patience`.
fn has_thread(process: &Ended, name: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let tasks = format!("/proc/{}/task", process.0.id());
    loop {
        let threads = std::fs::read_dir(Path::new(&tasks)).expect("the process is there").flatten();
        let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        if names.any(|found| found.trim_end() == name) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn threads_stop_spinning_while_other_programs_are_busy() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let busy = |_| Ended(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let others: Vec<Ended> = (0..cores).map(busy).collect();
    let process = training(&[]);
    assert!(
        has_thread(&process, "openmp-crowd", Duration::from_secs(60)),
        "threads spin beside {} others",
        others.len()
    );
}

#[test]
fn a_users_own_way_of_waiting_stands() {
    let mut process = training(&[("OMP_WAIT_POLICY", "ACTIVE")]);
    assert!(!has_thread(&process, "openmp-load", Duration::from_secs(3)));
    assert!(process.0.try_wait().unwrap().is_none(), "the program ended");
}
