//! What one iteration sums up: the gradient of every phase over its micro-batches, with the weight that it has, and the
//! averages that follow. The expected values are gradients of the phases' losses, one micro-batch after the other.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::alone;
use rootgan::augment::{Augment, Draws, Transforms};
use rootgan::config::{AugmentMode, LossKind, Options};
use rootgan::model::{FreezeSettings, Generator, Truncation};
use rootgan::run::networks::NetworkFiles;
use rootgan::tensor::no_grad;
use rootgan::tensor::seed::{Stream, host_rng, seed_torch};
use rootgan::train::draw::Draw;
use rootgan::train::objective::{AdversarialLoss, Seen};
use rootgan::train::phases::{self, mean};
use rootgan::train::regularizers::MeanPathLength;
use rootgan::train::state::Tensors;
use rootgan::train::{Networks, Reals, Statistics, Trainer};
use tch::{Device, Kind, Tensor};

const BATCH: u64 = 4;
const SEED: u64 = 7;
const MIXING: f64 = 0.9;
const P: f64 = 0.5;
const OBJECTIVE: AdversarialLoss = AdversarialLoss::Logistic;

fn networks() -> Networks {
    common::configure_torch();
    let (generator, discriminator) = common::pair16();
    let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
    files.load(FreezeSettings::default(), Device::Cpu).unwrap()
}

fn reals() -> Reals {
    tch::manual_seed(1);
    Reals::unlabelled(Tensor::rand([BATCH as i64, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0 - 1.0)
}

/// No regularisation, and learning rates so small that all phases of an iteration see the same weights.
fn options(micro_batch: u64) -> Options {
    Options {
        seed: Some(SEED),
        batch: Some(BATCH),
        micro_batch: Some(micro_batch),
        loss: Some(LossKind::Logistic),
        style_mixing: Some(MIXING),
        aug: Some(AugmentMode::Fixed),
        augpipe: Some("blit".into()),
        p: Some(P),
        pl_weight: Some(0.0),
        r1_gamma: Some(0.0),
        g_lr: Some(1e-12),
        d_lr: Some(1e-12),
        ..Options::default()
    }
}

/// A trainer after its first iteration, and its state.
fn iterated(options: Options) -> (Trainer, Tensors) {
    let mut trainer = common::trainer(networks(), options);
    let mut stats = Statistics::default();
    trainer.iterate(&reals(), &mut stats).unwrap();
    let (_, tensors) = trainer.state(&stats);
    (trainer, tensors)
}

/// What the first iteration draws for one micro-batch of a phase.
fn draw(g: &Generator, stream: Stream, place: u64, count: u64) -> Draw {
    seed_torch(SEED, 0, stream, place);
    Draw::sample(g, None, count, MIXING, &mut host_rng(SEED, 0, stream, place))
}

fn augment(stream: Stream, place: u64) -> Augment {
    let draws = Draws::Random(Box::new(host_rng(SEED, 0, stream, place)));
    Augment::new(Transforms::named("blit").unwrap(), P, draws)
}

fn mean_over_micro_batches(micro_batch: u64, of: impl FnMut(u64) -> Tensor) -> Tensor {
    let all: Vec<_> = (0..BATCH / micro_batch).map(of).collect();
    Tensor::stack(&all, 0).mean_dim([0i64].as_slice(), false, Kind::Float)
}

/// The gradient of Gmain over the batch.
fn generator_main(n: &Networks, micro_batch: u64) -> Tensor {
    mean_over_micro_batches(micro_batch, |place| {
        let part = reals().narrow(place * micro_batch, micro_batch);
        let draw = draw(&n.g, Stream::GeneratorMain, place, micro_batch);
        let mut augment = augment(Stream::AugmentGeneratorMain, place);
        let judged = phases::generator_main(&n.g, &n.d, &OBJECTIVE, &draw, &part, &mut augment).unwrap();
        n.g_flat.gradient(&mean(&judged.losses)).unwrap()
    })
}

/// The gradient of Dmain over the batch.
fn discriminator_main(n: &Networks, micro_batch: u64) -> Tensor {
    mean_over_micro_batches(micro_batch, |place| {
        let part = reals().narrow(place * micro_batch, micro_batch);
        let draw = draw(&n.g, Stream::DiscriminatorMain, place, micro_batch);
        let mut augment = augment(Stream::AugmentDiscriminatorMain, place);
        let mut gradient = |seen| {
            let judged = phases::discriminator_main(&n.g, &n.d, &OBJECTIVE, seen, &draw, &part, &mut augment).unwrap();
            n.d_flat.gradient(&mean(&judged.losses)).unwrap()
        };
        gradient(Seen::Fakes) + gradient(Seen::Reals)
    })
}

/// The squares that an optimiser's second step has added, from its running mean and the gradient of the first step.
fn squares_of_second_step(mean_square: &Tensor, first: &Tensor, beta2: f64) -> Tensor {
    mean_square / (1.0 - beta2) - first.square() * beta2
}

fn assert_same(found: &Tensor, expected: &Tensor, what: &str) {
    let relative = (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
    assert!(relative < 1e-3, "{what} is off by {relative}");
}

#[test]
fn a_batch_in_micro_batches_has_the_mean_of_their_gradients_and_of_what_they_do_to_w_avg() {
    let _alone = alone();
    for micro_batch in [4, 2, 1] {
        let (trainer, after) = iterated(options(micro_batch));
        let n = networks();
        let mut w_avg = weight(&n.g, "mapping.w_avg");
        for (name, beta2, gradient) in [
            ("adam.g.square", trainer.settings().g_adam.beta2, generator_main(&n, micro_batch)),
            ("adam.d.square", trainer.settings().d_adam.beta2, discriminator_main(&n, micro_batch)),
        ] {
            let what = format!("{name} with micro-batches of {micro_batch}");
            assert_same(&after[name], &(gradient.square() * (1.0 - beta2)), &what);
        }
        for stream in [Stream::GeneratorMain, Stream::DiscriminatorMain] {
            let mean_w = mean_over_micro_batches(micro_batch, |place| {
                let z = draw(&n.g, stream, place, micro_batch).z;
                let ws = no_grad(|| n.g.mapping(&z, None, Truncation::OFF, false).unwrap());
                ws.select(1, 0).mean_dim([0i64].as_slice(), false, Kind::Float)
            });
            w_avg = w_avg.lerp(&mean_w, 0.005);
        }
        assert_same(&after["G.mapping.w_avg"], &w_avg, "w_avg");
    }
}

#[test]
fn path_length_steps_by_its_weight_times_its_interval_and_moves_pl_mean_by_the_mean_of_all_micro_batches() {
    let _alone = alone();
    for (weight, interval, micro_batch) in [(2.0, 4, 4), (2.0, 1, 4), (5.0, 4, 2)] {
        let (pl_weight, pl_interval) = (Some(weight), Some(interval));
        let (trainer, after) = iterated(Options { pl_weight, pl_interval, ..options(micro_batch) });
        let n = networks();
        let mut pl_means = Vec::new();
        let gradient = mean_over_micro_batches(micro_batch, |place| {
            let draw = draw(&n.g, Stream::GeneratorReg, place, micro_batch / 2);
            let mut pl_mean = MeanPathLength::new(Device::Cpu);
            let penalties = phases::generator_reg(&n.g, &mut pl_mean, &draw, None).unwrap();
            pl_means.push(pl_mean.pl_mean.double_value(&[]));
            n.g_flat.gradient(&(mean(&penalties) * (weight * interval as f64))).unwrap()
        });
        let first = generator_main(&n, micro_batch);
        let found = squares_of_second_step(&after["adam.g.square"], &first, trainer.settings().g_adam.beta2);
        assert_same(&found, &gradient.square(), &format!("weight {weight}, interval {interval}"));
        let expected = pl_means.iter().sum::<f64>() / pl_means.len() as f64;
        let found = after["pl_mean"].double_value(&[]);
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn r1_and_r2_step_by_half_their_gamma_times_their_interval() {
    let _alone = alone();
    for (r1, r2, interval, micro_batch) in [(30.0, 0.0, 16, 4), (0.0, 30.0, 4, 4), (30.0, 20.0, 1, 2)] {
        let (r1_gamma, r2_gamma, r1_interval) = (Some(r1), Some(r2), Some(interval));
        let (trainer, after) = iterated(Options { r1_gamma, r2_gamma, r1_interval, ..options(micro_batch) });
        let n = networks();
        let gradient = mean_over_micro_batches(micro_batch, |place| {
            let part = reals().narrow(place * micro_batch, micro_batch);
            let draw = draw(&n.g, Stream::DiscriminatorReg, place, micro_batch);
            let fakes = phases::generated(&n.g, draw).unwrap();
            let mut augment = augment(Stream::AugmentDiscriminatorReg, place);
            let terms = [(r1, part), (r2, fakes)].into_iter().filter(|(gamma, _)| *gamma != 0.0);
            let gradients = terms.map(|(gamma, images)| {
                let norms = phases::discriminator_reg(&n.d, &images, &mut augment).unwrap();
                n.d_flat.gradient(&(mean(&norms) * (gamma / 2.0 * interval as f64))).unwrap()
            });
            gradients.reduce(|sum, term| sum + term).unwrap()
        });
        let first = discriminator_main(&n, micro_batch);
        let found = squares_of_second_step(&after["adam.d.square"], &first, trainer.settings().d_adam.beta2);
        assert_same(&found, &gradient.square(), &format!("gammas {r1} and {r2}, interval {interval}"));
    }
}

fn weight(g: &Generator, name: &str) -> Tensor {
    g.script.parameters.iter().find(|p| p.name == name).unwrap().tensor.detach().copy()
}

/// With a half-life of 10 images a batch of 4 leaves 0.5^0.4 of the average; with a ramp-up of half the images seen, the
/// first step leaves nothing, and the second, after 4 images, 0.5^2.
#[test]
fn the_averaged_generator_follows_by_the_half_life() {
    let _alone = alone();
    for (rampup, kept) in [(0.0, [0.5f64.powf(0.4); 2]), (0.5, [0.0, 0.25])] {
        let lr = Some(0.01);
        let options = Options { g_lr: lr, d_lr: lr, ema_kimg: Some(0.01), ema_rampup: Some(rampup), ..options(4) };
        let mut trainer = common::trainer(networks(), options);
        let mut stats = Statistics::default();
        for (iteration, kept) in kept.into_iter().enumerate() {
            let all = |g: &Generator| -> Vec<Tensor> {
                g.script.parameters.iter().map(|p| p.tensor.detach().copy()).collect()
            };
            let before = all(&trainer.networks.g_ema);
            trainer.iterate(&reals(), &mut stats).unwrap();
            let (after, found) = (all(&trainer.networks.g), &trainer.networks.g_ema.script.parameters);
            for ((before, after), found) in before.iter().zip(&after).zip(found) {
                let expected = if found.trainable { before.lerp(after, 1.0 - kept) } else { after.shallow_clone() };
                let difference = (&found.tensor - expected).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{} of iteration {iteration} is off by {difference}", found.name);
            }
            assert!((&before[0] - &after[0]).abs().max().double_value(&[]) > 1e-3, "the generator moved");
        }
    }
}
