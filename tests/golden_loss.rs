//! The losses and their first two derivatives against exact values, for every row of `loss.json`.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use rootgan::train::objective::{AdversarialLoss, Rooted};
use serde_json::Value;
use tch::{Kind, Tensor};

/// Relative tolerances: a few roundings of the format.
const FLOAT64: f64 = 1e-12;
const FLOAT32: f64 = 1e-5;

struct Row {
    k: f64,
    logit: f64,
    values: Value,
}

impl Row {
    fn exact(&self, name: &str) -> f64 {
        self.values[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no number '{name}'"))
    }
}

fn rows() -> Vec<Row> {
    let path = common::golden_dir().join("loss.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap();
    let rows = file["rows"].as_array().expect("a list of rows").iter();
    let rows: Vec<Row> = rows
        .map(|row| Row { k: row["k"].as_f64().unwrap(), logit: row["logit"].as_f64().unwrap(), values: row.clone() })
        .collect();
    assert!(!rows.is_empty(), "'{}' has no rows", path.display());
    rows
}

/// Value, first and second derivative by differentiating the loss itself twice.
fn with_derivatives(loss: &AdversarialLoss, logit: f64, kind: Kind) -> [f64; 3] {
    let z = Tensor::from_slice(&[logit]).to_kind(kind).set_requires_grad(true);
    let value = loss.of(&z);
    let first = Tensor::run_backward(&[&value], &[&z], true, true).remove(0);
    let second = Tensor::run_backward(&[&first], &[&z], false, false).remove(0);
    [value, first, second].map(|tensor| tensor.double_value(&[0]))
}

/// Values that float32 has no normal number for, above or below, are not asked of it.
fn fits_float32(value: f64) -> bool {
    value == 0.0 || (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&value.abs())
}

fn check(row: &Row, name: &str, found: f64, kind: Kind) {
    let exact = row.exact(name);
    let tolerance = if kind == Kind::Double { FLOAT64 } else { FLOAT32 };
    if kind == Kind::Float && !fits_float32(exact) {
        return;
    }
    let error = (found - exact).abs();
    assert!(
        error <= tolerance * exact.abs(),
        "{name} at k {} and logit {}: {found}, exact {exact} ({kind:?})",
        row.k,
        row.logit
    );
}

#[test]
fn rooted_and_its_two_derivatives_are_exact() {
    for row in rows() {
        let loss = AdversarialLoss::Rooted(Rooted::new(row.k, None).unwrap());
        for kind in [Kind::Double, Kind::Float] {
            // The derivatives pass through the value: where that overflows, they do.
            if kind == Kind::Float && !fits_float32(row.exact("rooted")) {
                continue;
            }
            let found = with_derivatives(&loss, row.logit, kind);
            for (name, value) in ["rooted", "d_rooted", "d2_rooted"].into_iter().zip(found) {
                check(&row, name, value, kind);
            }
        }
    }
}

#[test]
fn the_closed_slope_is_exact() {
    for row in rows() {
        let loss = AdversarialLoss::Rooted(Rooted::new(row.k, None).unwrap());
        let slope = |kind| -loss.slope(&Tensor::from_slice(&[row.logit]).to_kind(kind)).double_value(&[0]);
        check(&row, "d_rooted", slope(Kind::Double), Kind::Double);
        check(&row, "d_rooted", slope(Kind::Float), Kind::Float);
    }
}

#[test]
fn the_excess_and_the_logistic_loss_are_exact() {
    for row in rows() {
        let loss = AdversarialLoss::Rooted(Rooted::new(row.k, None).unwrap());
        for kind in [Kind::Double, Kind::Float] {
            let z = Tensor::from_slice(&[row.logit]).to_kind(kind);
            check(&row, "rooted_minus_k", loss.excess(&z).double_value(&[0]), kind);
            check(&row, "logistic", AdversarialLoss::Logistic.of(&z).double_value(&[0]), kind);
        }
    }
}

#[test]
fn no_loss_is_nan_or_infinite_where_the_exact_value_fits_in_float32() {
    for row in rows().iter().filter(|row| fits_float32(row.exact("rooted"))) {
        let loss = AdversarialLoss::Rooted(Rooted::new(row.k, None).unwrap());
        for value in with_derivatives(&loss, row.logit, Kind::Float) {
            assert!(value.is_finite(), "k {} and logit {}: {value}", row.k, row.logit);
        }
    }
}
