//! Losses of pairs, and R2, through scripted networks: gradients against a computation that shares no code with `train`, and
//! runs from end to end.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::command::Finetune;
use rootgan::augment::{Augment, Derivatives, Draws, Transforms};
use rootgan::model::{Discriminator, FlatParameters, Generator, NoiseMode, Truncation};
use rootgan::run::snapshot::Network;
use rootgan::tensor::labels::one_hot;
use rootgan::tensor::seed::{Stream, host_rng};
use rootgan::train::Reals;
use rootgan::train::draw::Draw;
use rootgan::train::objective::{AdversarialLoss, Objective, Paired, Rooted, Seen};
use rootgan::train::phases::{self, mean};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
const N: i64 = 4;

struct Case {
    g: Generator,
    d: Discriminator,
    g_flat: FlatParameters,
    d_flat: FlatParameters,
    z: Tensor,
    x: Tensor,
    /// Classes of the generated and of the real images.
    c: [Option<Tensor>; 2],
}

impl Case {
    fn load() -> Self {
        Self::of(common::pair16(), [None, None])
    }

    /// A pair with three classes; a real and a generated image of a pair need not have the same one.
    fn labelled() -> Self {
        let classes = [[0, 1, 2, 0], [2, 1, 1, 0]].map(|classes| Some(one_hot(&classes, 3, Device::Cpu)));
        Self::of(common::pair16_labelled(), classes)
    }

    fn of((generator, discriminator): (PathBuf, PathBuf), c: [Option<Tensor>; 2]) -> Self {
        common::configure_torch();
        let mut g = Generator::load(&generator, Device::Cpu, None).unwrap();
        let mut d = Discriminator::load(&discriminator, Device::Cpu).unwrap();
        let (g_flat, d_flat) = (FlatParameters::adopt(&mut g.script), FlatParameters::adopt(&mut d.script));
        tch::manual_seed(1);
        let (z, x) = (Tensor::randn([N, g.z_dim()], FLOAT), Tensor::rand([N, 3, 16, 16], FLOAT) * 2.0 - 1.0);
        Self { g, d, g_flat, d_flat, z, x, c }
    }

    fn draw(&self) -> Draw {
        Draw {
            z: self.z.shallow_clone(),
            c: self.c[0].as_ref().map(Tensor::shallow_clone),
            mixing: None,
            noise: NoiseMode::Const,
        }
    }

    fn reals(&self) -> Reals {
        Reals { images: self.x.shallow_clone(), c: self.c[1].as_ref().map(Tensor::shallow_clone) }
    }

    /// G(z) by the script's own forward.
    fn images(&self) -> Tensor {
        self.g.images(&self.z, self.c[0].as_ref(), Truncation::OFF, NoiseMode::Const, None).unwrap()
    }

    fn of_fakes(&self, images: &Tensor) -> Tensor {
        self.d.logits(images, self.c[0].as_ref()).unwrap().view([-1])
    }

    fn of_reals(&self, images: &Tensor) -> Tensor {
        self.d.logits(images, self.c[1].as_ref()).unwrap().view([-1])
    }
}

/// `k (1 + exp(-m))^(1/k)` literally; without k the logistic loss.
fn literal(k: Option<f64>, m: &Tensor) -> Tensor {
    let sum = (-m).exp() + 1.0;
    k.map_or_else(|| sum.log(), |k| sum.pow_tensor_scalar(1.0 / k) * k)
}

fn losses() -> [(Option<f64>, Paired); 3] {
    let rooted = |k| (Some(k), Paired(AdversarialLoss::Rooted(Rooted::new(k, None).unwrap())));
    [(None, Paired(AdversarialLoss::Logistic)), rooted(2.0), rooted(20.0)]
}

fn assert_same(found: &Tensor, expected: &Tensor, what: &str) {
    let relative = (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
    assert!(relative < 1e-4, "{what} is off by {relative}");
}

#[test]
fn gradients_of_both_networks_are_those_of_the_difference_of_logits() {
    for ((k, paired), case) in losses().into_iter().flat_map(|loss| [(loss, Case::load()), (loss, Case::labelled())]) {
        let judged =
            phases::generator_main(&case.g, &case.d, &paired, &case.draw(), &case.reals(), &mut Augment::off())
                .unwrap();
        let found = case.g_flat.gradient(&mean(&judged.losses)).unwrap();
        let margins = case.of_fakes(&case.images()) - case.of_reals(&case.x).detach();
        let expected = case.g_flat.gradient(&literal(k, &margins).mean(Kind::Float)).unwrap();
        assert_same(&found, &expected, "G's gradient");

        let seen = Seen::Both;
        let judged = phases::discriminator_main(
            &case.g,
            &case.d,
            &paired,
            seen,
            &case.draw(),
            &case.reals(),
            &mut Augment::off(),
        )
        .unwrap();
        let found = case.d_flat.gradient(&mean(&judged.losses)).unwrap();
        let margins = case.of_reals(&case.x) - case.of_fakes(&case.images().detach());
        let expected = case.d_flat.gradient(&literal(k, &margins).mean(Kind::Float)).unwrap();
        assert_same(&found, &expected, "D's gradient");
        let signs = paired.signs(&judged.logits.detach());
        let mean_fake = case.of_fakes(&case.images()).mean(Kind::Float);
        let mean_real = case.of_reals(&case.x).mean(Kind::Float);
        assert_eq!(signs.reals.unwrap(), (case.of_reals(&case.x) - mean_fake).sign().detach());
        assert_eq!(signs.fakes.unwrap(), (case.of_fakes(&case.images()) - mean_real).sign().detach());
    }
}

#[test]
fn r2_is_the_squared_gradient_at_generated_images() {
    [Case::load(), Case::labelled()].iter().for_each(r2_is_right);
}

fn r2_is_right(case: &Case) {
    let fakes = phases::generated(&case.g, case.draw()).unwrap();
    let penalty = mean(&phases::discriminator_reg(&case.d, &fakes, &mut Augment::off()).unwrap());
    let images = case.images().detach().set_requires_grad(true);
    let inner = Tensor::run_backward(&[case.of_fakes(&images).sum(Kind::Float)], &[&images], true, true).remove(0);
    let expected = inner.square().sum(Kind::Float) / N as f64;
    assert_same(&penalty, &expected, "R2");
    let (found, expected) = (case.d_flat.gradient(&penalty).unwrap(), case.d_flat.gradient(&expected).unwrap());
    assert_same(&found, &expected, "R2's gradient");
}

#[test]
fn both_images_of_a_pair_go_through_the_same_transforms() {
    let case = Case::load();
    let transforms = Transforms { xflip: true, rotate90: true, ..Transforms::default() };
    let augment =
        || Augment::new(transforms, 0.5, Draws::Random(Box::new(host_rng(0, 0, Stream::AugmentDiscriminatorMain, 0))));
    let both = phases::discriminator_main(
        &case.g,
        &case.d,
        &losses()[0].1,
        Seen::Both,
        &case.draw(),
        &case.reals(),
        &mut augment(),
    )
    .unwrap();
    let (x, fakes) =
        (augment().apply(&case.x, Derivatives::First), augment().apply(&case.images(), Derivatives::First));
    let largest = |a: Option<Tensor>, b: Tensor| (a.unwrap() - b).abs().max().double_value(&[]);
    assert!(
        largest(both.logits.reals, case.of_reals(&x)) < 1e-5
            && largest(both.logits.fakes, case.of_fakes(&fakes)) < 1e-5
    );
    assert!((x - &case.x).abs().max().double_value(&[]) > 0.1, "something was transformed");
}

/// A turned image has another logit, and one of another contrast another slope of D(A(x)) by x.
#[test]
fn what_the_discriminator_sees_is_augmented_in_every_phase() {
    let (case, loss) = (Case::load(), AdversarialLoss::Logistic);
    let transforms = Transforms { rotate90: true, contrast: true, ..Transforms::default() };
    let augment =
        || Augment::new(transforms, 0.9, Draws::Random(Box::new(host_rng(0, 0, Stream::AugmentDiscriminatorReg, 0))));
    let seen = |images: &Tensor, derivatives| case.of_fakes(&augment().apply(images, derivatives));
    let (of_fakes, of_reals) = (seen(&case.images(), Derivatives::First), seen(&case.x, Derivatives::First));
    assert!((&of_reals - case.of_reals(&case.x)).abs().max().double_value(&[]) > 1e-2, "something was transformed");

    let judged = phases::generator_main(&case.g, &case.d, &loss, &case.draw(), &case.reals(), &mut augment()).unwrap();
    assert_same(&judged.losses, &literal(None, &of_fakes), "Gmain");
    let expected = case.g_flat.gradient(&literal(None, &of_fakes).mean(Kind::Float)).unwrap();
    assert_same(&case.g_flat.gradient(&mean(&judged.losses)).unwrap(), &expected, "G's gradient");
    for (kind, margins) in [(Seen::Fakes, -of_fakes.detach()), (Seen::Reals, of_reals)] {
        let (draw, reals) = (case.draw(), case.reals());
        let judged = phases::discriminator_main(&case.g, &case.d, &loss, kind, &draw, &reals, &mut augment()).unwrap();
        assert_same(&judged.losses, &literal(None, &margins), &format!("Dmain of {kind:?}"));
    }
    let found = phases::discriminator_reg(&case.d, &case.reals(), &mut augment()).unwrap();
    let x = case.x.detach().set_requires_grad(true);
    let logits = seen(&x, Derivatives::Second);
    let slope = Tensor::run_backward(&[logits.sum(Kind::Float)], &[&x], true, true).remove(0);
    assert_same(&found, &slope.square().sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float), "Dreg");
}

#[test]
fn a_run_of_pairs_is_the_same_however_it_is_interrupted() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("discs");
    common::picture_folder(&data, 12, 16);
    let run = |outdir: &str, kimg: &str| {
        let options =
            ["--pairing", "relativistic", "--loss", "rooted", "--r1-gamma", "1", "--r1-interval", "2", "--kimg", kimg];
        let micro = ["--micro-batch", "4", "--checkpoint-minutes", "0", "--tick-kimg", "0.016"];
        Finetune::new(&common::pair16(), &data, &place.path().join(outdir)).with(options).with(micro).run()
    };
    let (whole, half) = (run("whole", "0.064"), run("half", "0.032"));
    assert!(whole.to_string_lossy().contains("rooted20-paired-batch8"), "{}", whole.display());
    Finetune::resume(&half).with(["--override", "--kimg", "0.064"]).command().assert().success();
    let weights = |run: &std::path::Path, network| {
        let path = rootgan::run::snapshot::find(run).unwrap().path_of(network).to_owned();
        let script = rootgan::model::ScriptModule::load(&path, Device::Cpu).unwrap();
        script.parameters.iter().map(|p| p.tensor.detach().copy()).collect::<Vec<_>>()
    };
    for network in Network::ALL {
        let found = weights(&half, network);
        assert!(!found.is_empty() && weights(&whole, network) == found, "{}", network.name());
    }

    let stats = std::fs::read_to_string(whole.join("stats.jsonl")).unwrap();
    let lines: Vec<Value> = stats.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let total = |name: &str| lines.iter().filter_map(|line| line[name]["num"].as_f64()).sum::<f64>();
    // 8 iterations of 8 images, every second with both penalties; reals are counted in D's step.
    assert_eq!((total("Loss/r1_penalty"), total("Loss/r2_penalty"), total("Loss/D/reg")), (32.0, 32.0, 32.0));
    assert_eq!((total("Loss/G/loss"), total("Loss/scores/real")), (64.0, 64.0));
    let options: Value = serde_json::from_slice(&std::fs::read(whole.join("training_options.json")).unwrap()).unwrap();
    assert_eq!((options["pairing"].as_str(), options["r2_gamma"].as_f64()), (Some("relativistic"), Some(1.0)));
}
