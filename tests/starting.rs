//! How the program starts and how its output ends: another libtorch in the environment, a reader that has gone, a working
//! directory that was deleted.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

fn rootgan(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
    command.args(arguments).env("OMP_NUM_THREADS", "1");
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn another_libtorch_in_the_library_path_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("stub.c");
    std::fs::write(&source, "int nothing_of_use;").unwrap();
    for library in ["libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10.so", "libc10_cuda.so"] {
        let mut made = Command::new("cc");
        made.args(["-shared", "-fPIC", &format!("-Wl,-soname,{library}"), "-o"]);
        assert!(made.arg(folder.path().join(library)).arg(&source).status().unwrap().success());
    }
    let output = rootgan(&["devices"]).env("LD_LIBRARY_PATH", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn output_whose_reader_has_gone_ends_quietly() {
    for arguments in [&["--help"][..], &["--version"], &["finetune", "--help"], &["devices"]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let output = rootgan(arguments).stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{arguments:?}");
    }
}

#[test]
fn the_version_says_what_it_was_built_from_and_with() {
    let output = rootgan(&["--version"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with(concat!("rootgan ", env!("CARGO_PKG_VERSION"), " (")) && text.contains("), libtorch 2."),
        "{text}"
    );
    let short = String::from_utf8(rootgan(&["-V"]).output().unwrap().stdout).unwrap();
    assert_eq!(short, concat!("rootgan ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// bash takes the script and completes a subcommand with it.
#[test]
fn a_shell_completes_commands_by_the_script_that_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = rootgan(&["completions", shell]).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
        std::fs::write(folder.path().join(shell), output.stdout).unwrap();
    }
    let script = "source \"$1\"; COMP_WORDS=(rootgan fine); COMP_CWORD=1; _rootgan rootgan fine rootgan; echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", script, "bash"]).arg(folder.path().join("bash")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "finetune", "{}", stderr(&completed));
}

#[test]
fn a_deleted_working_directory_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let script = "cd \"$1\" && rmdir \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&gone).args([env!("CARGO_BIN_EXE_rootgan"), "devices"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: cannot work in this folder: it does not exist any more"),
        "{}",
        stderr(&output)
    );
    assert_eq!(stderr(&output).lines().count(), 1);
}
