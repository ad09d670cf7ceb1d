//! The maths of the examples: losses of many classes, and the max-margin direction.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;
// What only the examples use of them is not used here.
#[allow(dead_code)]
#[path = "../examples/separable/max_margin.rs"]
mod max_margin;
#[allow(dead_code)]
#[path = "../examples/digits/objective.rs"]
mod objective;

use max_margin::{angle_degrees, dot, kkt_residual, max_margin};
use objective::{Objective, true_class_margin};
use rootgan::train::objective::{AdversarialLoss, Rooted};
use serde_json::Value;
use tch::{Kind, Tensor};

/// A few roundings of float64.
const TOLERANCE: f64 = 1e-12;

/// Two classes whose true one has the margin z.
fn two_classes(z: f64) -> (Tensor, Tensor) {
    (Tensor::from_slice(&[z / 2.0, -z / 2.0]).view([1, 2]), Tensor::from_slice(&[0i64]))
}

fn of_two_classes(objective: Objective, z: f64) -> f64 {
    let (logits, labels) = two_classes(z);
    objective.of(&logits, &labels).unwrap().double_value(&[0])
}

/// [8, 5] and [8].
fn many_classes() -> (Tensor, Tensor) {
    let logits: Vec<f64> = (0..40).map(|i| 3.0 * f64::from(i * i % 17 - 8) / 8.0).collect();
    (Tensor::from_slice(&logits).view([8, 5]), Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0, 1, 2]))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn with_two_classes_the_rooted_loss_is_the_binary_one() {
    for k in [1.0, 2.0, 20.0] {
        for z in [-30.0, -1.0, 0.0, 2.0, 40.0] {
            let binary = AdversarialLoss::Rooted(Rooted::new(k, None).unwrap()).excess(&Tensor::from(z));
            assert_eq!(of_two_classes(Objective::Rooted(k), z), binary.double_value(&[]), "k = {k}, z = {z}");
        }
    }
}

#[test]
fn with_many_classes_the_losses_are_roots_of_the_softmax_probability() {
    let (logits, labels) = many_classes();
    let p = logits.softmax(1, None::<Kind>).gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
    assert!(largest_difference(&true_class_margin(&logits, &labels).sigmoid(), &p) < TOLERANCE);
    let cross_entropy = Objective::CrossEntropy.of(&logits, &labels).unwrap();
    assert!(largest_difference(&cross_entropy, &-p.log()) < TOLERANCE);
    for k in [1.0, 2.0, 5.0] {
        let rooted = Objective::Rooted(k).of(&logits, &labels).unwrap();
        let plain: Tensor = p.pow_tensor_scalar(-1.0 / k) * k - k;
        assert!(((&rooted - &plain) / &plain).abs().max().double_value(&[]) < 1e-10, "k = {k}");
        let bounded = Objective::Bounded(k).of(&logits, &labels).unwrap();
        let plain: Tensor = k - p.pow_tensor_scalar(1.0 / k) * k;
        assert!(largest_difference(&bounded, &plain) < TOLERANCE, "k = {k}");
    }
}

#[test]
fn cross_entropy_lies_between_bounded_and_rooted_which_tend_to_it_as_k_grows() {
    let (logits, labels) = many_classes();
    let of = |objective: Objective| objective.of(&logits, &labels).unwrap();
    let cross_entropy = of(Objective::CrossEntropy);
    for k in [1.0, 5.0, 100.0] {
        let above = of(Objective::Rooted(k)) - &cross_entropy;
        let below = &cross_entropy - of(Objective::Bounded(k));
        assert!(above.min().double_value(&[]) > 0.0 && below.min().double_value(&[]) > 0.0, "k = {k}");
    }
    // They differ by (log p)^2 / (2 k) and smaller terms.
    for objective in [Objective::Rooted(1e8), Objective::Bounded(1e8)] {
        assert!(largest_difference(&of(objective), &cross_entropy) < 1e-6, "{objective:?}");
    }
}

#[test]
fn the_bounded_form_has_the_golden_values() {
    let text = std::fs::read_to_string(common::golden_dir().join("loss.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let rows = file["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let (k, z) = (row["k"].as_f64().unwrap(), row["logit"].as_f64().unwrap());
        let exact: f64 = row["bounded"].as_str().unwrap().parse().unwrap();
        let found = of_two_classes(Objective::Bounded(k), z);
        assert!((found - exact).abs() <= TOLERANCE * exact, "k = {k}, logit {z}: {found}, not {exact}");
    }
}

#[test]
fn gradients_are_finite_where_a_class_is_certain() {
    for objective in [Objective::CrossEntropy, Objective::Rooted(2.0), Objective::Bounded(2.0)] {
        for z in [-60.0, 0.0, 60.0] {
            let (logits, labels) = two_classes(z);
            let logits = logits.to_kind(Kind::Float).set_requires_grad(true);
            let loss = objective.of(&logits, &labels).unwrap().sum(Kind::Float);
            let gradient = &Tensor::run_backward(&[loss], &[&logits], false, false)[0];
            assert!(gradient.isfinite().all().int64_value(&[]) == 1, "{objective:?} at {z}");
        }
    }
}

#[test]
fn the_max_margin_of_two_points_is_half_way_between_them() {
    let found = max_margin(&[vec![3.0, 4.0], vec![4.0, 3.0]]).unwrap();
    // The residual of 1e-11 has the factor alpha = 1/49: the points' distances from the margin are known to 5e-10.
    assert!(angle_degrees(&[1.0, 1.0], &found.direction) < 1e-6);
    assert!((found.margin - 7.0 / 2f64.sqrt()).abs() < 1e-7);
    assert_eq!(found.support, 2);
}

/// A point within the wedge of two others changes nothing, one that is nearer does.
#[test]
fn only_points_on_the_margin_count() {
    let found = max_margin(&[vec![1.0, 2.0], vec![1.0, -2.0], vec![5.0, 1.0]]).unwrap();
    assert!(angle_degrees(&found.direction, &[1.0, 0.0]) < 1e-8 && found.support == 2);
    let found = max_margin(&[vec![0.5, 0.0], vec![1.0, 2.0], vec![1.0, -2.0]]).unwrap();
    assert!((found.margin - 0.5).abs() < 1e-9);
}

/// By the conditions themselves, and by directions nearby, of which none has a wider margin.
#[test]
fn the_max_margin_solution_meets_its_conditions() {
    let points: Vec<Vec<f64>> = (0..30)
        .map(|i| {
            let i = f64::from(i);
            vec![1.0 + (1.7 * i).sin(), 1.2 + (2.3 * i).cos(), 1.5 + (3.1 * i).sin()]
        })
        .collect();
    let found = max_margin(&points).unwrap();
    assert!(found.kkt_residual < 1e-10, "{:e}", found.kkt_residual);
    let margin_of =
        |u: &[f64]| points.iter().map(|point| dot(point, u)).fold(f64::INFINITY, f64::min) / dot(u, u).sqrt();
    assert!((margin_of(&found.direction) - found.margin).abs() < 1e-9);
    for entry in 0..3 {
        for change in [-1e-3, 1e-3] {
            let mut other = found.direction.clone();
            other[entry] += change;
            assert!(margin_of(&other) <= found.margin + 1e-9, "entry {entry}, {change}");
        }
    }
}

#[test]
fn a_missed_condition_is_measured() {
    let points = [vec![1.0, 0.0], vec![0.0, 1.0]];
    assert_eq!(kkt_residual(&points, &[1.0, 1.0], &[1.0, 1.0]), 0.0);
    assert_eq!(kkt_residual(&points, &[0.5, 1.0], &[0.5, 1.0]), 0.5);
    assert_eq!(kkt_residual(&points, &[-1.0, 1.0], &[1.0, 1.0]), 2.0);
}

#[test]
fn points_that_no_plane_separates_are_an_error() {
    let message = max_margin(&[vec![1.0, 0.0], vec![-1.0, 0.0]]).unwrap_err().to_string();
    assert!(message.contains("cannot separate the 2 points"), "{message}");
}
