//! Every transform and group of the augmentation against the reference's numbers, for every key of `ada.safetensors`:
//! `<name>.p<percentile>.r<size>` is `input.r<size>` with each draw at that percentile of its distribution.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;

use common::alone;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rootgan::augment::{Derivatives, Draws, Transforms};
use tch::{Device, Kind, Tensor};

/// float32 through two resamplings; pixels are in about [-1, 1].
const TOLERANCE: f64 = 2e-5;

fn transforms(name: &str) -> Transforms {
    let mut t = Transforms::default();
    match name {
        "xflip" => t.xflip = true,
        "rotate90" => t.rotate90 = true,
        "xint" => t.xint = true,
        "scale" => t.scale = true,
        "rotate" => t.rotate = true,
        "aniso" => t.aniso = true,
        "xfrac" => t.xfrac = true,
        "brightness" => t.brightness = true,
        "contrast" => t.contrast = true,
        "lumaflip" => t.lumaflip = true,
        "hue" => t.hue = true,
        "saturation" => t.saturation = true,
        "imgfilter" => t.imgfilter = [true; 4],
        _ => match name.strip_prefix("imgfilter_band") {
            Some(band) => t.imgfilter[band.parse::<usize>().unwrap()] = true,
            None => t = Transforms::named(name).unwrap_or_else(|| panic!("no transform or pipe '{name}'")),
        },
    }
    t
}

fn golden() -> HashMap<String, Tensor> {
    Tensor::read_safetensors(common::golden_dir().join("ada.safetensors")).unwrap().into_iter().collect()
}

fn normal(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (kind, Device::Cpu))
}

fn seeded() -> Draws {
    Draws::Random(Box::new(ChaCha8Rng::seed_from_u64(5)))
}

#[test]
fn every_transform_gives_the_reference_pixels() {
    let _alone = alone();
    let golden = golden();
    let mut compared = 0;
    for (key, expected) in &golden {
        if key.starts_with("input.") || key.starts_with("const.") {
            continue;
        }
        let (rest, size) = key.rsplit_once(".r").expect("a key ends in its size");
        let (name, percentile) = rest.split_once(".p").expect("a key has a percentile");
        for order in [Derivatives::First, Derivatives::Second] {
            let mut draws = Draws::Percentile(percentile.parse().unwrap());
            let found = transforms(name).apply(&golden[&format!("input.r{size}")], 1.0, order, &mut draws);
            let difference = (found - expected).abs().max().double_value(&[]);
            assert!(difference <= TOLERANCE, "{key} is off by {difference} ({order:?})");
        }
        compared += 1;
    }
    assert!(compared > 0, "no cases in '{}'", common::golden_dir().display());
}

#[test]
fn with_p_zero_the_pipe_is_the_identity_bit_for_bit() {
    let _alone = alone();
    let images = normal(&[2, 3, 16, 16], Kind::Float);
    assert_eq!(Transforms::named("bgcfnc").unwrap().apply(&images, 0.0, Derivatives::First, &mut seeded()), images);
}

#[test]
fn the_smallest_networks_and_grey_images_are_augmented_too() {
    let _alone = alone();
    for shape in [[2, 3, 16, 16], [2, 1, 16, 16], [1, 3, 8, 4]] {
        let images = normal(&shape, Kind::Float);
        let out = Transforms::named("bgcfnc").unwrap().apply(&images, 0.9, Derivatives::First, &mut seeded());
        assert_eq!(out.size(), shape);
        assert_eq!(out.isfinite().all().int64_value(&[]), 1);
    }
}

/// The pipes with noise have no golden numbers. They are their groups one after the other, which have (but for the
/// noise, whose statistics are tested beside it).
#[test]
fn the_long_pipes_are_their_groups_in_order() {
    let _alone = alone();
    let images = normal(&[2, 3, 16, 16], Kind::Float);
    for percentile in [0.25, 0.8] {
        let apply = |pipe: &str, images: &Tensor| {
            tch::manual_seed(6);
            let mut draws = Draws::Percentile(percentile);
            Transforms::named(pipe).unwrap().apply(images, 1.0, Derivatives::First, &mut draws)
        };
        let bgcfn = apply("noise", &apply("bgcf", &images));
        assert_eq!(apply("bgcfn", &images), bgcfn);
        assert_eq!(apply("bgcfnc", &images), apply("cutout", &bgcfn));
        assert_ne!(bgcfn, apply("bgcf", &images));
    }
}

/// In float64, where nothing is lost: the same pixels, and the same gradient of a curved function of them.
#[test]
fn the_fast_way_and_the_one_that_can_be_differentiated_twice_agree() {
    let _alone = alone();
    let images = normal(&[4, 3, 16, 24], Kind::Double);
    let of = |order| {
        let x = images.detach().set_requires_grad(true);
        let seen = Transforms::named("bgcf").unwrap().apply(&x, 0.7, order, &mut seeded());
        let gradient = Tensor::run_backward(&[seen.sin().sum(Kind::Double)], &[&x], false, false).remove(0);
        (seen, gradient)
    };
    let (fast, slow) = (of(Derivatives::First), of(Derivatives::Second));
    for (fast, slow) in [(fast.0, slow.0), (fast.1, slow.1)] {
        assert!((fast - slow).abs().max().double_value(&[]) < 1e-10);
    }
}

/// The gradient penalty of a curved critic through the augmentation: its derivative by autograd, a gradient of a
/// gradient, against a finite difference in float64.
#[test]
fn the_second_derivative_agrees_with_a_finite_difference() {
    let _alone = alone();
    let (images, direction) = (normal(&[2, 3, 16, 16], Kind::Double), normal(&[2, 3, 16, 16], Kind::Double));
    let weight = normal(&[1, 3, 16, 16], Kind::Double) * 0.1;
    let penalty = |x: &Tensor| {
        let pipe = Transforms::named("bgcf").unwrap();
        let seen = pipe.apply(x, 0.9, Derivatives::Second, &mut seeded());
        let logits = (seen * &weight).sin().sum(Kind::Double);
        Tensor::run_backward(&[logits], &[x], true, true).remove(0).square().sum(Kind::Double)
    };
    let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
    let x = leaf(&images);
    let gradient = Tensor::run_backward(&[penalty(&x)], &[&x], false, false).remove(0);
    let along = (gradient * &direction).sum(Kind::Double).double_value(&[]);
    let at = |t: f64| penalty(&leaf(&(&images + &direction * t))).double_value(&[]);
    let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
    assert!((along - difference).abs() <= 1e-5 * along.abs(), "{along} by autograd, {difference} by difference");
}
