//! The settings of a run, resolved and checked: what [`Options`] mean for a given pair.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{AugmentMode, GridSize, LossKind, NetworkFacts, OnDivergence, Options, Pairing, presets};
use crate::augment::Transforms;
use crate::data::Subset;
use crate::model::{FreezeSettings, Precision};
use crate::tensor::arithmetic::Arithmetic;
use crate::train::objective::{AdversarialLoss, Objective, Paired, Rooted};
use crate::train::regularizers::{PathLengthSettings, R1Settings};
use crate::train::{AdaSettings, AdamSettings, AugmentSettings, EmaSettings, TrainSettings};

/// Iterations between two adjustments of p.
const ADA_INTERVAL: u64 = 4;

/// The resolved settings of a run: every one has a value.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The settings of an iteration.
    pub train: TrainSettings,
    /// Folder or zip of pictures.
    pub data: PathBuf,
    /// The subset of the pictures; None: all.
    pub subset: Option<Subset>,
    /// Whether mirror images are drawn too.
    pub xflip: bool,
    /// The types that the networks compute in.
    pub precision: Precision,
    /// The arithmetic of a GPU.
    pub arithmetic: Arithmetic,
    /// Length of the run in images.
    pub total_images: u64,
    /// Folder of runs.
    pub outdir: PathBuf,
    /// Words for the run's folder.
    pub desc: String,
    /// The reaction to divergence.
    pub on_divergence: OnDivergence,
    /// Most rollbacks in the run.
    pub max_rollbacks: u64,
    /// Time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// Checkpoints that are kept.
    pub keep_checkpoints: usize,
    /// Images from one tick to the next.
    pub tick_images: u64,
    /// Ticks between snapshots; 0: only the last.
    pub snapshot_ticks: u64,
    /// Ticks between grids; 0: only the last.
    pub image_ticks: u64,
    /// Snapshots that are kept besides the best; 0: all.
    pub keep_snapshots: usize,
    /// Size of the preview grids.
    pub grid: GridSize,
    effective: Options,
}

impl RunSettings {
    /// Fills in the preset and the defaults for these networks, and checks every value.
    ///
    /// # Errors
    /// One message with everything that is missing or out of range.
    pub fn resolve(options: &Options, facts: NetworkFacts) -> Result<Self> {
        let effective = presets::under(options, &facts)?.filled(&facts);
        refuse(effective.missing().into_iter().chain(effective.problems(&facts)))?;
        Ok(Self::from_checked(effective))
    }

    /// Returns every option with its value, as `--config` would read it back.
    pub fn effective(&self) -> &Options {
        &self.effective
    }

    /// Turns options that are filled in and checked into settings.
    fn from_checked(o: Options) -> Self {
        Self {
            train: training(&o),
            data: value(&o.data),
            subset: o.subset.map(|count| Subset { count: count as usize, seed: value(&o.subset_seed) }),
            xflip: value(&o.xflip),
            precision: precision(&o),
            arithmetic: Arithmetic { tf32: value(&o.tf32), deterministic: value(&o.deterministic) },
            total_images: images(value(&o.kimg)),
            outdir: value(&o.outdir),
            desc: value(&o.desc),
            on_divergence: value(&o.on_divergence),
            max_rollbacks: value(&o.max_rollbacks),
            // A time that no duration can hold means never.
            checkpoint_interval: Duration::try_from_secs_f64(value(&o.checkpoint_minutes) * 60.0)
                .unwrap_or(Duration::MAX),
            keep_checkpoints: value(&o.keep_checkpoints) as usize,
            tick_images: images(value(&o.tick_kimg)),
            snapshot_ticks: value(&o.snapshot_ticks),
            image_ticks: value(&o.image_ticks),
            keep_snapshots: value(&o.keep_snapshots) as usize,
            grid: value(&o.grid),
            effective: o,
        }
    }
}

/// Resolves the settings of an iteration, and the types that its networks compute in, where there is no run: benchmarks
/// and tests need neither files nor a folder.
///
/// # Errors
/// One message with everything that is out of range.
pub fn train_settings(options: &Options, facts: NetworkFacts) -> Result<(TrainSettings, Precision)> {
    let effective = presets::under(options, &facts)?.filled(&facts);
    refuse(effective.problems(&facts))?;
    Ok((training(&effective), precision(&effective)))
}

fn refuse(problems: impl IntoIterator<Item = String>) -> Result<()> {
    let problems: Vec<String> = problems.into_iter().collect();
    match problems.is_empty() {
        true => Ok(()),
        false => bail!("cannot start: {}", problems.join("; ")),
    }
}

fn precision(o: &Options) -> Precision {
    Precision { kind: value(&o.precision), resolutions: value(&o.precision_resolutions) }
}

fn training(o: &Options) -> TrainSettings {
    let (r1_interval, pl_interval) = (value(&o.r1_interval), value(&o.pl_interval));
    TrainSettings {
        seed: value(&o.seed),
        batch: value(&o.batch),
        micro_batch: value(&o.micro_batch),
        shrink_micro_batch: value(&o.shrink_micro_batch),
        objective: objective(o),
        r1: R1Settings { gamma: value(&o.r1_gamma), interval: r1_interval },
        r2_gamma: value(&o.r2_gamma),
        path_length: PathLengthSettings { weight: value(&o.pl_weight), interval: pl_interval },
        style_mixing: value(&o.style_mixing),
        augment: augment_settings(o),
        g_adam: AdamSettings::lazy(value(&o.g_lr), pl_interval),
        d_adam: AdamSettings::lazy(value(&o.d_lr), r1_interval),
        lr_warmup_images: (value(&o.lr_warmup_kimg) * 1000.0).round() as u64,
        ema: EmaSettings {
            halflife_kimg: value(&o.ema_kimg),
            rampup: Some(value(&o.ema_rampup)).filter(|&share| share != 0.0),
        },
        max_bad_steps: value(&o.max_bad_steps),
    }
}

fn objective(o: &Options) -> Arc<dyn Objective> {
    let loss = match value(&o.loss) {
        LossKind::Logistic => AdversarialLoss::Logistic,
        LossKind::Rooted => {
            AdversarialLoss::Rooted(Rooted::new(value(&o.root_k), o.root_slope_cap).expect("k and cap were checked"))
        }
    };
    match value(&o.pairing) {
        Pairing::None => Arc::new(loss),
        Pairing::Relativistic => Arc::new(Paired(loss)),
    }
}

fn augment_settings(o: &Options) -> AugmentSettings {
    let transforms = || Transforms::named(&value(&o.augpipe)).expect("the pipe was checked");
    match value(&o.aug) {
        AugmentMode::Noaug => AugmentSettings { transforms: Transforms::default(), p: 0.0, ada: None },
        AugmentMode::Fixed => AugmentSettings { transforms: transforms(), p: value(&o.p), ada: None },
        AugmentMode::Ada => {
            let (target, ada_kimg) = (value(&o.target), value(&o.ada_kimg));
            let ada = AdaSettings { target, ada_kimg, interval: ADA_INTERVAL };
            AugmentSettings { transforms: transforms(), p: value(&o.init_p), ada: Some(ada) }
        }
    }
}

/// Returns what the options and their preset freeze; needed before the networks are loaded.
///
/// # Errors
/// An unknown preset.
pub fn freeze_settings(options: &Options) -> Result<FreezeSettings> {
    let o = options.clone().over(presets::preset_of(options)?);
    Ok(FreezeSettings {
        d_layers: o.freeze_d.unwrap_or_default(),
        g_blocks: o.freeze_g.unwrap_or_default(),
        mapping: o.freeze_mapping.unwrap_or_default(),
        noise: o.freeze_noise.unwrap_or_default(),
    })
}

fn value<T: Clone>(option: &Option<T>) -> T {
    option.clone().expect("an option that has a default in this mode is filled in")
}

/// Converts thousands of images to images, at least 1.
fn images(kimg: f64) -> u64 {
    ((kimg * 1000.0).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemoryFacts;
    use crate::model::PrecisionKind;

    const FACTS: NetworkFacts = NetworkFacts {
        resolution: 64,
        mbstd_group_size: 4,
        has_ws: true,
        is_random: false,
        has_precision: true,
        processes: 1,
        memory: MemoryFacts { activations: 0, parameters: 0, device_bytes: None },
        on_cuda: false,
    };

    fn complete() -> Options {
        let path = |name: &str| Some(PathBuf::from(name));
        Options {
            generator: path("g.pt"),
            discriminator: path("d.pt"),
            data: path("pictures"),
            outdir: path("runs"),
            ..Options::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_preset_auto() {
        let settings = RunSettings::resolve(&complete(), FACTS).unwrap();
        assert_eq!(
            (settings.train.batch, settings.train.micro_batch, settings.train.ema.halflife_kimg),
            (32, 32, 10.0)
        );
        assert!((settings.train.r1.gamma - 0.0256).abs() < 1e-12);
        assert_eq!(settings.grid, GridSize { columns: 32, rows: 32 });
    }

    #[test]
    fn short_runs_have_grids_and_snapshots_too() {
        let of = |kimg, tick_kimg, image_ticks| {
            let options = Options { kimg: Some(kimg), tick_kimg: Some(tick_kimg), image_ticks, ..complete() };
            let settings = RunSettings::resolve(&options, FACTS).unwrap();
            (settings.image_ticks, settings.snapshot_ticks)
        };
        assert_eq!(of(25_000.0, 4.0, None), (50, 50));
        assert_eq!(of(1000.0, 4.0, None), (25, 50));
        assert_eq!(of(100.0, 4.0, None), (2, 6));
        assert_eq!(of(1.0, 4.0, None), (1, 1));
        assert_eq!(of(100.0, 4.0, Some(0)), (0, 6));
    }

    #[test]
    fn what_a_preset_freezes_is_frozen_unless_an_option_says_otherwise() {
        let of = |options: Options| freeze_settings(&options).unwrap();
        let demo = || Options { cfg: Some("demo".to_owned()), ..Options::default() };
        assert!(of(demo()).noise && !of(Options::default()).noise);
        assert!(!of(Options { freeze_noise: Some(false), ..demo() }).noise);
        let more = of(Options { freeze_d: Some(3), freeze_mapping: Some(true), ..demo() });
        assert_eq!(more, FreezeSettings { d_layers: 3, g_blocks: 0, mapping: true, noise: true });
        assert!(freeze_settings(&Options { cfg: Some("dmeo".to_owned()), ..Options::default() }).is_err());
    }

    #[test]
    fn a_preset_is_beneath_the_options_and_above_the_defaults() {
        let options = Options { cfg: Some("paper256".to_owned()), g_lr: Some(0.001), ..complete() };
        let settings = RunSettings::resolve(&options, FACTS).unwrap();
        assert_eq!((settings.train.batch, settings.train.r1.gamma, settings.total_images), (64, 1.0, 25_000_000));
        assert!(
            (settings.train.g_adam.lr - 0.0008).abs() < 1e-12
                && (settings.train.d_adam.lr - 0.001 * 16.0 / 17.0).abs() < 1e-12
        );
        assert_eq!(settings.desc, "paper256-rooted20-batch64");
    }

    #[test]
    fn only_a_random_pair_starts_with_a_ramp_up_of_the_average_and_a_slow_p() {
        let options = Options { cfg: Some("cifar".to_owned()), ..complete() };
        let of = |is_random| RunSettings::resolve(&options, NetworkFacts { is_random, ..FACTS }).unwrap();
        let ada_kimg = |settings: &RunSettings| settings.train.augment.ada.unwrap().ada_kimg;
        let (transfer, scratch) = (of(false), of(true));
        assert_eq!((transfer.train.ema.rampup, ada_kimg(&transfer)), (None, 100.0));
        assert_eq!((scratch.train.ema.rampup, ada_kimg(&scratch)), (Some(0.05), 500.0));
    }

    #[test]
    fn half_precision_is_the_default_on_cuda_where_the_networks_can() {
        let of = |options: &Options, on_cuda, has_precision| {
            RunSettings::resolve(options, NetworkFacts { on_cuda, has_precision, ..FACTS })
                .map(|settings| settings.precision)
        };
        let half = Precision { kind: PrecisionKind::Fp16, resolutions: 4 };
        assert_eq!(of(&complete(), true, true).unwrap(), half);
        assert_eq!(of(&complete(), true, false).unwrap(), Precision::default());
        assert_eq!(of(&complete(), false, true).unwrap(), Precision::default());
        let asked = Options { precision: Some(PrecisionKind::Bf16), ..complete() };
        assert_eq!(of(&asked, false, true).unwrap().kind, PrecisionKind::Bf16);
        let message = of(&asked, false, false).unwrap_err().to_string();
        assert!(message.contains("set_precision"), "{message}");
    }

    #[test]
    fn only_the_presets_that_were_published_with_a_ramp_up_have_one() {
        let rampup = |cfg: &str| {
            let options = Options { cfg: Some(cfg.to_owned()), ..complete() };
            RunSettings::resolve(&options, NetworkFacts { is_random: true, ..FACTS }).unwrap().train.ema.rampup
        };
        assert_eq!(["stylegan2", "paper256", "paper512", "paper1024"].map(rampup), [None; 4]);
        assert_eq!(["auto", "cifar", "paper-rooted"].map(rampup), [Some(0.05); 3]);
    }

    #[test]
    fn options_of_another_augmentation_are_refused() {
        let of = |options: Options| RunSettings::resolve(&options, FACTS).unwrap_err().to_string();
        let noaug = || Options { aug: Some(AugmentMode::Noaug), ..complete() };
        assert!(of(Options { augpipe: Some("bgc".to_owned()), ..noaug() }).contains("--augpipe belongs to"));
        assert!(of(Options { target: Some(0.5), ..noaug() }).contains("belongs to --aug ada"));
        let demo = Options { cfg: Some("demo".to_owned()), init_p: Some(0.5), ..complete() };
        assert!(of(demo).contains("belongs to --aug ada"));
    }

    #[test]
    fn what_a_preset_says_of_another_loss_does_not_apply() {
        let options = Options { cfg: Some("paper-rooted".to_owned()), loss: Some(LossKind::Logistic), ..complete() };
        let settings = RunSettings::resolve(&options, FACTS).unwrap();
        assert_eq!((format!("{:?}", settings.train.objective).as_str(), settings.train.micro_batch), ("Logistic", 16));
    }

    #[test]
    fn published_presets_judge_images_one_by_one_whatever_loss_is_named() {
        let pairing = |cfg: &str, loss| {
            let options = Options { cfg: Some(cfg.to_owned()), loss, ..complete() };
            RunSettings::resolve(&options, FACTS).unwrap().effective().pairing.unwrap()
        };
        for cfg in ["stylegan2", "paper256", "paper512", "paper1024", "cifar", "paper-rooted"] {
            for loss in [None, Some(LossKind::Rooted), Some(LossKind::Logistic)] {
                assert_eq!(pairing(cfg, loss), Pairing::None, "{cfg}, {loss:?}");
            }
        }
        assert_eq!(["auto", "demo"].map(|cfg| pairing(cfg, None)), [Pairing::Relativistic; 2]);
    }

    #[test]
    fn the_effective_options_mean_the_same_run() {
        let settings = RunSettings::resolve(&complete(), FACTS).unwrap();
        let text = serde_json::to_string(settings.effective()).unwrap();
        let again: Options = serde_json::from_str(&text).unwrap();
        let again = RunSettings::resolve(&again, FACTS).unwrap();
        assert_eq!(again.effective(), settings.effective());
        assert_eq!(format!("{again:?}"), format!("{settings:?}"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let options = Options {
            root_k: Some(0.0),
            batch: Some(12),
            micro_batch: Some(5),
            g_lr: Some(-1.0),
            data: None,
            ..complete()
        };
        let message = RunSettings::resolve(&options, FACTS).unwrap_err().to_string();
        for part in [
            "--data is missing",
            "at least 1, not 0",
            "12 is not divisible by --micro-batch 5",
            "--g-lr",
            "groups of 4",
        ] {
            assert!(message.contains(part), "'{part}' is not in '{message}'");
        }
    }

    #[test]
    fn without_ws_path_length_and_mixing_are_off() {
        let settings = RunSettings::resolve(&complete(), NetworkFacts { has_ws: false, ..FACTS }).unwrap();
        assert_eq!((settings.train.path_length.weight, settings.train.style_mixing), (0.0, 0.0));
    }
}
