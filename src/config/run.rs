//! The settings of a run, all filled in and checked: what [`Options`] mean for a given pair.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use super::checks::{Problems, check_ranges};
use super::defaults;
use super::{AugmentMode, GridSize, LossKind, OnDivergence, Options};
use crate::augment::{AdaSettings, PIPES, Transforms};
use crate::data::Subset;
use crate::ema::EmaSettings;
use crate::loss::{AdversarialLoss, Rooted};
use crate::model::{Discriminator, FreezeSettings, Generator, Precision};
use crate::optimizer::AdamSettings;
use crate::regularize::{PathLengthSettings, R1Settings};

/// What the defaults and checks need to know of the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Height and width of the images.
    pub resolution: u64,
    /// What the discriminator's minibatch standard deviation wants to divide a batch by.
    pub mbstd_group_size: u64,
    /// Whether the generator has the mapping and synthesis of the contract; without them path length
    /// and style mixing are off.
    pub has_ws: bool,
    /// Whether the pair is as `make_pair.py` drew it: training from scratch, not a transfer.
    pub is_random: bool,
    /// Whether both networks can compute in 16 bits.
    pub has_precision: bool,
    /// Whether they are on a GPU.
    pub on_cuda: bool,
}

impl NetworkFacts {
    /// What a loaded pair says.
    pub fn of(g: &Generator, d: &Discriminator) -> Self {
        Self {
            resolution: g.img_resolution() as u64,
            mbstd_group_size: d.mbstd_group_size() as u64,
            has_ws: g.spec().is_some(),
            is_random: g.script.provenance()["source"] == "random initialisation",
            has_precision: g.script.has_method("set_precision") && d.script.has_method("set_precision"),
            on_cuda: g.script.device.is_cuda(),
        }
    }
}

/// How images are augmented.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentConfig {
    /// What can happen to an image.
    pub transforms: Transforms,
    /// The probability of each, at the beginning or throughout.
    pub p: f64,
    /// How p is adapted, if it is.
    pub ada: Option<AdaSettings>,
}

/// Iterations between two adjustments of p.
const ADA_INTERVAL: u64 = 4;

/// Every setting of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Generator to start from.
    pub generator: PathBuf,
    /// Discriminator to start from.
    pub discriminator: PathBuf,
    /// Folder or zip of pictures.
    pub data: PathBuf,
    /// Which of them.
    pub subset: Option<Subset>,
    /// Folder of runs.
    pub outdir: PathBuf,
    /// Words for the run's folder.
    pub desc: String,
    /// Seed of every random stream.
    pub seed: u64,
    /// The objective.
    pub loss: AdversarialLoss,
    /// R1 on the discriminator.
    pub r1: R1Settings,
    /// Path length on the generator.
    pub path_length: PathLengthSettings,
    /// Probability of mixing two styles in one call.
    pub style_mixing: f64,
    /// What the discriminator sees.
    pub augment: AugmentConfig,
    /// Length of the run in images.
    pub total_images: u64,
    /// Images per iteration.
    pub batch: u64,
    /// Images computed at once.
    pub micro_batch: u64,
    /// What the networks compute in.
    pub precision: Precision,
    /// The generator's optimiser.
    pub g_adam: AdamSettings,
    /// The discriminator's optimiser.
    pub d_adam: AdamSettings,
    /// Images over which the learning rates rise from 0.
    pub lr_warmup_images: u64,
    /// What is not trained.
    pub freeze: FreezeSettings,
    /// The averaged generator.
    pub ema: EmaSettings,
    /// Whether mirror images are drawn too.
    pub xflip: bool,
    /// Iterations in a row without a finite gradient after which a run stops.
    pub max_bad_steps: u64,
    /// What happens then.
    pub on_divergence: OnDivergence,
    /// How often a run may go back.
    pub max_rollbacks: u64,
    /// Whether the micro-batch is halved when memory runs out.
    pub shrink_micro_batch: bool,
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

impl RunConfig {
    /// Fills in the defaults for these networks and checks every value.
    ///
    /// # Errors
    /// One message with everything that is missing or out of range.
    pub fn resolve(options: &Options, facts: NetworkFacts) -> Result<Self> {
        let effective = defaults::with_defaults(defaults::with_preset(options, facts)?, facts);
        let mut problems = Problems::default();
        let config = Self::from_effective(effective, &mut problems);
        check_ranges(&config.effective, facts, &mut problems);
        match problems.0.is_empty() {
            true => Ok(config),
            false => bail!("cannot start: {}", problems.0.join("; ")),
        }
    }

    /// Every option with its value, as `--config` would read it back.
    pub fn effective(&self) -> &Options {
        &self.effective
    }

    fn from_effective(o: Options, problems: &mut Problems) -> Self {
        let mut path = |value: &Option<PathBuf>, flag: &str| {
            problems.check(value.is_some(), || format!("--{flag} is missing"));
            value.clone().unwrap_or_default()
        };
        let (generator, discriminator) = (path(&o.generator, "generator"), path(&o.discriminator, "discriminator"));
        let (data, outdir) = (path(&o.data, "data"), path(&o.outdir, "outdir"));
        let loss = match o.loss.unwrap_or_default() {
            LossKind::Logistic => AdversarialLoss::Logistic,
            LossKind::Rooted => match Rooted::new(number(o.root_k), o.root_slope_cap) {
                Ok(rooted) => AdversarialLoss::Rooted(rooted),
                Err(error) => {
                    problems.check(false, || format!("--root-k or --root-slope-cap: {error}"));
                    AdversarialLoss::Logistic
                }
            },
        };
        let (pl_interval, r1_interval) = (count(o.pl_interval), count(o.r1_interval));
        Self {
            generator,
            discriminator,
            data,
            subset: subset(&o),
            outdir,
            desc: o.desc.clone().unwrap_or_default(),
            seed: count(o.seed),
            loss,
            r1: R1Settings { gamma: number(o.r1_gamma), interval: r1_interval },
            path_length: PathLengthSettings { weight: number(o.pl_weight), interval: pl_interval },
            style_mixing: number(o.style_mixing),
            augment: augment_config(&o, problems),
            total_images: images(o.kimg),
            batch: count(o.batch),
            micro_batch: count(o.micro_batch),
            precision: Precision { kind: o.precision.unwrap_or_default(), resolutions: count(o.precision_resolutions) },
            g_adam: AdamSettings::lazy(number(o.g_lr), pl_interval),
            d_adam: AdamSettings::lazy(number(o.d_lr), r1_interval),
            lr_warmup_images: (number(o.lr_warmup_kimg) * 1000.0).round() as u64,
            freeze: freeze_settings(&o),
            ema: EmaSettings { halflife_kimg: number(o.ema_kimg), rampup: o.ema_rampup.filter(|&share| share != 0.0) },
            xflip: o.xflip.unwrap_or_default(),
            max_bad_steps: count(o.max_bad_steps),
            on_divergence: o.on_divergence.unwrap_or_default(),
            max_rollbacks: count(o.max_rollbacks),
            shrink_micro_batch: o.shrink_micro_batch.unwrap_or_default(),
            checkpoint_interval: minutes(o.checkpoint_minutes),
            keep_checkpoints: count(o.keep_checkpoints) as usize,
            tick_images: images(o.tick_kimg),
            snapshot_ticks: count(o.snapshot_ticks),
            image_ticks: count(o.image_ticks),
            keep_snapshots: count(o.keep_snapshots) as usize,
            grid: o.grid.unwrap_or(GridSize { columns: 1, rows: 1 }),
            effective: o,
        }
    }
}

/// Which of the pictures.
fn subset(o: &Options) -> Option<Subset> {
    o.subset.map(|of| Subset { count: of as usize, seed: count(o.subset_seed) })
}

/// What options say is not trained; needed before the networks are loaded.
pub fn freeze_settings(o: &Options) -> FreezeSettings {
    FreezeSettings {
        d_layers: count(o.freeze_d),
        g_blocks: count(o.freeze_g),
        mapping: o.freeze_mapping.unwrap_or_default(),
    }
}

fn augment_config(o: &Options, problems: &mut Problems) -> AugmentConfig {
    let off = AugmentConfig { transforms: Transforms::default(), p: 0.0, ada: None };
    let pipe = o.augpipe.as_deref().unwrap_or_default();
    let mode = o.aug.unwrap_or_default();
    let Some(transforms) = Transforms::named(pipe).filter(|_| mode != AugmentMode::Noaug) else {
        problems.check(mode == AugmentMode::Noaug, || {
            format!("--augpipe '{pipe}' is unknown; allowed are {}", PIPES.join(", "))
        });
        return off;
    };
    let ada = AdaSettings { target: number(o.target), ada_kimg: number(o.ada_kimg), interval: ADA_INTERVAL };
    match mode {
        AugmentMode::Fixed => AugmentConfig { transforms, p: number(o.p), ada: None },
        _ => AugmentConfig { transforms, p: number(o.init_p), ada: Some(ada) },
    }
}

pub(super) fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

pub(super) fn count(value: Option<u64>) -> u64 {
    value.unwrap_or(0)
}

/// Out of range is reported by the checks.
fn minutes(value: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(number(value) * 60.0).unwrap_or_default()
}

/// Thousands of images to images, at least 1.
fn images(kimg: Option<f64>) -> u64 {
    ((number(kimg) * 1000.0).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrecisionKind;

    const FACTS: NetworkFacts = NetworkFacts {
        resolution: 64,
        mbstd_group_size: 4,
        has_ws: true,
        is_random: false,
        has_precision: true,
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
    fn the_defaults_are_those_of_the_auto_configuration() {
        let config = RunConfig::resolve(&complete(), FACTS).unwrap();
        assert_eq!((config.batch, config.micro_batch, config.ema.halflife_kimg), (32, 32, 10.0));
        assert!((config.r1.gamma - 0.0256).abs() < 1e-12);
        assert_eq!(config.grid, GridSize { columns: 32, rows: 32 });
    }

    #[test]
    fn a_preset_is_beneath_the_options_and_above_the_defaults() {
        let options = Options { cfg: Some("paper256".to_owned()), g_lr: Some(0.001), ..complete() };
        let config = RunConfig::resolve(&options, FACTS).unwrap();
        assert_eq!((config.batch, config.r1.gamma, config.total_images), (64, 1.0, 25_000_000));
        assert!((config.g_adam.lr - 0.0008).abs() < 1e-12 && (config.d_adam.lr - 0.001 * 16.0 / 17.0).abs() < 1e-12);
        assert_eq!(config.desc, "paper256-rooted2-batch64");
    }

    #[test]
    fn only_a_random_pair_starts_with_a_ramp_up_of_the_average_and_a_slow_p() {
        let options = Options { cfg: Some("cifar".to_owned()), ..complete() };
        let of = |is_random| RunConfig::resolve(&options, NetworkFacts { is_random, ..FACTS }).unwrap();
        let ada_kimg = |config: &RunConfig| config.augment.ada.unwrap().ada_kimg;
        let (transfer, scratch) = (of(false), of(true));
        assert_eq!((transfer.ema.rampup, ada_kimg(&transfer)), (None, 100.0));
        assert_eq!((scratch.ema.rampup, ada_kimg(&scratch)), (Some(0.05), 500.0));
    }

    #[test]
    fn half_precision_is_the_default_on_cuda_where_the_networks_can() {
        let of = |options: &Options, on_cuda, has_precision| {
            RunConfig::resolve(options, NetworkFacts { on_cuda, has_precision, ..FACTS }).map(|config| config.precision)
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
            RunConfig::resolve(&options, NetworkFacts { is_random: true, ..FACTS }).unwrap().ema.rampup
        };
        assert_eq!(["stylegan2", "paper256", "paper512", "paper1024"].map(rampup), [None; 4]);
        assert_eq!(["auto", "cifar", "paper-rooted"].map(rampup), [Some(0.05); 3]);
    }

    #[test]
    fn options_of_another_augmentation_are_refused() {
        let of = |options: Options| RunConfig::resolve(&options, FACTS).unwrap_err().to_string();
        let noaug = || Options { aug: Some(AugmentMode::Noaug), ..complete() };
        assert!(of(Options { augpipe: Some("bgc".to_owned()), ..noaug() }).contains("--augpipe belongs to"));
        assert!(of(Options { target: Some(0.5), ..noaug() }).contains("belong to --aug ada"));
        let demo = Options { cfg: Some("demo".to_owned()), init_p: Some(0.5), ..complete() };
        assert!(of(demo).contains("belong to --aug ada"));
    }

    #[test]
    fn what_a_preset_says_of_another_loss_does_not_apply() {
        let options = Options { cfg: Some("paper-rooted".to_owned()), loss: Some(LossKind::Logistic), ..complete() };
        let config = RunConfig::resolve(&options, FACTS).unwrap();
        assert_eq!((config.loss, config.micro_batch), (AdversarialLoss::Logistic, 16));
    }

    #[test]
    fn the_effective_options_mean_the_same_run() {
        let config = RunConfig::resolve(&complete(), FACTS).unwrap();
        let text = serde_json::to_string(config.effective()).unwrap();
        let again: Options = serde_json::from_str(&text).unwrap();
        assert_eq!(RunConfig::resolve(&again, FACTS).unwrap(), config);
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
        let message = RunConfig::resolve(&options, FACTS).unwrap_err().to_string();
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
        let config = RunConfig::resolve(&complete(), NetworkFacts { has_ws: false, ..FACTS }).unwrap();
        assert_eq!((config.path_length.weight, config.style_mixing), (0.0, 0.0));
    }
}
