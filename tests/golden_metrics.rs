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

/// `reals` [N, F], `fakes` [M, F] and `probabilities` [K, classes], and the numbers that were computed from them.
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

/// The number in the name of a golden value, such as 500 in `kid_single_subset_of_first_500_each`.
fn number_in(numbers: &Value, before: &str, after: &str) -> i64 {
    let names = numbers.as_object().unwrap().keys();
    let mut found = names.filter_map(|name| name.strip_prefix(before)?.strip_suffix(after)?.parse().ok());
    found.next().unwrap_or_else(|| panic!("no number '{before}N{after}'"))
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
    let mut streamed = Moments::new(fakes.size()[1], Device::Cpu);
    for batch in fakes.split(33, 0) {
        streamed.add(&batch);
    }
    check(frechet_distance(&streamed, &Moments::from_features(&reals)).unwrap(), &numbers, "fid");
}

#[test]
fn the_kernel_distance_of_one_subset_is_the_published_one() {
    let (reals, fakes, _, numbers) = golden();
    let n = number_in(&numbers, "kid_single_subset_of_first_", "_each");
    let found = squared_mmd(&reals.narrow(0, 0, n), &fakes.narrow(0, 0, n));
    let expected = numbers[format!("kid_single_subset_of_first_{n}_each")].as_f64().unwrap();
    assert!((found - expected).abs() <= TOLERANCE, "{found}, expected {expected}");
}

#[test]
fn precision_and_recall_are_the_published_ones() {
    let (reals, fakes, _, numbers) = golden();
    let k = number_in(&numbers, "precision_k", "_fp32");
    let found = precision_recall(&reals, &fakes, k).unwrap();
    check(found.precision, &numbers, &format!("precision_k{k}_fp32"));
    check(found.recall, &numbers, &format!("recall_k{k}_fp32"));
}

#[test]
fn the_inception_score_and_its_deviation_are_the_published_ones() {
    let (_, _, probabilities, numbers) = golden();
    let splits = number_in(&numbers, "inception_score_mean_", "_splits");
    let (mean, std) = inception_score(&probabilities, splits).unwrap();
    check(mean, &numbers, &format!("inception_score_mean_{splits}_splits"));
    check(std, &numbers, "inception_score_std");
}
