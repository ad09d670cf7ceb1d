//! Command lines of `rootgan finetune`, built in one place.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One command line; options that are added later win over earlier ones.
#[derive(Clone)]
pub struct Finetune(Vec<OsString>);

impl Finetune {
    /// Trains a pair on a folder of pictures, on the CPU, eight pictures at a time, with small preview grids.
    pub fn new(pair: &(PathBuf, PathBuf), data: &Path, outdir: &Path) -> Self {
        Self(vec!["finetune".into()])
            .with(["--device", "cpu", "--batch", "8", "--grid", "2x2"])
            .with([OsStr::new("--generator"), pair.0.as_ref(), OsStr::new("--discriminator"), pair.1.as_ref()])
            .with([OsStr::new("--data"), data.as_ref(), OsStr::new("--outdir"), outdir.as_ref()])
    }

    /// Goes on with a run, or back to one of its checkpoints.
    pub fn resume(place: &Path) -> Self {
        Self(vec!["finetune".into()]).with([OsStr::new("--resume"), place.as_ref()])
    }

    /// The same with more options.
    pub fn with<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.0.extend(options.into_iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// The program, to be asserted on.
    pub fn command(&self) -> assert_cmd::Command {
        let mut command = super::rootgan();
        command.args(&self.0);
        command
    }

    /// The program as a process of its own, to be sent signals; what it prints goes nowhere. It listens to SIGHUP even where
    /// the tests themselves ignore it, as under `nohup`.
    pub fn process(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
        let listen = || {
            // SAFETY: the call changes the reaction of the calling process to one signal alone.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: signal may be called between fork and exec, and nothing is allocated.
        unsafe { command.pre_exec(listen) };
        command.env("OMP_NUM_THREADS", "1").stdout(Stdio::null()).stderr(Stdio::null()).args(&self.0);
        command
    }

    /// Trains to the end; returns the run's folder.
    pub fn run(&self) -> PathBuf {
        run_folder(&mut self.command())
    }
}

/// Runs a finetune command, which has to succeed; returns the run's folder, which its last line names.
pub fn run_folder(command: &mut assert_cmd::Command) -> PathBuf {
    let output = command.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).expect("names are UTF-8 here");
    let last = text.lines().last().and_then(|line| line.strip_prefix("run directory: "));
    last.unwrap_or_else(|| panic!("the last line does not name the run: {text}")).into()
}
