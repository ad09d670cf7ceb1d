//! The options of a finetune run as the user gives them: flags, a JSON file, or both.
//!
//! One struct serves both, so that a flag and its key can never differ; a flag wins over the file.

use std::any::{Any, TypeId};
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::spec::{Spec, above_zero, at_least_one, probability, sign, zero_or_more};
use super::{GridSize, NetworkFacts, presets};
use crate::augment::{PIPES, Transforms};
use crate::metrics::parse_list;
use crate::model::PrecisionKind;
use crate::train::objective::Rooted;
use crate::train::regularizers::{PL_INTERVAL, R1_INTERVAL};

/// Most images of one iteration; more are a typing error.
const MAX_BATCH: u64 = 1 << 16;
/// Most pixels of a preview grid; more would not fit a PNG viewer.
const MAX_GRID_PIXELS: u64 = 1 << 30;

/// The adversarial loss by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// k (1 + exp(-D))^(1/k), D the logit
    #[default]
    Rooted,
    /// log(1 + exp(-D)), as in StyleGAN2
    Logistic,
}

/// Whether the loss judges images one by one or in pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Each logit has a loss of its own
    #[default]
    None,
    /// A real and a generated image are judged by the difference of their logits
    Relativistic,
}

/// Whether and how images are augmented before the discriminator sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AugmentMode {
    /// p follows how far the discriminator overfits
    #[default]
    Ada,
    /// p is the value of --p
    Fixed,
    /// Images are not augmented
    Noaug,
}

/// What a run does when training has diverged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDivergence {
    /// The run ends and names the last good checkpoint
    #[default]
    Stop,
    /// The run goes back to the last good checkpoint with half the learning rates
    Rollback,
}

options! {
    /// The purpose of a configuration file; not read by the program.
    #[arg(skip)]
    #[serde(skip_serializing)]
    about: String = Spec::optional(),
    /// The result that this configuration gave, and on which machine; not read by the program.
    #[arg(skip)]
    #[serde(skip_serializing)]
    expected: String = Spec::optional(),

    /// Preset of training options: auto, stylegan2, paper256, paper512, paper1024, cifar, paper-rooted or demo
    /// [default: auto]
    #[arg(long, value_name = "NAME")]
    cfg: String = Spec::default("auto".to_owned()),
    /// Networks to start from: a run, a snapshot, a folder of TorchScript, NVIDIA's .pkl, rosinality's .pt, safetensors or a
    /// state dict (imported once), or the http(s) address of a file (downloaded once)
    #[arg(long, value_name = "SOURCE")]
    from: PathBuf = Spec::optional(),
    /// SHA-256 that the file of --from has to have
    #[arg(long, value_name = "HEX")]
    sha256: String = Spec::optional().only_with("--from", |o| o.from.is_some()),
    /// Generator to start from (TorchScript), instead of --from
    #[arg(long, value_name = "G.pt")]
    generator: PathBuf = Spec::required(),
    /// Generator as it was in training, where --generator is the average of it (generator_raw.pt of an import)
    #[arg(long, value_name = "G.pt")]
    generator_raw: PathBuf = Spec::optional(),
    /// Discriminator to start from (TorchScript), instead of --from or where that has none
    #[arg(long, value_name = "D.pt")]
    discriminator: PathBuf = Spec::required(),
    /// Training pictures: a folder, searched at any depth, or a zip
    #[arg(long, value_name = "DIR_OR_ZIP")]
    data: PathBuf = Spec::required(),
    /// Train on N of the pictures, drawn at random [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    subset: u64 = Spec::optional(),
    /// Seed that chooses the --subset pictures [default: 0]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    subset_seed: u64 = Spec::default(0).only_with("--subset", |o| o.subset.is_some()),
    /// Folder in which the run's own folder is made
    #[arg(long, value_name = "DIR")]
    outdir: PathBuf = Spec::required(),
    /// Words for the name of the run's folder [default: loss and batch]
    #[arg(long, value_name = "TEXT")]
    desc: String = Spec::default_from(|o, _| words_for_folder(o)).follows(&["loss", "root_k", "pairing", "batch"]),
    /// auto (CUDA if usable), cpu, cuda or cuda:N [default: auto]
    #[arg(long)]
    device: String = Spec::default("auto".to_owned()),
    /// Seed of every random number of the run [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    seed: u64 = Spec::default(0),
    /// Width of z, for a generator that does not say it
    #[arg(long, allow_negative_numbers = true)]
    z_dim: i64 = Spec::optional(),

    /// Adversarial loss [default: rooted]
    #[arg(long, help_heading = "Objective")]
    loss: LossKind = Spec::default(LossKind::Rooted),
    /// k of the rooted loss, at least 1: the smaller, the more images count that the discriminator is sure and wrong about; the larger, the
    /// nearer to the logistic loss [default: 20]
    #[arg(long, value_name = "K", help_heading = "Objective", allow_negative_numbers = true)]
    root_k: f64 = Spec::default(20.0).only_with("--loss rooted", is_rooted).fits(|k, o, _| problem_of_rooted(*k, o.root_slope_cap)),
    /// Continue the rooted loss linearly beyond this slope |dL/dlogit|, above 0; 1 is the largest of the logistic loss [default: none]
    #[arg(long, value_name = "SLOPE", help_heading = "Objective", allow_negative_numbers = true)]
    root_slope_cap: f64 = Spec::optional().only_with("--loss rooted", is_rooted),
    /// Let the loss judge every image by itself, or pairs of a real and a generated one [default: relativistic, with --loss logistic none]
    #[arg(long, help_heading = "Objective")]
    pairing: Pairing = Spec::default_from(|o, _| o.loss.map(pairing_of)).derived_from(&["loss"]),
    /// Weight of R1, 0 for none: the loss has gamma / 2 times the squared gradient, as NVIDIA's code [default: 0.0002 resolution^2 / batch]
    #[arg(long, value_name = "GAMMA", help_heading = "Objective", allow_negative_numbers = true)]
    r1_gamma: f64 = Spec::default_from(|o, facts| Some(0.0002 * facts.pixels() / o.batch?.max(1) as f64))
        .range(zero_or_more)
        .derived_from(&["batch"]),
    /// Weight of R2, which is R1 on generated images, 0 for none [default: that of R1, with --pairing none 0]
    #[arg(long, value_name = "GAMMA", help_heading = "Objective", allow_negative_numbers = true)]
    r2_gamma: f64 = Spec::default_from(|o, _| if is_paired(o)? { o.r1_gamma } else { Some(0.0) })
        .range(zero_or_more)
        .derived_from(&["loss", "pairing", "r1_gamma", "batch"]),
    /// Iterations between two steps of R1 and R2, at least 1 [default: 16]
    #[arg(long, value_name = "N", help_heading = "Objective", allow_negative_numbers = true)]
    r1_interval: u64 = Spec::default(R1_INTERVAL).range(at_least_one),
    /// Weight of path-length regularisation, 0 for none [default: 2]
    #[arg(long, value_name = "WEIGHT", help_heading = "Objective", allow_negative_numbers = true)]
    pl_weight: f64 = Spec::default(2.0).range(zero_or_more).forced(|facts| (!facts.has_ws).then_some(0.0)),
    /// Iterations between two path-length steps, at least 1 [default: 4]
    #[arg(long, value_name = "N", help_heading = "Objective", allow_negative_numbers = true)]
    pl_interval: u64 = Spec::default(PL_INTERVAL).range(at_least_one),
    /// Probability of mixing two styles, 0 to 1 [default: 0.9]
    #[arg(long, value_name = "PROB", help_heading = "Objective", allow_negative_numbers = true)]
    style_mixing: f64 = Spec::default(0.9).range(probability).forced(|facts| (!facts.has_ws).then_some(0.0)),

    /// Augmentation of what the discriminator sees [default: ada]
    #[arg(long, help_heading = "Augmentation")]
    aug: AugmentMode = Spec::default(AugmentMode::Ada),
    /// Transforms, by name or by the letters of docs/training.md: blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn or bgcfnc [default: bgc]
    #[arg(long, value_name = "PIPE", help_heading = "Augmentation")]
    augpipe: String = Spec::default("bgc".to_owned()).only_with("--aug ada or fixed", is_augmented).follows(&["aug"]).fits(|pipe, _, _| {
            let unknown = || format!("--augpipe '{pipe}' is unknown; allowed are {}", PIPES.join(", "));
            Transforms::named(pipe).is_none().then(unknown)
        }),
    /// Probability of each transform, 0 to 1, for --aug fixed
    #[arg(long, value_name = "PROB", allow_negative_numbers = true, help_heading = "Augmentation")]
    p: f64 = Spec::optional().only_with("--aug fixed", is_fixed).needed("from 0 to 1, as in --p 0.2").range(probability),
    /// Probability that --aug ada begins with, 0 to 1 [default: 0]
    #[arg(long, value_name = "PROB", allow_negative_numbers = true, help_heading = "Augmentation")]
    init_p: f64 = Spec::default(0.0).only_with("--aug ada", is_adaptive).range(probability),
    /// Mean sign of D(real), in pairs of D(real) less the mean of D(fake), that --aug ada steers to, -1 to 1 [default: 0.6]
    #[arg(long, value_name = "SIGN", allow_negative_numbers = true, help_heading = "Augmentation")]
    target: f64 = Spec::default(0.6).only_with("--aug ada", is_adaptive).range(sign),
    /// Thousands of images in which --aug ada can take p from 0 to 1 [default: 100, for a random pair 500]
    #[arg(long, value_name = "KIMG", allow_negative_numbers = true, help_heading = "Augmentation")]
    ada_kimg: f64 = Spec::default_from(|_, facts| Some(if facts.is_random { 500.0 } else { 100.0 }))
        .only_with("--aug ada", is_adaptive)
        .range(above_zero),

    /// Length of the run in thousands of images [default: 1000]
    #[arg(long, help_heading = "Training", allow_negative_numbers = true)]
    kimg: f64 = Spec::default(1000.0).range(above_zero),
    /// Images per iteration, a multiple of the discriminator's minibatch-stddev group (4 in most) [default: 4096 / resolution, 1 to 32]
    #[arg(long, value_name = "N", help_heading = "Training", allow_negative_numbers = true)]
    batch: u64 = Spec::default_from(|_, facts| Some((4096 / facts.resolution.max(1)).clamp(1, 32)))
        .range(at_least_one)
        .fits(problem_of_batch),
    /// Images computed at once, gradients being accumulated: a divisor of the batch and a multiple of that group; lower it when memory is
    /// short [default: batch, on a GPU what fits by an estimate]
    #[arg(long, value_name = "N", help_heading = "Training", allow_negative_numbers = true)]
    micro_batch: u64 = Spec::default_from(|o, facts| Some(facts.memory.micro_batch(facts.share(o.batch?), o.precision?, facts.mbstd_group_size)))
        .range(at_least_one)
        .follows(&["batch"])
        .fits(problem_of_micro_batch),
    /// Type that the networks compute in; parameters stay float32 [default: fp32, on CUDA fp16 where the networks can]
    #[arg(long, help_heading = "Training")]
    precision: PrecisionKind = Spec::default_from(|_, facts| {
            let is_fast = facts.on_cuda && facts.has_precision;
            Some(if is_fast { PrecisionKind::Fp16 } else { PrecisionKind::Fp32 })
        })
        .fits(problem_of_precision),
    /// Number of resolutions, highest first, that compute in --precision bf16 or fp16 [default: 4]
    #[arg(long, value_name = "N", help_heading = "Training", allow_negative_numbers = true)]
    precision_resolutions: u64 = Spec::default_from(|o, _| Some(if o.precision? == PrecisionKind::Fp32 { 0 } else { 4 }))
        .follows(&["precision"])
        .fits(problem_of_precision_resolutions),
    /// Let a GPU round the factors of float32 products to 10 bits, which is faster [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Training")]
    tf32: bool = Spec::default(false),
    /// Have a GPU give the same bits every time, which is slower; a CPU always does [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Training")]
    deterministic: bool = Spec::default(false),
    /// Learning rate of the generator [default: 0.0025, from 1024 pixels on 0.002]
    #[arg(long, value_name = "LR", help_heading = "Training", allow_negative_numbers = true)]
    g_lr: f64 = Spec::default_from(|_, facts| Some(if facts.resolution >= 1024 { 0.002 } else { 0.0025 })).range(above_zero),
    /// Learning rate of the discriminator [default: as g-lr]
    #[arg(long, value_name = "LR", help_heading = "Training", allow_negative_numbers = true)]
    d_lr: f64 = Spec::default_from(|o, _| o.g_lr).range(above_zero).derived_from(&["g_lr"]),
    /// Thousands of images over which both learning rates rise from 0 [default: 0]
    #[arg(long, value_name = "KIMG", help_heading = "Training", allow_negative_numbers = true)]
    lr_warmup_kimg: f64 = Spec::default(0.0).range(zero_or_more),
    /// Half-life of the averaged generator in thousands of images [default: 10 batch / 32]
    #[arg(long, value_name = "KIMG", help_heading = "Training", allow_negative_numbers = true)]
    ema_kimg: f64 = Spec::default_from(|o, _| Some(o.batch? as f64 * 10.0 / 32.0)).range(zero_or_more).derived_from(&["batch"]),
    /// Limit the half-life of --ema-kimg to this share of the images seen, 0 for no limit [default: 0, for a random pair 0.05]
    #[arg(long, value_name = "SHARE", help_heading = "Training", allow_negative_numbers = true)]
    ema_rampup: f64 = Spec::default_from(|_, facts| Some(if facts.is_random { 0.05 } else { 0.0 })).range(zero_or_more),
    /// Train on mirror images too [default: false]
    #[arg(long, visible_alias = "mirror", num_args = 0..=1, default_missing_value = "true", help_heading = "Training")]
    xflip: bool = Spec::default(false),
    /// Leave the first N layers of the discriminator as they are (FreezeD), from the highest resolution [default: 0]
    #[arg(long, value_name = "N", help_heading = "Transfer", allow_negative_numbers = true)]
    freeze_d: u64 = Spec::default(0),
    /// Leave the first N blocks of the generator as they are, from 4x4 [default: 0]
    #[arg(long, value_name = "N", help_heading = "Transfer", allow_negative_numbers = true)]
    freeze_g: u64 = Spec::default(0),
    /// Leave the generator's mapping network as it is [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Transfer")]
    freeze_mapping: bool = Spec::default(false),
    /// Leave the strengths of the generator's noise as they are, against grain in flat artwork [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Transfer")]
    freeze_noise: bool = Spec::default(false),
    /// Training counts as diverged after this many skipped steps of one phase in a row [default: 20]
    #[arg(long, value_name = "N", help_heading = "Faults", allow_negative_numbers = true)]
    max_bad_steps: u64 = Spec::default(20).range(at_least_one),
    /// What to do when training has diverged [default: stop]
    #[arg(long, value_name = "WHAT", help_heading = "Faults")]
    on_divergence: OnDivergence = Spec::default(OnDivergence::Stop),
    /// Most rollbacks in one run, with --on-divergence rollback [default: 3]
    #[arg(long, value_name = "N", help_heading = "Faults", allow_negative_numbers = true)]
    max_rollbacks: u64 = Spec::default(3),
    /// Take half the micro-batch or less when memory runs out, instead of stopping [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Faults")]
    shrink_micro_batch: bool = Spec::default(false),

    /// Minutes between two checkpoints, which --resume goes on from; 0 for one after every iteration [default: 10]
    #[arg(long, value_name = "MINUTES", help_heading = "Output", allow_negative_numbers = true)]
    checkpoint_minutes: f64 = Spec::default(10.0).range(zero_or_more),
    /// Checkpoints that are kept besides the one of the best snapshot, at least 1 [default: 2]
    #[arg(long, value_name = "N", help_heading = "Output", allow_negative_numbers = true)]
    keep_checkpoints: u64 = Spec::default(2).range(at_least_one),
    /// Thousands of images from one line of statistics to the next [default: 4]
    #[arg(long, value_name = "KIMG", help_heading = "Output", allow_negative_numbers = true)]
    tick_kimg: f64 = Spec::default(4.0).range(above_zero),
    /// Ticks between two snapshots of the weights, 0 for only the last [default: 50, less in short runs: at least 4 snapshots]
    #[arg(long, value_name = "TICKS", help_heading = "Output", allow_negative_numbers = true)]
    snapshot_ticks: u64 = Spec::default_from(|o, _| ticks_between(4, o)).derived_from(&["kimg", "tick_kimg"]),
    /// Ticks between two image grids, 0 for only the last [default: 50, less in short runs: at least 10 grids]
    #[arg(long, value_name = "TICKS", help_heading = "Output", allow_negative_numbers = true)]
    image_ticks: u64 = Spec::default_from(|o, _| ticks_between(10, o)).derived_from(&["kimg", "tick_kimg"]),
    /// Snapshots that are kept besides the best one, 0 for all [default: 0]
    #[arg(long, value_name = "N", help_heading = "Output", allow_negative_numbers = true)]
    keep_snapshots: u64 = Spec::default(0),
    /// Measure every snapshot by these metrics, as in fid10k_full,kid10k_full (`rootgan metrics --help` lists them); the first one decides
    /// which snapshot is the best [default: none]
    #[arg(long, value_name = "NAMES", help_heading = "Output")]
    metrics: String = Spec::optional().fits(|names, o, _| problem_of_metrics(names, o.detector.is_some())),
    /// Network of features for --metrics (TorchScript), see `rootgan metrics --help`
    #[arg(long, value_name = "FILE.pt", help_heading = "Output")]
    detector: PathBuf = Spec::optional(),
    /// Second detector, for precision, recall, density, coverage and path length [default: that of --detector]
    #[arg(long, value_name = "FILE.pt", help_heading = "Output")]
    vgg_detector: PathBuf = Spec::optional(),
    /// Pictures in a grid, as COLUMNSxROWS [default: what fits 7680x4320, at most 32x32]
    #[arg(long, value_name = "CxR", help_heading = "Output")]
    grid: GridSize = Spec::default_from(|_, facts| Some(GridSize::for_resolution(facts.resolution.max(1)))).fits(problem_of_grid),
}

/// Returns the flag of a key: `r1-gamma` for `r1_gamma`.
fn flag_of(key: &str) -> String {
    key.replace('_', "-")
}

/// Returns the ticks between two outputs of which a run is to have `least`: 50 as in other StyleGAN trainings, or fewer.
fn ticks_between(least: u64, o: &Options) -> Option<u64> {
    let ticks = o.kimg? / o.tick_kimg? / least as f64;
    Some((ticks as u64).clamp(1, 50))
}

fn is_rooted(o: &Options) -> bool {
    o.loss.unwrap_or_default() == LossKind::Rooted
}

/// Returns the form that a loss has by default: docs/objectives.md says what was compared.
fn pairing_of(loss: LossKind) -> Pairing {
    match loss {
        LossKind::Rooted => Pairing::Relativistic,
        LossKind::Logistic => Pairing::None,
    }
}

fn is_paired(o: &Options) -> Option<bool> {
    o.pairing.map(|pairing| pairing == Pairing::Relativistic)
}

fn is_augmented(o: &Options) -> bool {
    o.aug.unwrap_or_default() != AugmentMode::Noaug
}

fn is_fixed(o: &Options) -> bool {
    o.aug == Some(AugmentMode::Fixed)
}

fn is_adaptive(o: &Options) -> bool {
    o.aug.unwrap_or_default() == AugmentMode::Ada
}

/// Returns the words for a run's folder, as in `rooted2-batch64`.
fn words_for_folder(o: &Options) -> Option<String> {
    let loss = match o.loss? {
        LossKind::Rooted => format!("rooted{}", o.root_k?),
        LossKind::Logistic => "logistic".to_owned(),
    };
    let preset = o.cfg.as_deref().filter(|cfg| *cfg != "auto").map_or_else(String::new, |cfg| format!("{cfg}-"));
    let pairs = if is_paired(o)? { "-paired" } else { "" };
    Some(format!("{preset}{loss}{pairs}-batch{}", o.batch?))
}

fn problem_of_rooted(k: f64, slope_cap: Option<f64>) -> Option<String> {
    Rooted::new(k, slope_cap).err().map(|error| format!("--root-k or --root-slope-cap: {error}"))
}

fn problem_of_batch(&batch: &u64, _: &Options, facts: &NetworkFacts) -> Option<String> {
    let processes = facts.processes;
    if batch > MAX_BATCH {
        return Some(format!("--batch {batch} is more than {MAX_BATCH}"));
    }
    if batch == 0 || batch.is_multiple_of(processes) {
        return None;
    }
    let below = batch / processes * processes;
    let nearest = if below == 0 { processes.to_string() } else { format!("{below} or {}", below + processes) };
    Some(format!("--batch {batch} cannot be shared by {processes} processes; pass {nearest}"))
}

fn problem_of_micro_batch(&micro: &u64, o: &Options, facts: &NetworkFacts) -> Option<String> {
    let batch = o.batch.filter(|&batch| batch > 0)?;
    let group = facts.mbstd_group_size.clamp(1, micro);
    let flag = if micro == batch { "--batch" } else { "--micro-batch" };
    let mut problems = Vec::new();
    let share = facts.share(batch);
    if batch % micro != 0 {
        problems.push(format!("--batch {batch} is not divisible by --micro-batch {micro}"));
    } else if !share.is_multiple_of(micro) && batch.is_multiple_of(facts.processes) {
        problems.push(format!(
            "each of {} processes has {share} images of a batch, which is not divisible by --micro-batch {micro}",
            facts.processes
        ));
    }
    if micro % group != 0 {
        problems.push(format!(
            "the discriminator compares groups of {group} images: pass a multiple of {group} as {flag}, not {micro}"
        ));
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn problem_of_precision(&kind: &PrecisionKind, _: &Options, facts: &NetworkFacts) -> Option<String> {
    let text = "--precision: these networks compute in float32 only, having no method set_precision; import or make them again \
                with this version (weights/README.md)";
    (kind != PrecisionKind::Fp32 && !facts.has_precision).then(|| text.to_owned())
}

fn problem_of_precision_resolutions(&count: &u64, o: &Options, _: &NetworkFacts) -> Option<String> {
    match (o.precision?, count) {
        (PrecisionKind::Fp32, 1..) => Some("--precision-resolutions belongs to --precision bf16 or fp16".to_owned()),
        (PrecisionKind::Bf16 | PrecisionKind::Fp16, 0) => {
            Some("--precision-resolutions must be at least 1; for none pass --precision fp32".to_owned())
        }
        _ => None,
    }
}

fn problem_of_metrics(names: &str, has_detector: bool) -> Option<String> {
    match parse_list(names) {
        Err(error) => Some(format!("--metrics: {error:#}")),
        Ok(_) if has_detector => None,
        Ok(_) => Some("--metrics needs --detector (rootgan detector makes one)".to_owned()),
    }
}

fn problem_of_grid(grid: &GridSize, _: &Options, facts: &NetworkFacts) -> Option<String> {
    let cells = (grid.columns * grid.rows) as u64;
    let too_large = || format!("a --grid of {cells} pictures of this size has over 2^30 pixels; pass a smaller one");
    (cells * facts.resolution * facts.resolution > MAX_GRID_PIXELS).then(too_large)
}

impl Options {
    /// Returns whether a run with these options judges pairs.
    ///
    /// # Errors
    /// An unknown preset.
    pub fn effective_pairing(&self) -> Result<Pairing> {
        let all = self.clone().over(presets::preset_of(self)?);
        Ok(all.pairing.unwrap_or_else(|| pairing_of(all.loss.unwrap_or_default())))
    }

    /// Lists what these options would change in `recorded`: key, recorded value and value now.
    pub fn changes(&self, recorded: &Self) -> Vec<(String, serde_json::Value, serde_json::Value)> {
        let object = |options: &Self| match serde_json::to_value(options) {
            Ok(serde_json::Value::Object(object)) => object,
            _ => serde_json::Map::new(),
        };
        let recorded = object(recorded);
        let differs = |(key, now): (String, serde_json::Value)| {
            let before = recorded.get(&key).cloned().unwrap_or_default();
            (!now.is_null() && now != before).then_some((key, before, now))
        };
        object(self).into_iter().filter_map(differs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of a run of 8 kimg at 64x64, as its `training_options.json` has them.
    fn recorded(kimg: f64) -> Options {
        let options = Options { kimg: Some(kimg), batch: Some(32), ..Options::default() };
        options.filled(&NetworkFacts::of_resolution(64))
    }

    #[test]
    fn derived_values_of_a_file_follow_their_cause_and_chosen_ones_stay() {
        let over = |given: Options, file: Options| {
            let merged = given.over_file(file);
            let short = (merged.snapshot_ticks, merged.image_ticks, merged.d_lr);
            (short, (merged.r1_gamma, merged.r2_gamma, merged.ema_kimg))
        };
        let kimg = || Options { kimg: Some(1000.0), ..Options::default() };
        let batch = Options { batch: Some(8), ..Options::default() };
        let g_lr = Options { g_lr: Some(0.001), ..Options::default() };
        let file = recorded(8.0);
        let derived = ((Some(1), Some(1), Some(0.0025)), (Some(0.0256), Some(0.0256), Some(10.0)));
        assert_eq!(over(Options::default(), file.clone()), derived);
        assert_eq!(over(kimg(), file.clone()), ((None, None, derived.0.2), derived.1));
        assert_eq!(over(batch, file.clone()), (derived.0, (None, None, None)));
        assert_eq!(over(g_lr, file.clone()), ((Some(1), Some(1), None), derived.1));
        // The same cause again is none.
        assert_eq!(over(Options { kimg: Some(8.0), ..kimg() }, file.clone()), derived);
        let chosen = Options {
            snapshot_ticks: Some(5),
            image_ticks: Some(0),
            d_lr: Some(0.002),
            r1_gamma: Some(8.0),
            ema_kimg: Some(2.0),
            ..file
        };
        let stays = ((Some(5), Some(0), Some(0.002)), (Some(8.0), Some(0.0256), Some(2.0)));
        let all = Options { batch: Some(8), g_lr: Some(0.001), ..kimg() };
        assert_eq!(over(all, chosen), stays);
    }

    #[test]
    fn the_rooted_loss_judges_pairs_and_the_logistic_one_does_not_unless_an_option_says_so() {
        use {LossKind::*, Pairing::Relativistic};
        let facts = NetworkFacts::of_resolution(64);
        let of = |options: Options| {
            let filled = options.filled(&facts);
            (filled.pairing.unwrap(), filled.r2_gamma.unwrap(), filled.desc.unwrap())
        };
        let with = |loss, pairing| Options { loss, pairing, r1_gamma: Some(3.0), batch: Some(8), ..Options::default() };
        let text = str::to_owned;
        assert_eq!(of(with(None, None)), (Relativistic, 3.0, text("rooted20-paired-batch8")));
        assert_eq!(of(with(Some(Logistic), None)), (Pairing::None, 0.0, text("logistic-batch8")));
        assert_eq!(of(with(None, Some(Pairing::None))), (Pairing::None, 0.0, text("rooted20-batch8")));
        assert_eq!(of(with(Some(Logistic), Some(Relativistic))).0, Relativistic);

        // A record of a run has the form that its loss leads to, which another loss changes, or the one that was chosen.
        let over = |given, recorded: Options| of(with(given, None).over_file(recorded.filled(&facts)));
        assert_eq!(over(Some(Logistic), with(None, None)), (Pairing::None, 0.0, text("logistic-batch8")));
        assert_eq!(over(Some(Rooted), with(Some(Logistic), None)).1, 3.0);
        assert_eq!(over(Some(Rooted), with(None, None)).0, Relativistic);
        assert_eq!(over(Some(Logistic), with(None, Some(Pairing::None))).0, Pairing::None);
        // A chosen weight of R2 stays, whatever the form.
        let chosen = Options { r2_gamma: Some(5.0), ..with(None, None) };
        assert_eq!(over(Some(Logistic), chosen.clone()), (Pairing::None, 5.0, text("logistic-batch8")));
        assert_eq!(of(with(None, Some(Pairing::None)).over(chosen)).1, 5.0);
        assert_eq!(
            over(Some(Rooted), with(Some(Logistic), Some(Relativistic))),
            (Relativistic, 3.0, text("rooted20-paired-batch8"))
        );
    }
}
