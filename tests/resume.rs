//! Runs that are interrupted, killed or stopped, and go on: to the same weights and statistics, bit for bit.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;
use common::runs::{checkpoints, statistics, wait_for};

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use rootgan::run::checkpoint::Checkpoints;
use rootgan::run::snapshot::{Network, SnapshotFiles};
use serde_json::Value;

/// 24 iterations of 8 images in three ticks, with everything that has a state: ADA, path length, R1, mixing.
const OPTIONS: [&str; 22] = [
    "--device",
    "cpu",
    "--batch",
    "8",
    "--grid",
    "2x2",
    "--kimg",
    "0.192",
    "--tick-kimg",
    "0.064",
    "--snapshot-ticks",
    "0",
    "--image-ticks",
    "0",
    "--ada-kimg",
    "0.5",
    "--target",
    "-0.5",
    "--checkpoint-minutes",
    "0",
    "--mirror",
    "--seed=3",
];

struct Stage {
    place: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { place: tempfile::tempdir().unwrap() };
        common::picture_folder(&stage.data(), 10, 16);
        stage
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("discs")
    }

    /// The only run in its folder of runs.
    fn run(&self, outdir: &str) -> PathBuf {
        let mut runs: Vec<_> =
            fs::read_dir(self.place.path().join(outdir)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// The first run in it, as soon as there is one.
    fn find(&self, outdir: &str) -> Option<PathBuf> {
        fs::read_dir(self.place.path().join(outdir)).ok()?.flatten().map(|entry| entry.path()).next()
    }

    fn begin(&self, outdir: &str, more: &[&str]) -> Command {
        self.begin_with(common::pair16(), outdir, more)
    }

    fn begin_with(&self, pair: (PathBuf, PathBuf), outdir: &str, more: &[&str]) -> Command {
        Finetune::new(&pair, &self.data(), &self.place.path().join(outdir)).with(OPTIONS).with(more).process()
    }
}

fn resume(run: &Path) -> Command {
    Finetune::resume(run).process()
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: the child has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

fn kill(mut child: Child) -> ExitStatus {
    child.kill().unwrap();
    child.wait().unwrap()
}

fn finish(mut command: Command) {
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The state at the end: every tensor by name.
fn last_state(run: &Path) -> Vec<u8> {
    let last = Checkpoints::in_run(run, 1).list().unwrap().pop().unwrap();
    assert_eq!(last.seen_images, 192);
    fs::read(last.folder().join("state.safetensors")).unwrap()
}

fn event_bytes(run: &Path) -> u64 {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap());
    let events: Vec<_> = names.filter(|entry| entry.file_name().to_string_lossy().contains("tfevents")).collect();
    assert_eq!(events.len(), 1);
    events[0].metadata().unwrap().len()
}

fn network_bytes(run: &Path, network: &str) -> Vec<(String, Vec<u8>)> {
    common::configure_torch();
    let path = run.join(format!("network-snapshot-000000.{network}.pt"));
    let script = rootgan::model::ScriptModule::load(&path, tch::Device::Cpu).unwrap();
    let bytes = |tensor: &tch::Tensor| {
        let mut values = vec![0f32; tensor.numel()];
        let count = values.len();
        tensor.detach().contiguous().copy_data(&mut values, count);
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    script.parameters.iter().map(|p| (p.name.clone(), bytes(&p.tensor))).collect()
}

#[test]
fn networks_with_the_fast_convolution_go_on_to_the_same_bits() {
    let stage = Stage::new();
    finish(stage.begin_with(common::wide_pair16(), "whole", &[]));
    let mut child = stage.begin_with(common::wide_pair16(), "runs", &[]).spawn().unwrap();
    wait_for(&mut child, 40, || stage.find("runs"));
    kill(child);
    finish(resume(&stage.run("runs")));
    assert!(last_state(&stage.run("runs")) == last_state(&stage.run("whole")), "another state");
}

#[test]
fn going_back_to_an_earlier_checkpoint_leads_to_the_same_end() {
    let stage = Stage::new();
    finish(stage.begin("runs", &["--keep-checkpoints", "30"]));
    let run = stage.run("runs");
    let (state, lines) = (last_state(&run), statistics(&run));
    // What lies beyond that place would look like the newest.
    let (grid, beyond) = (run.join("fakes000007.png"), SnapshotFiles::at(&run, 7));
    fs::write(&grid, "").unwrap();
    Network::ALL.iter().for_each(|&network| fs::write(beyond.path_of(network), "").unwrap());
    beyond.write_manifest(7000, Value::Null).unwrap();
    let place = run.join("checkpoints");
    Finetune::resume(&place.join("000000000097"))
        .command()
        .assert()
        .code(1)
        .stderr(contains("no such checkpoint; there are '"));
    // Refused before anything is changed.
    let refused = Finetune::resume(&place.join("000000000096")).with(["--override", "--freeze-d", "1"]);
    refused.command().assert().code(1);
    assert!(statistics(&run) == lines && grid.is_file() && checkpoints(&run).last() == Some(&192));
    finish(resume(&place.join("000000000096")));
    assert!(!grid.exists() && !beyond.manifest.exists() && !beyond.d.exists());
    assert_eq!(last_state(&run), state);
    assert_eq!(statistics(&run), lines);
}

#[test]
fn a_run_killed_at_several_places_ends_with_the_weights_and_statistics_of_an_uninterrupted_one() {
    let stage = Stage::new();
    finish(stage.begin("whole", &[]));
    let whole = stage.run("whole");
    let mut child = stage.begin("killed", &[]).spawn().unwrap();
    let find = || stage.find("killed");
    // At the very beginning, in the middle of ticks, right behind one, and as late as a run may not have ended by the time
    // that this process sees the checkpoint.
    for seen_images in [0, 40, 72, 104, 136] {
        wait_for(&mut child, seen_images, find);
        kill(child);
        child = resume(&stage.run("killed")).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    let killed = stage.run("killed");
    assert_eq!(last_state(&killed), last_state(&whole));
    let names = fs::read_dir(killed.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with('.')), "no half checkpoints are left");
    assert_eq!(statistics(&killed), statistics(&whole));
    assert_eq!(statistics(&whole).len(), 4);
    assert_eq!(event_bytes(&killed), event_bytes(&whole));
    for network in ["G", "G_ema", "D"] {
        assert_eq!(network_bytes(&killed, network), network_bytes(&whole, network), "{network}");
    }
    let log = fs::read_to_string(killed.join("log.txt")).unwrap();
    assert_eq!(log.matches("resumed at ").count(), 5, "{log}");
    // What there was to interrupt: p has moved, and all four phases have run.
    let last = statistics(&whole).pop().unwrap();
    assert!(last["Progress/augment"]["mean"].as_f64().unwrap() > 0.0, "{last:?}");
}

/// A grid and a snapshot every 16 images, two of them kept: the numbers of the names are not among what a kill changes.
#[test]
fn a_killed_run_gives_grids_and_snapshots_the_names_of_an_uninterrupted_one() {
    let stage = Stage::new();
    let more = ["--tick-kimg", "0.016", "--snapshot-ticks", "1", "--image-ticks", "1", "--keep-snapshots", "2"];
    finish(stage.begin("whole", &more));
    let mut child = stage.begin("killed", &more).spawn().unwrap();
    for seen_images in [40, 104] {
        wait_for(&mut child, seen_images, || stage.find("killed"));
        kill(child);
        child = resume(&stage.run("killed")).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    let outputs = |run: &Path| {
        let entries = fs::read_dir(run).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with("fakes0") || name.starts_with("network-")).collect();
        names.sort();
        names
    };
    let (killed, whole) = (stage.run("killed"), stage.run("whole"));
    assert_eq!(outputs(&killed), outputs(&whole));
    assert_eq!(outputs(&whole).len(), 12 + 2 * 4, "{:?}", outputs(&whole));
    for name in outputs(&whole).iter().filter(|name| name.starts_with("fakes")) {
        assert!(fs::read(killed.join(name)).unwrap() == fs::read(whole.join(name)).unwrap(), "{name}");
    }
    let last = |run: &Path| rootgan::run::snapshot::find(run).unwrap();
    assert!(last(&whole).manifest.ends_with("network-snapshot-000000_192.json"));
    assert_eq!(last(&killed).number, last(&whole).number);
    // Where the weights come from is the same, too, with the checksums of the files that the run began with.
    let extra = |run: &Path| rootgan::run::snapshot::SnapshotManifest::read(&last(run).manifest).unwrap().extra;
    assert_eq!(extra(&killed), extra(&whole));
    assert!(extra(&killed)["parents"]["discriminator"]["sha256"].is_string());
}

/// Checkpoints of earlier versions say nothing of the newest outputs, and their events have steps of a thousand images.
#[test]
fn a_run_of_an_earlier_version_goes_on_without_overwriting_what_is_there() {
    let stage = Stage::new();
    finish(stage.begin("runs", &["--kimg", "0.016", "--pairing", "none"]));
    let run = stage.run("runs");
    // Nor did they know pairs of images.
    let options_file = run.join("training_options.json");
    let options =
        || -> serde_json::Map<String, Value> { serde_json::from_slice(&fs::read(&options_file).unwrap()).unwrap() };
    let mut former = options();
    assert!(["pairing", "r2_gamma"].iter().all(|key| former.remove(*key).is_some()));
    fs::write(&options_file, serde_json::to_string(&former).unwrap()).unwrap();
    let (manifest, grid) = (run.join("network-snapshot-000000.json"), run.join("fakes000000.png"));
    let before = (fs::read(&manifest).unwrap(), fs::read(&grid).unwrap());
    for checkpoint in Checkpoints::in_run(&run, 1).list().unwrap() {
        let path = checkpoint.folder().join("checkpoint.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(record.as_object_mut().unwrap().remove("newest").is_some());
        assert!(record["journal"].as_object_mut().unwrap().remove("steps").is_some());
        rootgan::run::checkpoint::seal(&mut record);
        fs::write(&path, record.to_string()).unwrap();
    }
    let mut command = resume(&run);
    command.args(["--override", "--kimg", "0.032"]);
    finish(command);
    assert_eq!((options()["pairing"].as_str(), options()["r2_gamma"].as_f64()), (Some("none"), Some(0.0)));
    assert!((fs::read(&manifest).unwrap(), fs::read(&grid).unwrap()) == before, "they are as they were");
    assert!(run.join("network-snapshot-000000_032.json").is_file() && run.join("fakes000000_032.png").is_file());
}

/// Waits for the first line, which comes after the first iteration.
fn wait_for_statistics(child: &mut Child, find_run: impl Fn() -> Option<PathBuf>) {
    let begun = Instant::now();
    let is_there =
        || find_run().and_then(|run| fs::metadata(run.join("stats.jsonl")).ok()).is_some_and(|file| file.len() > 0);
    while !is_there() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first line of statistics");
        assert!(begun.elapsed() < Duration::from_secs(120), "no statistics");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn signals_leave_a_checkpoint_and_a_command_to_go_on_that_a_shell_takes() {
    let stage = Stage::new();
    for (number, code, name, folder) in [
        (libc::SIGINT, 130, "SIGINT", "plain"),
        (libc::SIGTERM, 143, "SIGTERM", "Anna's $HOME \"runs\""),
        (libc::SIGHUP, 129, "SIGHUP", "$(touch x); `touch y` & \\ *"),
    ] {
        // No checkpoint by itself; more images than this test will see.
        let more = ["--kimg", "100", "--checkpoint-minutes", "60"];
        let mut child = stage.begin(folder, &more).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_statistics(&mut child, || stage.find(folder));
        let begun = Instant::now();
        // Twice, as a closed terminal and `timeout` do.
        signal(&child, number);
        signal_if_alive(&mut child, number);
        if number == libc::SIGHUP {
            std::thread::sleep(Duration::from_millis(700));
            signal_if_alive(&mut child, number);
        }
        let output = child.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(code));
        let (stderr, run) = (String::from_utf8_lossy(&output.stderr), stage.run(folder));
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with(&format!("stopped by {name} at ")), "{stderr}");
        let (_, command) = last.split_once("to go on: rootgan ").unwrap();
        let words = Command::new("bash").args(["-c", &format!("printf '%s\\n' {command}")]).output().unwrap();
        let expected = format!("finetune\n--resume\n{}\n", run.display());
        assert_eq!(String::from_utf8_lossy(&words.stdout), expected, "{stderr}");
        assert!(checkpoints(&run).last().copied() > Some(0));
    }
}

#[test]
fn under_nohup_the_end_of_the_terminal_stops_nothing() {
    let stage = Stage::new();
    let run = stage.begin("runs", &["--kimg", "0.064"]);
    // As nohup does: a signal that is ignored stays so in the program that takes the shell's place.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
    let mut child = command.env("OMP_NUM_THREADS", "1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&mut child, 0, || stage.find("runs"));
    signal_if_alive(&mut child, libc::SIGHUP);
    assert!(child.wait().unwrap().success());
    assert_eq!(checkpoints(&stage.run("runs")).last(), Some(&64));
}

#[test]
fn a_second_sigint_ends_the_program_at_once_and_the_last_checkpoint_is_whole() {
    let stage = Stage::new();
    // An iteration takes so long that the first signal alone would end the program later.
    let long = ["--kimg", "100", "--batch", "256", "--micro-batch", "8"];
    let interrupted = |outdir: &str| {
        let mut child = stage.begin(outdir, &long).spawn().unwrap();
        wait_for(&mut child, 256, || stage.find(outdir));
        signal(&child, libc::SIGINT);
        std::thread::sleep(Duration::from_millis(5));
        // Stopped by the debugger's signal, it cannot end of its own before the second is there.
        signal(&child, libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(600));
        let run = stage.run(outdir);
        let log = || fs::read_to_string(run.join("log.txt")).unwrap();
        // Where this test has to wait for a processor, the first signal can come at the very end of an iteration.
        let is_too_late = log().contains("stopped by SIGINT");
        signal_if_alive(&mut child, libc::SIGINT);
        signal_if_alive(&mut child, libc::SIGCONT);
        let status = child.wait().unwrap();
        assert!(status.code() == Some(130) && status.signal().is_none(), "{status}");
        assert!(
            is_too_late || !log().contains("stopped by SIGINT"),
            "it went on to the end of the iteration: {}",
            log()
        );
        (!is_too_late).then_some(run)
    };
    let run = ["first", "second", "third"].into_iter().find_map(interrupted);
    let run = run.expect("the second signal came too late three times");
    let seen = *checkpoints(&run).last().unwrap();
    let more = ((seen + 256) as f64 / 1000.0).to_string();
    let mut command = resume(&run);
    command.args(["--override", "--kimg", &more]);
    finish(command);
}

/// The process may have ended already: then there is nothing to send.
fn signal_if_alive(child: &mut Child, number: i32) -> bool {
    let alive = child.try_wait().unwrap().is_none();
    if alive {
        signal(child, number);
    }
    alive
}

#[test]
fn what_would_change_the_run_is_refused_and_with_override_logged() {
    let stage = Stage::new();
    finish(stage.begin("runs", &["--kimg", "0.016"]));
    let run = stage.run("runs");
    let again = |flags: &[&str]| Finetune::resume(&run).with(flags).command().assert();
    again(&[]).code(1).stderr(contains("is complete with 16 images").and(contains("--override --kimg")));
    // The same value is no change.
    again(&["--batch", "8"]).code(1).stderr(contains("is complete"));
    let refused = contains("kimg 0.016 -> 0.032").and(contains("g_lr")).and(contains("--override"));
    again(&["--kimg", "0.032", "--g-lr", "0.001"]).code(1).stderr(refused);
    again(&["--kimg", "0.032", "--g-lr", "0.001", "--override"]).success();
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("overridden: kimg 0.016 -> 0.032") && log.contains("overridden: g_lr"), "{log}");
    // What does not fit is refused, and does not become the run's option.
    again(&["--generator", "x.pt", "--override"]).code(1).stderr(contains("for the beginning of a run"));
    let frozen = ["--kimg", "0.048", "--freeze-d", "1", "--override"];
    again(&frozen).code(1).stderr(contains("was a --freeze option changed?"));
    let options: Value = serde_json::from_slice(&fs::read(run.join("training_options.json")).unwrap()).unwrap();
    assert_eq!(options["freeze_d"].as_u64(), Some(0));
    assert_eq!((options["kimg"].as_f64(), options["g_lr"].as_f64()), (Some(0.032), Some(0.001)));

    // Another picture under an old name is noticed, too.
    let (old, new) = (stage.data().join("picture001.png"), stage.data().join("picture002.png"));
    let bytes = fs::read(&old).unwrap();
    fs::copy(&new, &old).unwrap();
    again(&["--kimg", "1", "--override"]).code(1).stderr(contains("not those that the run began with"));
    fs::write(&old, bytes).unwrap();
    fs::rename(stage.data().join("picture000.png"), stage.data().join("other.png")).unwrap();
    again(&["--kimg", "1", "--override"]).code(1).stderr(contains("not those that the run began with"));
    let refused = |place: &Path| Finetune::resume(place).command().assert().code(1);
    refused(Path::new("nowhere")).stderr(contains("no such run directory"));
    refused(&stage.data()).stderr(contains("no checkpoints"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let stage = Stage::new();
    finish(stage.begin("whole", &[]));
    let mut child = stage.begin("runs", &[]).spawn().unwrap();
    let find = || stage.find("runs");
    wait_for(&mut child, 48, find);
    kill(child);
    let run = stage.run("runs");
    let newest = Checkpoints::in_run(&run, 2).list().unwrap().pop().unwrap();
    let state = newest.folder().join("state.safetensors");
    let mut bytes = fs::read(&state).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&state, bytes).unwrap();
    finish(resume(&run));
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("passed over:") && log.contains("is damaged"), "{log}");
    assert_eq!(last_state(&run), last_state(&stage.run("whole")));
    assert_eq!(statistics(&run), statistics(&stage.run("whole")));
}

#[test]
fn two_processes_cannot_work_on_one_run() {
    let stage = Stage::new();
    let mut child = stage.begin("runs", &["--kimg", "100"]).spawn().unwrap();
    let find = || stage.find("runs");
    wait_for(&mut child, 8, find);
    let second = Finetune::resume(&stage.run("runs"));
    second.command().assert().code(1).stderr(contains("another process works on the run"));
    kill(child);
}

/// A limit on the size of files stands in for a full disk: both refuse a write in the middle of a file.
#[test]
fn a_full_disk_ends_the_run_with_a_message_and_the_earlier_checkpoint_stays() {
    let stage = Stage::new();
    let mut first = stage.begin("runs", &["--kimg", "100"]).spawn().unwrap();
    let find = || stage.find("runs");
    wait_for(&mut first, 16, find);
    kill(first);
    let run = stage.run("runs");
    let before = checkpoints(&run);
    let script = "ulimit -f 200; exec \"$0\" finetune --resume \"$1\"";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_rootgan")])
        .arg(&run)
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains(
            "error: no checkpoint was written, earlier ones are intact; allow larger files (ulimit -f) and resume"
        ),
        "{stderr}"
    );
    assert_eq!(checkpoints(&run), before);
    let leftovers = fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert_eq!(leftovers, before.len() + 1, "the folder of the modules, and nothing half");
}

/// libtorch ends the program when it cannot write, so it must not be what meets the limit.
#[test]
fn networks_that_find_no_room_are_an_error_too() {
    let stage = Stage::new();
    let begin = stage.begin("runs", &[]);
    let output = Command::new("bash")
        .args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rootgan")])
        .args(begin.get_args())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot save the network to") && stderr.contains("raise the limit"), "{stderr}");
}

#[test]
fn a_run_goes_on_from_another_working_directory() {
    let stage = Stage::new();
    let more = ["--data", "discs", "--outdir", "runs", "--kimg", "0.016"];
    let mut begin = stage.begin("unused", &more);
    begin.current_dir(stage.place.path());
    finish(begin);
    let run = stage.run("runs");
    let mut again = resume(&run);
    again.args(["--override", "--kimg", "0.024"]).current_dir("/");
    finish(again);
}

#[test]
fn a_run_that_diverges_stops_with_its_last_good_checkpoint_or_goes_back_a_bounded_number_of_times() {
    let stage = Stage::new();
    let (_, far) = common::far_off_pair(stage.place.path());
    // k = 2, because with k = 20 this discriminator diverges in no step.
    let far = ["--discriminator", common::text(&far), "--max-bad-steps", "3", "--root-k", "2", "--pairing", "none"];
    let run = |outdir: &str, more: &[&str]| {
        let output = stage.begin(outdir, &[&far[..], more].concat()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (stderr.lines().last().unwrap().to_owned(), fs::read_to_string(stage.run(outdir).join("log.txt")).unwrap())
    };
    let (error, log) = run("stop", &[]);
    let place = stage.run("stop").join("checkpoints/000000000000");
    assert!(error.contains(&format!("the last good checkpoint is '{}'", place.display())), "{error}");
    assert!(error.contains("phase Gmain of iteration 2") && error.contains("--resume"), "{error}");
    assert!(!log.contains("rollback 1"), "{log}");

    let (error, log) = run("rollback", &["--on-divergence", "rollback", "--max-rollbacks", "2"]);
    assert!(log.contains("learning rates times 0.5 (rollback 1 of 2)"), "{log}");
    assert!(log.contains("learning rates times 0.25 (rollback 2 of 2)") && !log.contains("times 0.125"), "{log}");
    assert!(error.contains("the last good checkpoint is"), "{error}");
    // A kill right then would not have lost them.
    let manifest = stage.run("rollback").join("checkpoints/000000000000/checkpoint.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    assert_eq!((manifest["rollbacks"].as_u64(), manifest["trainer"]["lr_scale"].as_f64()), (Some(2), Some(0.25)));
    // The statistics went back too: tick 0 once.
    let ticks: Vec<_> = statistics(&stage.run("rollback")).iter().map(|line| line["Progress/tick"].clone()).collect();
    assert_eq!(ticks.len(), 1, "{ticks:?}");
}
