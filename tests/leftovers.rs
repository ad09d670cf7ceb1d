//! Commands that write for long: two at once into one place, a signal in the middle, and what a kill leaves.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{pair16, picture_folder, text};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

/// Everything in a folder, hidden files included.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn dump(out: &Path, seed: &str, count: &str) -> Vec<String> {
    let (generator, _) = pair16();
    let fixed = ["dump", "--device", "cpu", "--batch", "4", "--generator", text(&generator), "--out", text(out)];
    [&fixed[..], &["--seed", seed, "--count", count]].concat().into_iter().map(str::to_owned).collect()
}

fn dataset(place: &Path, target: &Path) -> Vec<String> {
    let source = place.join("set");
    if !source.exists() {
        picture_folder(&source, 150, 32);
    }
    ["dataset", text(&source), text(target), "--resolution", "256"].map(str::to_owned).into()
}

fn run(arguments: &[String]) -> assert_cmd::assert::Assert {
    common::rootgan().args(arguments).assert()
}

/// Starts the program and stops it (as a debugger does) as soon as there is such a file in a folder.
fn start_and_halt(arguments: &[String], folder: &Path, is_there: impl Fn(&str) -> bool) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rootgan"))
        .args(arguments)
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !folder.is_dir() || !names(folder).iter().any(|name| is_there(name)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was its time");
        assert!(begun.elapsed() < Duration::from_secs(120), "its time never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, libc::SIGSTOP);
    child
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: the child has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// The exit code and the last line, once it may go on.
fn go_on(child: Child) -> (Option<i32>, String) {
    signal(&child, libc::SIGCONT);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr.lines().last().unwrap_or_default().to_owned())
}

/// Where a dump goes, and the folder in which its hidden files are.
fn places(place: &Path) -> [(PathBuf, PathBuf); 2] {
    [(place.join("a.npz"), place.to_owned()), (place.join("folder"), place.join("folder"))]
}

fn is_begun(name: &str) -> bool {
    name == "dump.json" || name == "a.npz.json"
}

/// The bytes of a dump, whatever it is.
fn content(out: &Path) -> Vec<u8> {
    if out.is_file() {
        return fs::read(out).unwrap();
    }
    names(out).iter().flat_map(|name| fs::read(out.join(name)).unwrap()).collect()
}

#[test]
fn a_second_dump_into_one_place_is_refused_in_one_line_and_the_first_is_untouched() {
    let place = tempfile::tempdir().unwrap();
    for (out, folder) in places(place.path()) {
        let child = start_and_halt(&dump(&out, "1", "600"), &folder, is_begun);
        for seed in ["1", "2"] {
            let one_line = predicates::function::function(|text: &str| text.lines().count() == 1);
            run(&dump(&out, seed, "600")).code(1).stderr(contains("another process is writing it").and(one_line));
        }
        assert_eq!(go_on(child).0, Some(0));
        let alone = tempfile::tempdir().unwrap();
        let alone = alone.path().join(out.file_name().unwrap());
        run(&dump(&alone, "1", "600")).success();
        assert!(content(&out) == content(&alone), "the pictures and the record are those of one seed");
        assert!(names(&folder).iter().all(|name| !name.starts_with('.')), "{:?}", names(&folder));
    }
}

#[test]
fn a_signal_ends_a_dump_with_nothing_hidden_and_the_same_command_goes_on() {
    let place = tempfile::tempdir().unwrap();
    for (out, folder) in places(place.path()) {
        let child = start_and_halt(&dump(&out, "1", "600"), &folder, is_begun);
        signal(&child, libc::SIGTERM);
        let (code, line) = go_on(child);
        let expected = format!("stopped by SIGTERM in '{}'; to go on: the same command", out.display());
        assert_eq!((code, line), (Some(143), expected));
        assert!(names(&folder).iter().all(|name| !name.starts_with('.')), "{:?}", names(&folder));
        run(&dump(&out, "1", "600")).success();
        run(&dump(&out, "2", "600")).code(1).stderr(contains("asks for seed 2"));
    }
}

/// All rows are there (zeros that take no room), so that only packing them is left.
#[test]
fn a_signal_ends_packing_with_nothing_hidden_and_keeps_the_rows() {
    let place = tempfile::tempdir().unwrap();
    let (out, partial, count) = (place.path().join("a.npz"), place.path().join("a.npz.partial"), 1_000_000);
    run(&dump(&out, "1", "4")).success();
    fs::remove_file(&out).unwrap();
    fs::File::create(&partial).unwrap().set_len(count * 16 * 16 * 3).unwrap();
    let is_packing = |name: &str| name.starts_with(".a.npz.partial-");
    let child = start_and_halt(&dump(&out, "1", &count.to_string()), place.path(), is_packing);
    signal(&child, libc::SIGTERM);
    assert_eq!(go_on(child).0, Some(143));
    assert_eq!(names(place.path()), ["a.npz.json", "a.npz.partial"]);
    assert_eq!(partial.metadata().unwrap().len(), count * 16 * 16 * 3);
}

#[test]
fn what_a_killed_dump_left_harms_nobody_and_is_removed() {
    let place = tempfile::tempdir().unwrap();
    for (out, folder) in places(place.path()) {
        let mut child = start_and_halt(&dump(&out, "1", "600"), &folder, is_begun);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(names(&folder).iter().any(|name| name.ends_with(".lock")), "{:?}", names(&folder));
        // As if killed while it packed, or wrote its record.
        for half in [".a.npz.partial-Ab12Cd.npz", ".dump.json.partial-Ab12Cd.json"] {
            fs::write(folder.join(half), "half").unwrap();
        }
        run(&dump(&out, "1", "600")).success();
        let other = if out.is_file() { ".dump.json.partial-Ab12Cd.json" } else { ".a.npz.partial-Ab12Cd.npz" };
        let hidden: Vec<_> = names(&folder).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(hidden, [other], "what belongs to another place stays");
        fs::remove_file(folder.join(other)).unwrap();
    }
}

#[test]
fn a_signal_ends_a_conversion_with_nothing_left_of_it() {
    let place = tempfile::tempdir().unwrap();
    for (target, number, code, name) in
        [("set.zip", libc::SIGINT, 130, "SIGINT"), ("folder", libc::SIGTERM, 143, "SIGTERM")]
    {
        let arguments = dataset(place.path(), &place.path().join(target));
        let prefix = format!(".{target}.partial-");
        let child = start_and_halt(&arguments, place.path(), |name| name.starts_with(&prefix));
        signal(&child, number);
        let asked = Instant::now();
        let (found, line) = go_on(child);
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        assert_eq!(found, Some(code), "{line}");
        let expected = format!("stopped by {name}: nothing was written to '{}'", place.path().join(target).display());
        assert_eq!(line, expected);
        assert_eq!(names(place.path()), ["set"]);
    }
}

#[test]
fn a_conversion_clears_away_what_a_killed_one_left_but_not_what_a_running_one_writes() {
    let place = tempfile::tempdir().unwrap();
    for target in ["set.zip", "folder"] {
        let path = place.path().join(target);
        let arguments = dataset(place.path(), &path);
        let prefix = format!(".{target}.partial-");
        let is_half = |name: &str| name.starts_with(&prefix);
        let mut child = start_and_halt(&arguments, place.path(), is_half);
        let before = names(place.path());
        run(&arguments).code(1).stderr(contains("another process is writing it"));
        assert_eq!(names(place.path()), before);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(names(place.path()).iter().any(|name| is_half(name)));
        run(&arguments).success();
        let hidden = |name: &String| name.starts_with('.');
        assert!(path.exists() && !names(place.path()).iter().any(hidden), "{:?}", names(place.path()));
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
}
