//! The metrics against what independent implementations computed on the same features.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use rootgan::metrics::frechet::frechet_distance;
use rootgan::metrics::inception_score::inception_score;
use rootgan::metrics::kernel::squared_mmd;
use rootgan::metrics::manifold::precision_recall;
use rootgan::metrics::moments::Moments;
use rootgan::model::weights;
use serde_json::Value;
use tch::{Device, Tensor};

/// Relative; KID, which is near 0, absolute.
const TOLERANCE: f64 = 1e-6;

/// (`reals` [600, 32], `fakes` [500, 32], `probabilities` [400, 10], the numbers).
fn golden() -> (Tensor, Tensor, Tensor, Value) {
    let folder = common::golden_dir();
    let file = weights::read(&folder.join("features.safetensors")).unwrap();
    let tensor = |name: &str| {
        let found = file.tensors.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no tensor '{name}'")).1.shallow_clone()
    };
    let numbers = std::fs::read_to_string(folder.join("metrics.json")).unwrap();
    (tensor("real"), tensor("fake"), tensor("probs"), serde_json::from_str(&numbers).unwrap())
}

fn check(found: f64, numbers: &Value, name: &str) {
    let expected = numbers[name].as_f64().unwrap_or_else(|| panic!("no number '{name}'"));
    assert!((found - expected).abs() <= TOLERANCE * expected.abs(), "{name}: {found}, expected {expected}");
}

#[test]
fn the_frechet_distance_is_the_published_one() {
    let (reals, fakes, _, numbers) = golden();
    check(frechet_distance(&Moments::from_features(&reals), &Moments::from_features(&fakes)).unwrap(), &numbers, "fid");
    // Batches of any size add up to the same.
    let mut streamed = Moments::new(32, Device::Cpu);
    for batch in fakes.split(33, 0) {
        streamed.add(&batch);
    }
    check(frechet_distance(&streamed, &Moments::from_features(&reals)).unwrap(), &numbers, "fid");
}

#[test]
fn the_kernel_distance_of_one_subset_is_the_published_one() {
    let (reals, fakes, _, numbers) = golden();
    let found = squared_mmd(&reals.narrow(0, 0, 500), &fakes.narrow(0, 0, 500));
    let expected = numbers["kid_single_subset_of_first_500_each"].as_f64().unwrap();
    assert!((found - expected).abs() <= TOLERANCE, "{found}, expected {expected}");
}

#[test]
fn precision_and_recall_are_the_published_ones() {
    let (reals, fakes, _, numbers) = golden();
    let found = precision_recall(&reals, &fakes, 3).unwrap();
    check(found.precision, &numbers, "precision_k3_fp32");
    check(found.recall, &numbers, "recall_k3_fp32");
}

#[test]
fn the_inception_score_and_its_deviation_are_the_published_ones() {
    let (_, _, probabilities, numbers) = golden();
    let (mean, std) = inception_score(&probabilities, 10).unwrap();
    check(mean, &numbers, "inception_score_mean_10_splits");
    check(std, &numbers, "inception_score_std");
}
