//! Runs that go on with other options, or after a kill that left newer outputs than the checkpoint: what holds then, and
//! what is told.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;
use common::runs::checkpoints;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use predicates::str::contains;
use rootgan::run::snapshot;
use serde_json::Value;

struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        common::picture_folder(&stage.0.path().join("discs"), 10, 16);
        stage
    }

    fn begin(&self, pair: &(PathBuf, PathBuf)) -> Finetune {
        Finetune::new(pair, &self.0.path().join("discs"), &self.0.path().join("runs")).with(["--pl-weight=0"])
    }

    /// The only run, as soon as there is one.
    fn run(&self) -> Option<PathBuf> {
        fs::read_dir(self.0.path().join("runs")).ok()?.flatten().map(|entry| entry.path()).next()
    }
}

fn log(run: &Path) -> String {
    fs::read_to_string(run.join("log.txt")).unwrap()
}

/// The images that each snapshot has seen, and the names of the numbered grids.
fn outputs(run: &Path) -> (Vec<u64>, Vec<String>) {
    let all = snapshot::all(run).unwrap();
    let seen = all.iter().map(|files| snapshot::SnapshotManifest::read(&files.manifest).unwrap().seen_images).collect();
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    (seen, names.filter(|name| name.starts_with("fakes0")).collect())
}

/// The only checkpoint is that of the beginning: snapshots and grids that came later are of a course that is given up.
#[test]
fn a_killed_run_that_goes_on_with_other_options_forgets_the_outputs_of_the_old_course() {
    let stage = Stage::new();
    let every_tick = ["--tick-kimg=0.016", "--snapshot-ticks=1", "--image-ticks=1", "--checkpoint-minutes=60"];
    let mut child = stage.begin(&common::pair16()).with(every_tick).with(["--kimg=100"]).process().spawn().unwrap();
    let begun = Instant::now();
    while stage.run().is_none_or(|run| snapshot::all(&run).unwrap_or_default().len() < 2) {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = stage.run().unwrap();
    assert_eq!(checkpoints(&run), [0]);
    Finetune::resume(&run).with(["--override", "--g-lr=0.0005", "--kimg=0.008"]).command().assert().success();
    assert_eq!(outputs(&run), (vec![8], vec!["fakes000000.png".to_owned()]));
    assert_eq!(snapshot::find(&run).unwrap().number, 0.into());
    assert!(log(&run).contains("overridden: g_lr 0.0025 -> 0.0005"), "{}", log(&run));
    assert!(log(&run).contains("follows from that: d_lr 0.0025 -> 0.0005"), "{}", log(&run));
    assert!(!log(&run).contains("follows from that: snapshot_ticks"), "it was chosen: {}", log(&run));
}

#[test]
fn what_belongs_to_the_beginning_is_refused_and_the_log_keeps_why_a_run_did_not_go_on() {
    let stage = Stage::new();
    let run = stage.begin(&common::pair16()).with(["--kimg=0.008"]).run();
    for option in ["--subset=5", "--subset-seed=1", "--desc=other"] {
        let refused = Finetune::resume(&run).with(["--override", "--kimg=0.016", option]);
        refused.command().assert().code(1).stderr(contains("for the beginning of a run"));
    }
    let frozen = Finetune::resume(&run).with(["--override", "--kimg=0.016", "--freeze-d=1"]);
    frozen.command().assert().code(1).stderr(contains("was a --freeze option changed?"));
    let log = log(&run);
    assert!(log.lines().last().unwrap().starts_with("error: cannot go on from"), "{log}");
}

#[test]
fn the_factor_of_rollbacks_is_told_until_new_learning_rates_are_given() {
    let stage = Stage::new();
    let pair = common::far_off_pair(stage.0.path());
    let rollback =
        ["--max-bad-steps=2", "--root-k=2", "--pairing=none", "--on-divergence=rollback", "--max-rollbacks=1"];
    stage.begin(&pair).with(["--kimg=1"]).with(rollback).command().assert().code(1);
    let run = stage.run().unwrap();
    let manifest = || -> (Value, Value) {
        let text = fs::read(run.join("checkpoints/000000000000/checkpoint.json")).unwrap();
        let mut manifest: Value = serde_json::from_slice(&text).unwrap();
        (manifest["rollbacks"].take(), manifest["trainer"]["lr_scale"].take())
    };
    assert_eq!(manifest(), (1.into(), 0.5.into()));
    Finetune::resume(&run).command().assert().code(1);
    assert!(log(&run).contains("learning rates times 0.5 since rollback 1"), "{}", log(&run));
    let stop = ["--override", "--g-lr=0.001", "--on-divergence=stop"];
    Finetune::resume(&run).with(stop).command().assert().code(1);
    assert!(log(&run).contains("the new learning rates hold as they are"), "{}", log(&run));
    assert_eq!(manifest(), (0.into(), 1.0.into()));
    // The same rates once more are no new ones.
    Finetune::resume(&run).with(stop).command().assert().code(1);
    assert_eq!(log(&run).matches("the new learning rates hold").count(), 1, "{}", log(&run));
}
