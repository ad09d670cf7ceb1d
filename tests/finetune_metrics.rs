//! Metrics during a run: every snapshot measured, the best one kept, and a failure that ends nothing.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::{Finetune, run_folder};

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

fn finetune(place: &Path, condition: &str, more: &[&str]) -> PathBuf {
    run_folder(&mut command(place, condition, more))
}

fn command(place: &Path, condition: &str, more: &[&str]) -> assert_cmd::Command {
    let mut command = finetune_with(place, condition, more).command();
    command.env("XDG_CACHE_HOME", place.join("cache"));
    command
}

fn finetune_with(place: &Path, condition: &str, more: &[&str]) -> Finetune {
    let detector = common::detector_that_fails(place, condition);
    common::picture_folder(&place.join("discs"), 12, 16);
    Finetune::new(&common::pair16(), &place.join("discs"), &place.join("runs"))
        .with(["--tick-kimg", "0.016", "--snapshot-ticks", "1"])
        .with(["--metrics", "fid20_full", "--detector", common::text(&detector)])
        .with(more)
}

fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metric-fid20_full.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_snapshot_is_measured_from_before_the_training_on_and_the_best_is_named() {
    let place = tempfile::tempdir().unwrap();
    let run = finetune(place.path(), "False", &["--kimg", "0.064"]);
    let lines = lines(&run);
    let kimg: Vec<f64> = lines.iter().map(|line| line["kimg"].as_f64().unwrap()).collect();
    assert_eq!(kimg, [0.0, 0.024, 0.04, 0.056, 0.064]);
    let values: Vec<f64> = lines.iter().map(|line| line["results"]["fid20_full"].as_f64().unwrap()).collect();
    let best: Value = serde_json::from_slice(&fs::read(run.join("best.json")).unwrap()).unwrap();
    let least = values[1..].iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(best["value"].as_f64(), Some(least));
    // Every snapshot is there, and the best one is that of its images.
    let manifest = |path: &Path| rootgan::run::snapshot::SnapshotManifest::read(path).unwrap().seen_images;
    let seen: Vec<u64> =
        rootgan::run::snapshot::all(&run).unwrap().iter().map(|files| manifest(&files.manifest)).collect();
    assert_eq!(seen, [24, 40, 56, 64]);
    let measured = values.iter().position(|&value| value == least).unwrap();
    assert_eq!(manifest(&run.join(best["snapshot"].as_str().unwrap())), seen[measured - 1]);
    assert_eq!(lines[measured]["snapshot_pkl"], best["snapshot"]);
    // The last line is what `rootgan metrics` says of the last snapshot.
    let output = common::rootgan()
        .args(["metrics", "--device", "cpu", "--metrics", "fid20_full", "--json", "--from", common::text(&run)])
        .args(["--detector", common::text(&place.path().join("detector.pt")), "--outdir"])
        .arg(place.path().join("out"))
        .args(["--data", common::text(&place.path().join("discs"))])
        .env("XDG_CACHE_HOME", place.path().join("cache"))
        .assert()
        .success();
    let again: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(again["results"]["fid20_full"].as_f64(), values.last().copied());
}

/// As earlier versions did, whose snapshots of one kimg shared a name.
#[test]
fn a_best_snapshot_whose_name_another_one_took_is_the_best_no_more() {
    let place = tempfile::tempdir().unwrap();
    let run = finetune(place.path(), "False", &["--kimg", "0.016"]);
    let best = || serde_json::from_slice::<Value>(&fs::read(run.join("best.json")).unwrap()).unwrap();
    assert_eq!(
        (best()["snapshot"].as_str(), best()["kimg"].as_f64()),
        (Some("network-snapshot-000000.json"), Some(0.016))
    );
    rootgan::run::snapshot::SnapshotFiles::at(&run, 0).write_manifest(12, Value::Null).unwrap();
    let mut command = Finetune::resume(&run).with(["--override", "--kimg", "0.032"]).command();
    command.env("XDG_CACHE_HOME", place.path().join("cache")).assert().success();
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("'network-snapshot-000000.json', is gone or another's"), "{log}");
    assert_eq!(best()["snapshot"], "network-snapshot-000000_032.json");
}

/// The learning rate is so low that all snapshots make the same pictures: the first stays the best.
#[test]
fn only_so_many_snapshots_are_kept_and_the_best_besides_them() {
    let place = tempfile::tempdir().unwrap();
    let run = finetune(place.path(), "False", &["--kimg", "0.064", "--keep-snapshots", "1", "--g-lr", "1e-30"]);
    let best: Value = serde_json::from_slice(&fs::read(run.join("best.json")).unwrap()).unwrap();
    assert_eq!((best["snapshot"].as_str(), lines(&run).len()), (Some("network-snapshot-000000.json"), 5));
    let kept = rootgan::run::snapshot::all(&run).unwrap();
    let names: Vec<_> = kept.iter().map(|files| files.manifest.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["network-snapshot-000000.json", "network-snapshot-000000_064.json"]);
    for files in kept {
        assert!(files.g_ema.is_file() && files.g.is_file() && files.d.is_file());
    }
}

#[test]
fn a_detector_that_fails_is_a_warning_and_the_run_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let run = finetune(place.path(), "True", &["--kimg", "0.04"]);
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("warning: the metrics at 0.0 kimg failed: ") && log.contains("made to fail"), "{log}");
    assert!(log.lines().last().unwrap().starts_with("done: 0.0 kimg"), "{log}");
    assert!(!run.join("best.json").exists());
}

/// Starts the program and sends it SIGTERM once `is_time` says so: it ends within seconds.
fn interrupt(run: &Finetune, place: &Path, is_time: impl Fn() -> bool) {
    let mut child = run.process().env("XDG_CACHE_HOME", place.join("cache")).spawn().unwrap();
    let begun = Instant::now();
    while !is_time() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was its time");
        assert!(begun.elapsed() < Duration::from_secs(120), "its time never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    // SAFETY: a signal to a process of this test.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(asked.elapsed() < Duration::from_secs(40), "{:?}", asked.elapsed());
}

/// Metrics of a million pictures take minutes. A signal ends the program in the middle of them, at the beginning and at the
/// end of a run, and what is due is made when the run goes on.
#[test]
fn a_signal_does_not_wait_for_metrics_and_they_are_made_when_the_run_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let more = ["--kimg", "0.016", "--metrics", "fid1000k_full"];
    let begun = finetune_with(place.path(), "False", &more);
    let found = || fs::read_dir(place.path().join("runs")).ok()?.flatten().map(|run| run.path()).next();
    interrupt(&begun, place.path(), || found().is_some_and(|run| run.join("fakes_init.png").is_file()));
    let run = found().unwrap();
    let due = |checkpoint: &str| -> Value {
        let path = run.join("checkpoints").join(checkpoint).join("checkpoint.json");
        serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["due"].take()
    };
    assert_eq!(due("000000000000"), serde_json::json!(["first_metrics"]));
    let resumed = Finetune::resume(&run).with(["--override"]);
    let go_on = || {
        let mut command = resumed.clone().with(["--metrics", "fid20_full"]).command();
        command.env("XDG_CACHE_HOME", place.path().join("cache")).assert().success();
        lines(&run).iter().map(|line| line["kimg"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(go_on(), [0.0, 0.016]);

    let longer = resumed.clone().with(["--kimg", "0.032", "--metrics", "fid1000k_full"]);
    let manifest = run.join("network-snapshot-000000_032.json");
    let is_last = || fs::read_to_string(&manifest).is_ok_and(|text| text.contains("\"seen_images\": 32"));
    interrupt(&longer, place.path(), is_last);
    assert_eq!(due("000000000032"), serde_json::json!(["metrics"]));
    assert_eq!(go_on(), [0.0, 0.016, 0.032]);
    assert_eq!(due("000000000032"), serde_json::json!([]));
}
