//! Networks and gradients of all four phases, through scripted modules that were saved and loaded,
//! against the numbers that the reference implementation computed: every `net_*.safetensors`.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;

use rootgan::augment::Augment;
use rootgan::model::{Discriminator, FlatParameters, Generator, NoiseMode, Truncation};
use rootgan::tensor::no_grad;
use rootgan::train::Reals;
use rootgan::train::draw::Draw;
use rootgan::train::objective::{AdversarialLoss, Rooted, Seen};
use rootgan::train::phases::{self, Judged, mean};
use rootgan::train::regularizers::{MeanPathLength, squared_gradient_norms};
use tch::{Device, Kind, Tensor};

/// Largest difference relative to the tensor's largest entry: float32 through some twenty layers
/// that are summed in another order.
const TOLERANCE: f64 = 1e-4;
/// ws and images also differ by at most this.
const ABSOLUTE: f64 = 2e-5;
const PL_WEIGHT: f64 = 2.0;
const R1_GAMMA: f64 = 10.0;

struct Case {
    name: String,
    golden: HashMap<String, Tensor>,
    g: Generator,
    d: Discriminator,
    g_flat: FlatParameters,
    d_flat: FlatParameters,
}

impl Case {
    fn load(name: &str) -> Self {
        let golden = Tensor::read_safetensors(common::golden_dir().join(name)).unwrap().into_iter().collect();
        let (generator, discriminator) = common::pair_from_golden(name);
        let mut g = Generator::load(&generator, Device::Cpu, None).unwrap();
        let mut d = Discriminator::load(&discriminator, Device::Cpu).unwrap();
        let (g_flat, d_flat) = (FlatParameters::adopt(&mut g.script), FlatParameters::adopt(&mut d.script));
        Self { name: name.to_owned(), golden, g, d, g_flat, d_flat }
    }

    fn io(&self, name: &str) -> &Tensor {
        self.golden.get(&format!("io.{name}")).unwrap_or_else(|| panic!("'{}' has no io.{name}", self.name))
    }

    fn labels(&self) -> Option<&Tensor> {
        self.golden.get("io.c")
    }

    fn draw(&self) -> Draw {
        Draw {
            z: self.io("z").shallow_clone(),
            c: self.labels().map(Tensor::shallow_clone),
            mixing: None,
            noise: NoiseMode::Const,
        }
    }

    fn reals(&self) -> Reals {
        Reals { images: self.io("x").shallow_clone(), c: self.labels().map(Tensor::shallow_clone) }
    }

    fn discriminator_main(&self, loss: &AdversarialLoss, seen: Seen) -> Judged {
        let (draw, reals, mut off) = (self.draw(), self.reals(), Augment::off());
        phases::discriminator_main(&self.g, &self.d, loss, seen, &draw, &reals, &mut off).unwrap()
    }

    fn check(&self, name: &str, found: &Tensor) {
        let expected = self.io(name);
        let difference = self.compare(&format!("io.{name}"), found, expected);
        if name.starts_with("ws") || name.starts_with("img") {
            assert!(difference <= ABSOLUTE, "{}: {name} is off by {difference}", self.name);
        }
    }

    fn compare(&self, name: &str, found: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(found.size(), expected.size(), "{}: {name}", self.name);
        let difference = (found - expected).abs().max().double_value(&[]);
        let largest = expected.abs().max().double_value(&[]);
        assert!(
            difference <= TOLERANCE * largest,
            "{}: {name} is off by {difference}, its largest entry is {largest}",
            self.name
        );
        difference
    }

    /// Compares a flat gradient with every golden `prefix.<parameter>`; what is not listed is zero.
    fn check_gradient(&self, prefix: &str, flat: &FlatParameters, gradient: &Tensor) {
        let mut compared = 0;
        for (name, found) in flat.split(gradient) {
            let key = format!("{prefix}.{name}");
            match self.golden.get(&key) {
                Some(expected) => {
                    self.compare(&key, &found, expected);
                    compared += 1;
                }
                None => assert_eq!(found.abs().max().double_value(&[]), 0.0, "{}: {key} should be zero", self.name),
            }
        }
        let listed = self.golden.keys().filter(|key| key.starts_with(&format!("{prefix}."))).count();
        assert!(listed > 0 && compared == listed, "{}: {compared} of {listed} {prefix} compared", self.name);
    }
}

/// Runs `check` on every case of the folder.
fn for_every_case(check: impl Fn(&Case)) {
    common::configure_torch();
    let files = std::fs::read_dir(common::golden_dir()).expect("the golden folder is there");
    let mut names: Vec<String> = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("net_") && name.ends_with(".safetensors"));
    names.sort();
    assert!(!names.is_empty(), "no net_*.safetensors in '{}'", common::golden_dir().display());
    names.iter().for_each(|name| check(&Case::load(name)));
}

fn rooted(k: f64) -> AdversarialLoss {
    AdversarialLoss::Rooted(Rooted::new(k, None).unwrap())
}

#[test]
fn mapping_truncation_and_w_avg_agree() {
    for_every_case(|case| {
        no_grad(|| {
            let (z, c) = (case.io("z"), case.labels());
            let ws = |psi, cutoff| case.g.mapping(z, c, Truncation { psi, cutoff }, false).unwrap();
            case.check("ws", &ws(1.0, None));
            case.check("ws_psi0.7", &ws(0.7, None));
            case.check("ws_psi0.5_cutoff4", &ws(0.5, Some(4)));
            let _ = case.g.mapping(z, c, Truncation::OFF, true).unwrap();
            let w_avg = case.g.script.parameters.iter().find(|p| p.name == "mapping.w_avg").unwrap();
            case.check("w_avg_after_one_update", &w_avg.tensor);
        });
    });
}

#[test]
fn images_and_logits_agree() {
    for_every_case(|case| {
        no_grad(|| {
            let c = case.labels();
            let image = |mode| case.g.synthesis(case.io("ws"), mode, None).unwrap();
            case.check("img_const", &image(NoiseMode::Const));
            case.check("img_none", &image(NoiseMode::None));
            case.check("d_logits_x", &case.d.logits(case.io("x"), c).unwrap());
            case.check("d_logits_fake", &case.d.logits(case.io("img_const"), c).unwrap());
        });
    });
}

#[test]
fn the_generators_main_gradient_agrees_for_logistic_and_rooted() {
    for_every_case(|case| {
        for (loss, suffix) in [(AdversarialLoss::Logistic, ""), (rooted(2.0), "_rooted_k2")] {
            let main =
                phases::generator_main(&case.g, &case.d, &loss, &case.draw(), &case.reals(), &mut Augment::off())
                    .unwrap();
            let loss = mean(&main.losses);
            case.check(&format!("loss_Gmain{suffix}"), &loss.detach());
            let gradient = case.g_flat.gradient(&loss).unwrap();
            case.check_gradient(&format!("grad_Gmain{suffix}"), &case.g_flat, &gradient);
        }
    });
}

#[test]
fn the_path_length_gradient_agrees() {
    for_every_case(|case| {
        let mut pl_mean = MeanPathLength::new(Device::Cpu);
        let noise = Some(case.io("pl_noise_unit"));
        let penalties = phases::generator_reg(&case.g, &mut pl_mean, &case.draw(), noise).unwrap();
        let loss = mean(&penalties) * PL_WEIGHT;
        case.check("loss_Gpl", &loss.detach());
        case.check("pl_mean_after", &pl_mean.pl_mean);
        let gradient = case.g_flat.gradient(&loss).unwrap();
        case.check_gradient("grad_Gpl", &case.g_flat, &gradient);
    });
}

#[test]
fn the_discriminators_real_and_r1_gradient_agrees() {
    for_every_case(|case| {
        let real = case.discriminator_main(&AdversarialLoss::Logistic, Seen::Reals);
        let norms = phases::discriminator_reg(&case.d, &case.reals(), &mut Augment::off()).unwrap();
        case.check("r1_penalty", &norms.detach());
        let loss = mean(&real.losses) + mean(&norms) * (R1_GAMMA / 2.0);
        case.check("loss_Dr1", &loss.detach());
        // The two phases take their gradients one by one.
        let real = case.discriminator_main(&AdversarialLoss::Logistic, Seen::Reals);
        let of_real = case.d_flat.gradient(&mean(&real.losses)).unwrap();
        let norms = phases::discriminator_reg(&case.d, &case.reals(), &mut Augment::off()).unwrap();
        let of_r1 = case.d_flat.gradient(&(mean(&norms) * (R1_GAMMA / 2.0))).unwrap();
        case.check_gradient("grad_Dr1", &case.d_flat, &(of_real + of_r1));
    });
}

#[test]
fn the_image_gradient_of_r1_agrees() {
    for_every_case(|case| {
        let x = case.io("x").detach().set_requires_grad(true);
        let logits = case.d.logits(&x, case.labels()).unwrap();
        let norms = squared_gradient_norms(&logits, &x).unwrap();
        let gradient = Tensor::run_backward(&[logits.sum(Kind::Float)], &[&x], false, false).remove(0);
        case.check("r1_image_grad", &gradient);
        let squares = gradient.square().sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float);
        assert!((norms.detach() - squares).abs().max().double_value(&[]) < 1e-4);
    });
}

/// The generated half has no golden gradient: it is the real half's with the logit's sign turned.
#[test]
fn the_discriminators_fake_gradient_is_that_of_the_mirrored_loss() {
    for_every_case(|case| {
        let fake = case.discriminator_main(&rooted(2.0), Seen::Fakes);
        let gradient = case.d_flat.gradient(&mean(&fake.losses)).unwrap();
        let logits = case.d.logits(case.io("img_const"), case.labels()).unwrap().flatten(0, -1);
        let slope = rooted(2.0).slope(&-logits.detach());
        let surrogate = mean(&(&logits * slope));
        let expected = case.d_flat.gradient(&surrogate).unwrap();
        case.compare("the fake gradient", &gradient, &expected);
    });
}
