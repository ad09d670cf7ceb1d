//! Parts of an iteration that a whole run does not show: style mixing, and steps that are left out.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::alone;
use common::scripted::{TIGHT, scripted_pair};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rootgan::config::{AugmentMode, NetworkFacts, Options, Pairing, train_settings};
use rootgan::model::{FreezeSettings, Generator, NoiseMode, Truncation};
use rootgan::run::networks::NetworkFiles;
use rootgan::tensor::finite::all_finite;
use rootgan::tensor::no_grad;
use rootgan::train::draw::{Draw, Mixing, Reals};
use rootgan::train::objective::{AdversarialLoss, Paired};
use rootgan::train::phases;
use rootgan::train::stats::Statistics;
use rootgan::train::{Networks, TrainSettings, Trainer};
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 4;

fn networks() -> Networks {
    common::configure_torch();
    let (generator, discriminator) = common::pair16();
    let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
    files.load(FreezeSettings::default(), Device::Cpu).unwrap()
}

fn trainer_with(networks: Networks, options: Options) -> Trainer {
    let batch = options.batch.unwrap_or(BATCH as u64);
    // Its slopes overflow where a test wants them to: pairs do not see the bias that moves all logits.
    let root_k = options.root_k.or(options.loss.is_none().then_some(2.0));
    let pairing = options.pairing.or(Some(Pairing::None));
    common::trainer(networks, Options { batch: Some(batch), root_k, pairing, ..options })
}

fn reals() -> Reals {
    Reals::unlabelled(Tensor::rand([BATCH, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0 - 1.0)
}

/// The bias of D's last layer, which moves every logit.
fn set_last_bias(networks: &Networks, value: f64) {
    let bias = networks.d.script.parameters.iter().find(|p| p.name == "b4.out.bias").unwrap();
    let _ = no_grad(|| bias.tensor.shallow_clone().fill_(value));
}

fn generator() -> Generator {
    common::configure_torch();
    Generator::load(&common::pair16().0, Device::Cpu, None).unwrap()
}

#[test]
fn mixing_takes_the_first_rows_of_one_style_and_the_last_of_the_other() {
    let _alone = alone();
    let g = generator();
    let normal = || Tensor::randn([2, 32], (Kind::Float, Device::Cpu));
    let (z, second) = (normal(), normal());
    let w_avg = || g.script.parameters.iter().find(|p| p.name == "mapping.w_avg").unwrap().tensor.detach().copy();
    no_grad(|| {
        let ws = |z: &Tensor| g.mapping(z, None, Truncation::OFF, false).unwrap();
        let (of_z, of_second, before) = (ws(&z), ws(&second), w_avg());
        let mixing = Some(Mixing { z: second.shallow_clone(), cutoff: 4 });
        let draw = Draw { z: z.shallow_clone(), c: None, mixing, noise: NoiseMode::Const };
        let (images, mixed) = phases::generate(&g, &draw, true).unwrap();
        let expected = Tensor::cat(&[of_z.narrow(1, 0, 4), of_second.narrow(1, 4, 2)], 1);
        assert_eq!(mixed.unwrap(), expected);
        assert_eq!(images, g.synthesis(&expected, NoiseMode::Const, None).unwrap());
        // The mean of w follows the first style alone.
        let moved = before.lerp(&of_z.select(1, 0).mean_dim([0i64].as_slice(), false, Kind::Float), 0.005);
        assert!((w_avg() - moved).abs().max().double_value(&[]) < 1e-6);
    });
}

/// The phase is done again from the beginning: nothing of the first try is left.
#[test]
fn a_run_whose_micro_batch_shrinks_goes_on_like_one_that_began_with_the_smaller_one() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let (generator, discriminator) = scripted_pair(place.path(), TIGHT);
    let reals = Reals::unlabelled(Tensor::rand([16, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0 - 1.0);
    let course = |micro_batch: u64| {
        let files = NetworkFiles {
            generator: generator.clone(),
            discriminator: discriminator.clone(),
            ..NetworkFiles::default()
        };
        let networks = files.load(FreezeSettings::default(), Device::Cpu).unwrap();
        let options = Options {
            batch: Some(16),
            micro_batch: Some(micro_batch),
            shrink_micro_batch: Some(true),
            ada_kimg: Some(1.0),
            ..Options::default()
        };
        let mut trainer = trainer_with(networks, options);
        let mut stats = Statistics::default();
        for _ in 0..2 {
            trainer.iterate(&reals, &mut stats).unwrap();
        }
        let (_, mut tensors) = trainer.state(&stats);
        tensors.retain(|name, _| !name.starts_with("stats.Timing/"));
        (tensors, trainer.take_notices())
    };
    let ((shrunk, notices), (small, none)) = (course(16), course(8));
    assert!(shrunk.contains_key("G.w_avg") && shrunk.contains_key("pl_mean") && shrunk.contains_key("ada.signs"));
    assert_eq!(shrunk, small);
    assert_eq!(none, Vec::<String>::new());
    assert_eq!(notices, ["iteration 0: out of memory in Gmain; going on with --micro-batch 8 instead of 16"]);
}

#[test]
fn a_place_of_the_flat_buffer_belongs_to_a_parameter() {
    let networks = networks();
    let mut first = 0;
    for (name, leaf) in networks.d_flat.names.iter().zip(&networks.d_flat.leaves) {
        let last = first + leaf.numel() as i64 - 1;
        assert_eq!([first, last].map(|place| networks.d_flat.name_at(place)), [Some(name.as_str()); 2]);
        first = last + 1;
    }
    assert_eq!(networks.d_flat.name_at(first), None);
}

#[test]
fn draws_mix_as_often_as_asked_at_every_place() {
    let _alone = alone();
    let g = generator();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut cutoffs = |probability: f64| -> Vec<i64> {
        let draws = (0..400).map(|_| Draw::sample(&g, None, 1, probability, &mut rng));
        draws.filter_map(|draw| draw.mixing.map(|mixing| mixing.cutoff)).collect()
    };
    assert!(cutoffs(0.0).is_empty());
    let always = cutoffs(1.0);
    assert_eq!(always.len(), 400);
    // num_ws is 6: uniform over 1 to 5.
    assert_eq!(always.iter().copied().collect::<BTreeSet<_>>(), (1..=5).collect());
    let often = cutoffs(0.9).len();
    assert!((340..=380).contains(&often), "{often} of 400");
}

/// The rooted loss of a logit of -110 is finite in float32, and so is its slope of 1e24, but not its
/// square, which Adam keeps.
#[test]
fn a_gradient_whose_square_overflows_is_left_out_and_named() {
    let _alone = alone();
    let networks = networks();
    set_last_bias(&networks, -110.0);
    // Path length does not see D, and its step would move G.
    let options = Options { max_bad_steps: Some(100), pl_weight: Some(0.0), ..Options::default() };
    let mut trainer = trainer_with(networks, options);
    let before = trainer.networks.g_flat.values.copy();
    let mut stats = Statistics::default();
    trainer.iterate(&reals(), &mut stats).unwrap();
    let summaries = stats.take();
    assert!(summaries["Loss/G/loss"].mean.is_finite());
    assert!(summaries["Loss/G/slope"].max > 1e20);
    assert_eq!(summaries["Progress/skipped_Gmain"].num, 1);
    let notices = trainer.take_notices();
    assert!(notices[0].contains("the gradient of Gmain") && notices[0].contains("1 in a row"), "{notices:?}");
    assert_eq!(trainer.networks.g_flat.values, before);
    trainer.iterate(&reals(), &mut stats).unwrap();
    assert!(all_finite(&trainer.networks.g_flat.values) && all_finite(&trainer.networks.d_flat.values));
}

#[test]
fn a_phase_that_never_has_a_finite_gradient_stops_the_run() {
    let _alone = alone();
    for pairing in [Pairing::None, Pairing::Relativistic] {
        let networks = networks();
        set_last_bias(&networks, f64::NAN);
        let options = Options { max_bad_steps: Some(3), pairing: Some(pairing), ..Options::default() };
        let mut trainer = trainer_with(networks, options);
        let mut stats = Statistics::default();
        let outcomes: Vec<_> = (0..3).map(|_| trainer.iterate(&reals(), &mut stats)).collect();
        assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
        let message = format!("{:#}", outcomes[2].as_ref().unwrap_err());
        for words in [
            "phase Gmain of iteration 2",
            "the loss of Gmain (Loss/G/loss) is not finite",
            "3 steps in a row",
            "--g-lr",
            "--root-slope-cap",
        ] {
            assert!(message.contains(words), "'{words}' is not in '{message}'");
        }
    }
}

/// On a GPU the host looks at the end of an iteration only; the CPU can do so too, and must come to the same.
#[test]
fn steps_looked_at_later_end_the_same() {
    let _alone = alone();
    let course = |timed_every: u64| {
        let options = Options {
            max_bad_steps: Some(3),
            r1_interval: Some(1),
            pl_interval: Some(1),
            augpipe: Some("blit".into()),
            ..Options::default()
        };
        let mut trainer = trainer_with(networks(), options);
        // The first of all is timed whatever the setting.
        (trainer.iteration, trainer.timed_every) = (1, timed_every);
        tch::manual_seed(5);
        let (reals, mut stats) = (reals(), Statistics::default());
        let mut notices = Vec::new();
        let bias = trainer.networks.d.script.parameters.iter().position(|p| p.name == "b4.out.bias").unwrap();
        let bias = trainer.networks.d.script.parameters[bias].tensor.detach();
        for value in [0.0, -110.0, 0.0, f64::NAN, 0.0] {
            let _ = no_grad(|| bias.shallow_clone().fill_(value));
            trainer.iterate(&reals, &mut stats).unwrap();
            notices.extend(trainer.take_notices());
        }
        let summaries = stats.take();
        assert_eq!(summaries.contains_key("Timing/Gmain"), timed_every == 1);
        let results: Vec<_> = summaries.into_iter().filter(|(name, _)| !name.starts_with("Timing/")).collect();
        let weights = [&trainer.networks.g_flat.values, &trainer.networks.d_flat.values].map(Tensor::copy);
        let _ = no_grad(|| bias.shallow_clone().fill_(f64::NAN));
        let error = loop {
            if let Err(error) = trainer.iterate(&reals, &mut stats) {
                break format!("{error:#}");
            }
        };
        // Not finite numbers are equal to none, also as text.
        (format!("{results:?}"), weights, notices, error)
    };
    let (at_once, later) = (course(1), course(u64::MAX));
    assert_eq!(at_once.2.len(), 4, "{:?}", at_once.2);
    assert!(at_once.3.contains("phase Gmain of iteration 8: the loss of Gmain"), "{}", at_once.3);
    assert_eq!(at_once, later);
}

#[test]
fn with_a_slope_cap_the_same_critic_trains() {
    let _alone = alone();
    let networks = networks();
    set_last_bias(&networks, -110.0);
    let options = Options { root_slope_cap: Some(10.0), max_bad_steps: Some(3), ..Options::default() };
    let mut trainer = trainer_with(networks, options);
    let before = trainer.networks.d_flat.values.copy();
    let mut stats = Statistics::default();
    trainer.iterate(&reals(), &mut stats).unwrap();
    assert_eq!(trainer.take_notices(), Vec::<String>::new());
    assert!(stats.take()["Loss/G/slope"].max <= 10.0 + 1e-4);
    assert!(all_finite(&trainer.networks.d_flat.values) && trainer.networks.d_flat.values != before);
}

/// Four pictures and no others: the discriminator knows them by heart in no time, p rises from 0, and from then on the
/// mean sign of D(real) is held near the target.
#[test]
fn p_rises_on_an_overfitting_run_and_settles_where_the_sign_is_at_the_target() {
    let _alone = alone();
    for (target, iterations, pairing) in
        [(0.3, 500, Pairing::None), (0.7, 300, Pairing::None), (0.7, 500, Pairing::Relativistic)]
    {
        tch::manual_seed(1);
        let coarse = Tensor::rand([BATCH, 3, 4, 4], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        let reals = Reals::unlabelled(coarse.upsample_nearest2d([16i64, 16], None, None));
        let (target, pairing, pl_weight) = (Some(target), Some(pairing), Some(0.0));
        let options = Options { ada_kimg: Some(2.0), target, pairing, pl_weight, ..Options::default() };
        let mut trainer = trainer_with(networks(), options);
        let (mut stats, mut ps) = (Statistics::default(), Vec::new());
        for iteration in 0..iterations {
            if iteration == iterations / 2 {
                let _ = stats.take(); // What comes after is where it settled.
            }
            trainer.iterate(&reals, &mut stats).unwrap();
            ps.push(trainer.augment_p());
        }
        assert_eq!(ps[..3], [0.0; 3]);
        let settled = stats.take()["Loss/signs/real"].mean;
        let course: Vec<_> = ps.iter().step_by(20).collect();
        let off = settled - target.unwrap();
        assert!(off.abs() < 0.1, "mean sign {settled}, {off} off, with {pairing:?}, p {course:?}");
        let late = &ps[iterations / 2..];
        assert!(late.iter().all(|&p| p > 0.02 && p < 0.9), "p neither leaves nor reaches a bound: {course:?}");
    }
}

#[test]
fn a_fixed_p_stays_and_changes_what_the_discriminator_sees() {
    let _alone = alone();
    let run = |options: Options| {
        let mut trainer = trainer_with(networks(), options);
        tch::manual_seed(2);
        let reals = reals();
        let mut stats = Statistics::default();
        for _ in 0..8 {
            trainer.iterate(&reals, &mut stats).unwrap();
        }
        (trainer.augment_p(), stats.take()["Loss/scores/real"].mean)
    };
    let fixed = || Options { aug: Some(AugmentMode::Fixed), p: Some(0.8), ..Options::default() };
    let none = || Options { aug: Some(AugmentMode::Noaug), ..Options::default() };
    let (p, score) = run(fixed());
    assert_eq!((p, score), run(fixed()));
    assert_eq!(p, 0.8);
    assert_eq!(run(none()).0, 0.0);
    assert_ne!(score, run(none()).1);
}

/// A loss of differences does not know what is added to all logits.
#[test]
fn an_objective_of_pairs_goes_through_the_same_phases() {
    let _alone = alone();
    let reals = reals();
    let course = |bias: f64| {
        let networks = networks();
        set_last_bias(&networks, bias);
        let options = Options { batch: Some(BATCH as u64), aug: Some(AugmentMode::Noaug), ..Options::default() };
        let facts = NetworkFacts::from_pair(&networks.g, &networks.d);
        let (settings, _) = train_settings(&options, facts).unwrap();
        let settings = TrainSettings { objective: Arc::new(Paired(AdversarialLoss::Logistic)), ..settings };
        let before = [&networks.g_flat.values, &networks.d_flat.values].map(Tensor::copy);
        let mut trainer = Trainer::new(networks, settings, None);
        let mut stats = Statistics::default();
        trainer.iterate(&reals, &mut stats).unwrap();
        let after = [&trainer.networks.g_flat.values, &trainer.networks.d_flat.values].map(Tensor::copy);
        assert!(before.iter().zip(&after).all(|(before, after)| before != after), "both networks learn");
        stats.take()
    };
    let (plain, shifted) = (course(0.0), course(3.0));
    // Real images are judged in the generator's step too, and counted in the discriminator's.
    assert_eq!((plain["Loss/scores/real"].num, plain["Loss/D/loss"].num), (BATCH as u64, BATCH as u64));
    assert!((shifted["Loss/scores/real"].mean - plain["Loss/scores/real"].mean - 3.0).abs() < 1e-4);
    for name in ["Loss/G/loss", "Loss/D/loss", "Loss/G/slope", "Loss/D/slope", "Loss/signs/real", "Loss/signs/fake"] {
        assert!((plain[name].mean - shifted[name].mean).abs() < 1e-5, "{name}");
    }
}
