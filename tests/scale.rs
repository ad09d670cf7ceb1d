//! Training in several processes: the same weights as in one, the same end after processes died, and no rank left behind.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;
use common::runs::{statistics, wait_for};

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use rootgan::run::checkpoint::Checkpoints;

/// 15 iterations of 12 images (so that signs wait for ADA at the end) with everything that is drawn or shared: labels, mirroring, mixing, path length, R1,
/// an augmentation that adapts, micro-batches.
const OPTIONS: [&str; 18] = [
    "--batch=12",
    "--micro-batch=2",
    "--kimg=0.18",
    "--tick-kimg=0.048",
    "--snapshot-ticks=0",
    "--image-ticks=0",
    "--style-mixing=0.9",
    "--pl-weight=2",
    "--pl-interval=2",
    "--r1-gamma=1",
    "--r1-interval=4",
    "--aug=ada",
    "--ada-kimg=0.2",
    "--target=-0.5",
    "--init-p=0.3",
    "--mirror",
    "--seed=3",
    "--g-lr=0.001",
];

type Tensors = BTreeMap<String, tch::Tensor>;

struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        common::picture_folder(&stage.data(), 10, 16);
        let classes: Vec<_> = (0..10).map(|at| serde_json::json!([format!("picture{at:03}.png"), at % 3])).collect();
        fs::write(stage.data().join("dataset.json"), serde_json::json!({ "labels": classes }).to_string()).unwrap();
        stage
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("discs")
    }

    fn finetune(&self, outdir: &str) -> Finetune {
        Finetune::new(&common::pair16_labelled(), &self.data(), &self.0.path().join(outdir)).with(OPTIONS)
    }

    /// The newest run in its folder of runs.
    fn run(&self, outdir: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(self.0.path().join(outdir)).ok()?;
        entries.flatten().map(|entry| entry.path()).max()
    }
}

/// The command under torchrun, which restarts it `restarts` times.
fn torchrun(command: &Finetune, processes: usize, restarts: usize) -> Command {
    let inner = command.process();
    let mut torchrun = Command::new(common::root().join(".venv/bin/torchrun"));
    torchrun
        .args(["--standalone", "--no-python", &format!("--nproc-per-node={processes}")])
        .arg(format!("--max-restarts={restarts}"))
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    torchrun
}

fn finish(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn last_checkpoint(run: &Path) -> PathBuf {
    let last = Checkpoints::in_run(run, 1).list().unwrap().pop().unwrap();
    assert_eq!(last.seen_images, 180);
    last.folder().to_owned()
}

fn last_bytes(run: &Path) -> Vec<u8> {
    fs::read(last_checkpoint(run).join("state.safetensors")).unwrap()
}

fn last_tensors(run: &Path) -> Tensors {
    rootgan::model::weights::read(&last_checkpoint(run).join("state.safetensors"))
        .unwrap()
        .tensors
        .into_iter()
        .collect()
}

/// The length of the difference of all tensors whose names begin so, as a share of their own length.
fn relative_difference(one: &Tensors, other: &Tensors, prefix: &str) -> f64 {
    let squares = |tensor: &tch::Tensor| {
        let tensor = tensor.to_kind(tch::Kind::Double);
        tensor.square().sum(tch::Kind::Double).double_value(&[])
    };
    let named: Vec<_> = one.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
    assert!(!named.is_empty(), "{prefix}");
    let difference: f64 = named.iter().map(|(name, tensor)| squares(&(*tensor - &other[*name]))).sum();
    (difference / named.iter().map(|(_, tensor)| squares(tensor)).sum::<f64>()).sqrt()
}

#[test]
fn several_processes_train_as_one_does() {
    let stage = Stage::new();
    let one = stage.finetune("one").run();
    let (expected, lines) = (last_tensors(&one), statistics(&one));
    for processes in ["2", "3"] {
        let outdir = format!("of{processes}");
        finish(stage.finetune(&outdir).with(["--processes", processes]).process());
        let run = stage.run(&outdir).unwrap();
        let found = last_tensors(&run);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        // A bias that has only begun to leave 0 may differ more: Adam divides its gradient by the gradient's own size,
        // and so the rounding in it too. Gradients, and so the optimisers' means, differ by more where rounding takes a
        // value near 0 to the other side of a leaky ReLU; sums of the wrong size would be off by a half and more.
        let (weights, means) = (["G.", "G_ema.", "D."], ["adam.g.", "adam.d.", "pl_mean"]);
        let tolerances = weights.map(|name| (name, 1e-5)).into_iter().chain(means.map(|name| (name, 3e-2)));
        for (network, tolerance) in tolerances {
            let difference = relative_difference(&expected, &found, network);
            assert!(difference < tolerance, "{processes} processes: {network} differs by {difference:e}");
        }
        let others = statistics(&run);
        assert_eq!(lines.len(), others.len(), "{processes} processes: ticks");
        for (line, theirs) in lines.iter().zip(others) {
            assert_eq!(line.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
            for (name, value) in line {
                assert_eq!(value["num"], theirs[name]["num"], "{processes} processes: values of {name}");
                let (mean, other) = (value["mean"].as_f64().unwrap(), theirs[name]["mean"].as_f64().unwrap());
                assert!((mean - other).abs() <= 1e-2 * mean.abs().max(1e-3), "{processes}: {name} {mean} {other}");
            }
        }
    }
    // What there was to share: p has moved, and path length and R1 were computed.
    let last = lines.last().unwrap();
    assert!(last["Progress/augment"]["mean"].as_f64().unwrap() != 0.3 && last.contains_key("Loss/pl_penalty"));
}

#[test]
fn one_process_under_torchrun_is_one_process() {
    let stage = Stage::new();
    let plain = stage.finetune("plain").run();
    finish(torchrun(&stage.finetune("launched"), 1, 0));
    let launched = stage.run("launched").unwrap();
    assert!(last_bytes(&plain) == last_bytes(&launched));
    assert_eq!(statistics(&plain), statistics(&launched));
}

#[test]
fn processes_that_die_are_started_again_and_come_to_the_same_end() {
    let stage = Stage::new();
    finish(stage.finetune("whole").with(["--processes=2"]).process());
    let command = stage.finetune("killed").with(["--checkpoint-minutes=0"]);
    let mut torchrun = torchrun(&command, 2, 3).spawn().unwrap();
    for (rank, seen_images) in [(1, 24), (0, 84)] {
        wait_for(&mut torchrun, seen_images, || stage.run("killed"));
        kill_rank(torchrun.id(), rank);
    }
    let output = torchrun.wait_with_output().unwrap();
    let (whole, killed) = (stage.run("whole").unwrap(), stage.run("killed").unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(last_bytes(&whole) == last_bytes(&killed), "another state");
    assert_eq!(statistics(&whole), statistics(&killed));
    let log = fs::read_to_string(killed.join("log.txt")).unwrap();
    assert_eq!(log.matches("resumed at ").count(), 2, "{log}");
}

#[test]
fn another_number_of_processes_goes_on_where_the_first_stopped() {
    let stage = Stage::new();
    let whole = stage.finetune("whole").run();
    let begun = stage.finetune("begun").with(["--kimg=0.096"]).run();
    finish(Finetune::resume(&begun).with(["--override", "--kimg=0.18", "--processes=2"]).process());
    for network in ["G.", "G_ema.", "D."] {
        let difference = relative_difference(&last_tensors(&whole), &last_tensors(&begun), network);
        assert!(difference < 1e-5, "{network} differs by {difference:e}");
    }
    let log = fs::read_to_string(begun.join("log.txt")).unwrap();
    assert!(log.contains("the run had 1 process and goes on with 2"), "{log}");
}

/// 100 fakes are three batches of 32 and one of 4, so that the last round has no batch for some of the processes.
fn measured(stage: &Stage, outdir: &str, condition: &str) -> Finetune {
    let detector = common::detector_that_fails(stage.0.path(), condition);
    stage.finetune(outdir).with(["--kimg=0.024", "--metrics=fid100_full", "--detector"]).with([common::text(&detector)])
}

fn first_metric(run: &Path) -> serde_json::Value {
    let text = fs::read_to_string(run.join("metric-fid100_full.jsonl")).unwrap();
    let mut line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["kimg"].as_f64(), Some(0.0));
    line["results"].take()
}

#[test]
fn metrics_and_dumps_of_several_processes_are_those_of_one() {
    let stage = Stage::new();
    let one = measured(&stage, "one", "False").run();
    for processes in ["2", "3"] {
        let outdir = format!("of{processes}");
        finish(measured(&stage, &outdir, "False").with(["--processes", processes]).process());
        let found = stage.run(&outdir).unwrap();
        assert_eq!(first_metric(&one), first_metric(&found), "{processes} processes");
        assert!(found.join("best.json").exists(), "the end was measured as well");
    }
    let dump = |out: &str, more: &[&str]| {
        let mut command = common::rootgan();
        let generator = common::pair16().0;
        command.args(["dump", "--generator", common::text(&generator), "--count=70", "--batch=16"]).args(more);
        command.arg("--out").arg(stage.0.path().join(out));
        command.assert()
    };
    let pictures = |out: &str| -> Vec<Vec<u8>> {
        (0..70).map(|index| fs::read(stage.0.path().join(out).join(format!("{index:06}.png"))).unwrap()).collect()
    };
    dump("plain", &[]).success();
    dump("shared", &["--processes=3"]).success().stdout(contains("70 pictures"));
    assert!(pictures("plain") == pictures("shared"));
    // What is missing is made again by whoever has its batch.
    for index in [3, 40, 69] {
        fs::remove_file(stage.0.path().join("shared").join(format!("{index:06}.png"))).unwrap();
    }
    dump("shared", &["--processes=2"]).success().stderr(contains("67 of 70"));
    assert!(pictures("plain") == pictures("shared"));
    dump("shared.npz", &["--processes=2"]).code(1).stderr(contains("dump to a folder"));
}

#[test]
fn a_metric_that_fails_in_one_process_ends_in_all_and_training_goes_on() {
    let stage = Stage::new();
    // The batch of 4 is that of the second process.
    finish(measured(&stage, "runs", "x.shape[0] == 4").with(["--processes=2"]).process());
    let log = fs::read_to_string(stage.run("runs").unwrap().join("log.txt")).unwrap();
    assert!(log.contains("warning: the metrics at 0.0 kimg failed: process 1: "), "{log}");
    assert!(log.contains("made to fail") && log.contains("done: "), "{log}");
}

#[test]
fn a_batch_that_cannot_be_shared_is_refused_with_the_nearest_that_can() {
    let stage = Stage::new();
    let command = stage.finetune("none").with(["--batch=10", "--micro-batch=2", "--processes=3"]);
    let refused = command.command().assert().code(1);
    refused.stderr(contains("--batch 10 cannot be shared by 3 processes; pass 9 or 12"));
    assert!(stage.run("none").is_none(), "nothing was begun");
}

#[test]
fn a_signal_to_one_process_ends_all_with_a_checkpoint() {
    let stage = Stage::new();
    let command = stage.finetune("runs").with(["--kimg=100", "--processes=2", "--checkpoint-minutes=0"]);
    let mut parent = command.process().spawn().unwrap();
    wait_for(&mut parent, 24, || stage.run("runs"));
    let second = process_of_rank(parent.id(), 1);
    // SAFETY: the process is a child of one that has not been waited for.
    assert_eq!(unsafe { libc::kill(second, libc::SIGTERM) }, 0);
    let begun = Instant::now();
    assert_eq!(parent.wait().unwrap().code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let log = fs::read_to_string(stage.run("runs").unwrap().join("log.txt")).unwrap();
    assert!(log.contains("stopped by SIGTERM at "), "{log}");
    let run = stage.run("runs").unwrap();
    assert!(log.contains(&format!("rootgan finetune --resume {} --processes 2", run.display())), "{log}");
}

/// A terminal sends Ctrl-C to the group of the parent, which hands it on: to the others it comes once, however late.
#[test]
fn the_signals_of_a_terminal_come_by_the_parent_alone_and_nobody_outlives_it() {
    let stage = Stage::new();
    let command = stage.finetune("runs").with(["--kimg=100", "--processes=2", "--checkpoint-minutes=0"]);
    let mut parent = command.process().process_group(0).spawn().unwrap();
    wait_for(&mut parent, 24, || stage.run("runs"));
    // SAFETY: the group is that of a child that has not been waited for.
    let send = |signal| assert_eq!(unsafe { libc::kill(-(parent.id() as i32), signal) }, 0);
    send(libc::SIGSTOP);
    send(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(700));
    let others = [0, 1].map(|rank| process_of_rank(parent.id(), rank));
    send(libc::SIGCONT);
    assert_eq!(parent.wait().unwrap().code(), Some(130));
    let log = fs::read_to_string(stage.run("runs").unwrap().join("log.txt")).unwrap();
    assert!(log.contains("stopped by SIGINT at "), "{log}");
    assert!(others.iter().all(|&number| has_ended(number)));

    let again = Finetune::resume(&stage.run("runs").unwrap()).with(["--processes=2"]);
    let mut parent = again.process().spawn().unwrap();
    let others = [0, 1].map(|rank| process_of_rank(parent.id(), rank));
    parent.kill().unwrap();
    parent.wait().unwrap();
    let begun = Instant::now();
    while !others.iter().all(|&number| has_ended(number)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "a process has outlived its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_micro_batch_of_a_run_that_goes_on_in_more_processes_consists_of_whole_groups() {
    let stage = Stage::new();
    let begun = stage.finetune("runs").with(["--batch=24", "--micro-batch=8", "--kimg=0.024"]).run();
    finish(Finetune::resume(&begun).with(["--override", "--kimg=0.048", "--processes=2"]).process());
    let log = fs::read_to_string(begun.join("log.txt")).unwrap();
    assert!(log.contains("12 images of a batch: going on with --micro-batch 4, "), "{log}");
}

/// Whether the process is gone, or has ended and not been waited for.
fn has_ended(number: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    matches!(stat.rsplit(')').next().unwrap_or_default().split_whitespace().next(), None | Some("Z" | "X"))
}

fn kill_rank(parent: u32, rank: u64) {
    // SAFETY: the process is a child of one that has not been waited for.
    assert_eq!(unsafe { libc::kill(process_of_rank(parent, rank), libc::SIGKILL) }, 0);
}

/// The number of the process whose parent is `parent` and whose environment says `RANK=rank`.
fn process_of_rank(parent: u32, rank: u64) -> i32 {
    let (wanted, begun) = (format!("RANK={rank}"), Instant::now());
    while begun.elapsed() < Duration::from_secs(30) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let stat = read("stat");
            let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            let (state, is_child) = (fields.next(), fields.next() == Some(&parent.to_string()));
            if is_child && state != Some("Z") && read("environ").split('\0').any(|variable| variable == wanted) {
                return number;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("process {parent} has no child of rank {rank}");
}
