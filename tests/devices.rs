//! `rootgan devices --check`: a device's numbers against the CPU's, here those of the CPU itself.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{pair16, pair16_labelled, rootgan};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

fn check((generator, discriminator): &(PathBuf, PathBuf), more: &[&str]) -> assert_cmd::Command {
    let mut command = rootgan();
    command.args(["devices", "--check", "--device", "cpu", "--images", "4", "--generator"]).arg(generator);
    command.arg("--discriminator").arg(discriminator).args(more);
    command
}

#[test]
fn the_cpu_agrees_with_itself_to_the_last_bit_and_in_16_bits_about() {
    for pair in [pair16(), pair16_labelled()] {
        let output = check(&pair, &["--json"]).assert().success().get_output().stdout.clone();
        let report: Value = serde_json::from_slice(&output).unwrap();
        let differences = report["relative_differences"].as_object().unwrap();
        let exact = differences["fp32"].as_object().unwrap();
        assert_eq!(exact.len(), 14);
        assert!(exact.values().all(|value| value == 0.0), "{exact:?}");
        let rounded = differences["bf16"].as_object().unwrap();
        for name in ["images", "gradient of Gmain", "gradient of Dreg (second order)"] {
            let value = rounded[name].as_f64().unwrap();
            assert!(value > 1e-4 && value < 0.2, "{name}: {value}");
        }
        // What no network has a part in does not depend on its precision.
        for name in ["augmented images", "Adam's change of G", "averaged generator"] {
            assert_eq!(rounded[name], 0.0, "{name}");
        }
    }
}

#[test]
fn the_table_names_bounds_beside_every_group() {
    check(&pair16(), &[])
        .assert()
        .success()
        .stdout(contains("gradient of Greg").and(contains("allowed for these")).and(contains("bf16")));
}

#[test]
fn a_check_needs_a_pair_and_images() {
    rootgan().args(["devices", "--check"]).assert().code(1).stderr(contains("--generator"));
    check(&pair16(), &["--images", "0"]).assert().code(1).stderr(contains("--images 1 or more"));
}
