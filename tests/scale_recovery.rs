//! Training in several processes where steps diverge or memory runs out: all of them go on in the same way, or end.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;
use common::runs::statistics;
use common::scripted::scripted_pair;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rootgan::run::checkpoint::Checkpoints;
use rootgan::tensor::seed::{Stream, seed_torch};
use serde_json::Value;

/// Longer than any of these runs takes: one that waits for another process that has gone another way never ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// Trains this pair in two processes, on pictures and in a folder of runs that lie in `place`.
fn in_two_processes(pair: &(PathBuf, PathBuf), place: &Path, outdir: &str) -> Finetune {
    let data = place.join("discs");
    if !data.exists() {
        common::picture_folder(&data, 10, 16);
    }
    Finetune::new(pair, &data, &place.join(outdir)).with(["--processes=2"])
}

/// The only run in this folder of runs.
fn run_in(outdir: &Path) -> PathBuf {
    let runs: Vec<_> = fs::read_dir(outdir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    run.clone()
}

#[test]
fn several_processes_that_diverge_end_with_one_message() {
    let place = tempfile::tempdir().unwrap();
    let pair = common::far_off_pair(place.path());
    let command = in_two_processes(&pair, place.path(), "runs").with(["--kimg=1"]);
    let assert = command
        .with(["--root-k=2", "--pairing=none", "--max-bad-steps=2"])
        .command()
        .timeout(PATIENCE)
        .assert()
        .code(1);
    let stderr = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    // Of the first process, and of the one that started it.
    assert!(errors.len() == 2 && errors[0].contains("the last good checkpoint is"), "{stderr}");
    assert!(errors[1].contains("process 0 of 2 failed; its message is above"), "{stderr}");
}

/// The second process goes back to the same weights and pictures as the first, so that the first iteration is done again
/// as one process does it.
#[test]
fn several_processes_that_diverge_go_back_together() {
    let place = tempfile::tempdir().unwrap();
    let pair = common::far_off_pair(place.path());
    let rollback =
        ["--root-k=2", "--pairing=none", "--max-bad-steps=2", "--on-divergence=rollback", "--max-rollbacks=1"];
    let same = ["--kimg=1", "--micro-batch=4"];
    let score_after_rollback = |processes: &str| {
        let command =
            in_two_processes(&pair, place.path(), processes).with(rollback).with(same).with(["--processes", processes]);
        let assert = command.command().timeout(PATIENCE).assert().code(1);
        let stderr = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(stderr.contains("error: ") && stderr.contains("phase Gmain of iteration 1"), "{stderr}");
        let run = run_in(&place.path().join(processes));
        let log = fs::read_to_string(run.join("log.txt")).unwrap();
        assert!(log.contains("back to 0.0 kimg with the learning rates times 0.5 (rollback 1 of 1)"), "{log}");
        let manifest = fs::read(run.join("checkpoints/000000000000/checkpoint.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!((manifest["rollbacks"].as_u64(), manifest["trainer"]["lr_scale"].as_f64()), (Some(1), Some(0.5)));
        statistics(&run)[0]["Loss/scores/real"]["mean"].as_f64().unwrap()
    };
    let (one, two) = (score_after_rollback("1"), score_after_rollback("2"));
    assert!((one - two).abs() < 1e-4, "{one} {two}");
}

/// Lacks memory for more than eight images where the first latent of a micro-batch begins with a number above 0.
const TIGHT_FOR_SOME: &str = r#"
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.w_avg = torch.nn.Parameter(torch.zeros(8), requires_grad=False)
        self.lacks = False

    def check(self, images: int):
        if images > 8 and self.lacks:
            raise RuntimeError("CUDA out of memory")

    def mapped(self, z: torch.Tensor):
        self.lacks = bool(z[0, 0] > 0)
        self.w_avg.copy_(torch.lerp(z.detach().mean(dim=0), self.w_avg, 0.9))
"#;

/// A seed with which the first latent of this micro-batch of the first phase, and of no other, begins above 0.
fn seed_that_lacks_in(place: u64, micro_batches: u64) -> u64 {
    let lacks = |seed: u64, place: u64| {
        seed_torch(seed, 0, Stream::GeneratorMain, place);
        tch::Tensor::randn([16, 8], (tch::Kind::Float, tch::Device::Cpu)).double_value(&[0, 0]) > 0.0
    };
    let found = (0..100).find(|&seed| (0..micro_batches).all(|at| lacks(seed, at) == (at == place)));
    found.expect("half of all numbers are above 0")
}

#[test]
fn memory_that_one_process_lacks_makes_the_micro_batches_of_all_smaller() {
    let place = tempfile::tempdir().unwrap();
    let pair = scripted_pair(place.path(), TIGHT_FOR_SOME);
    let seed = format!("--seed={}", seed_that_lacks_in(1, 2));
    let course = |micro_batch: &str| {
        let options = ["--batch=32", "--kimg=0.096", "--shrink-micro-batch", "--r1-interval=2", "--g-lr=0.001"];
        let command = in_two_processes(&pair, place.path(), micro_batch).with(options).with([micro_batch, &seed]);
        command.command().timeout(PATIENCE).assert().success();
        let run = run_in(&place.path().join(micro_batch));
        let last = Checkpoints::in_run(&run, 1).list().unwrap().pop().unwrap();
        let state = rootgan::model::weights::read(&last.folder().join("state.safetensors")).unwrap();
        let mut tensors: BTreeMap<_, _> = state.tensors.into_iter().collect();
        tensors.retain(|name, _| !name.starts_with("stats."));
        (tensors, fs::read_to_string(run.join("log.txt")).unwrap())
    };
    let ((shrunk, log), (small, other)) = (course("--micro-batch=16"), course("--micro-batch=8"));
    assert!(shrunk.contains_key("G.w_avg") && shrunk.contains_key("adam.d.square"));
    assert_eq!(shrunk, small);
    let notice = "out of memory in Gmain; going on with --micro-batch 8 instead of 16";
    assert!(log.contains(notice) && !other.contains("out of memory"), "{log}");
}
