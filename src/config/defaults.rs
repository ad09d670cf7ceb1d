//! What options are where nobody says them: those of the preset, then StyleGAN2-ADA's `auto` configuration.

use anyhow::Result;

use super::presets::preset;
use super::run::NetworkFacts;
use super::{AugmentMode, GridSize, LossKind, OnDivergence, Options};
use crate::io::grid::Grid;
use crate::model::PrecisionKind;

/// The preset under the options. A transfer begins with an average that is worth keeping, so a preset's ramp-up of the
/// average is for random pairs only.
pub(super) fn with_preset(options: &Options, facts: NetworkFacts) -> Result<Options> {
    let mut preset = preset(options.cfg.as_deref().unwrap_or("auto"))?;
    if !facts.is_random {
        preset.ema_rampup = None;
    }
    // Said about the preset, not about this run.
    (preset.about, preset.expected) = (None, None);
    if options.loss == Some(LossKind::Logistic) {
        (preset.root_k, preset.root_slope_cap) = (None, None);
    }
    if options.aug.is_some() {
        (preset.augpipe, preset.p) = (None, None);
        (preset.target, preset.init_p, preset.ada_kimg) = (None, None, None);
    }
    if options.batch.is_some() {
        preset.micro_batch = None;
    }
    Ok(options.clone().or(preset))
}

/// The defaults of StyleGAN2-ADA's `auto` configuration, for one device.
pub(super) fn with_defaults(options: Options, facts: NetworkFacts) -> Options {
    let resolution = facts.resolution.max(1);
    let batch = options.batch.unwrap_or((4096 / resolution).clamp(1, 32));
    let g_lr = options.g_lr.unwrap_or(if resolution >= 1024 { 0.002 } else { 0.0025 });
    let grid = Grid::for_resolution(resolution as usize, resolution as usize);
    let loss = options.loss.unwrap_or_default();
    let rooted = loss == LossKind::Rooted;
    let root_k = options.root_k.unwrap_or(2.0);
    let cfg = options.cfg.clone().unwrap_or_else(|| "auto".to_owned());
    let name = if rooted { format!("rooted{root_k}") } else { "logistic".to_owned() };
    let aug = options.aug.unwrap_or_default();
    let (augmented, adaptive) = (aug != AugmentMode::Noaug, aug == AugmentMode::Ada);
    let fast = if facts.on_cuda && facts.has_precision { PrecisionKind::Fp16 } else { PrecisionKind::Fp32 };
    let precision = options.precision.unwrap_or(fast);
    let defaults = Options {
        desc: Some(if cfg == "auto" { format!("{name}-batch{batch}") } else { format!("{cfg}-{name}-batch{batch}") }),
        subset_seed: options.subset.map(|_| 0),
        cfg: Some(cfg),
        device: Some("auto".to_owned()),
        seed: Some(0),
        loss: Some(loss),
        root_k: rooted.then_some(root_k),
        r1_gamma: Some(0.0002 * (resolution * resolution) as f64 / batch.max(1) as f64),
        r1_interval: Some(16),
        pl_weight: Some(2.0),
        pl_interval: Some(4),
        style_mixing: Some(0.9),
        aug: Some(aug),
        augpipe: augmented.then(|| "bgc".to_owned()),
        init_p: adaptive.then_some(0.0),
        target: adaptive.then_some(0.6),
        ada_kimg: adaptive.then_some(if facts.is_random { 500.0 } else { 100.0 }),
        kimg: Some(1000.0),
        batch: Some(batch),
        micro_batch: Some(batch),
        precision: Some(precision),
        precision_resolutions: Some(if precision == PrecisionKind::Fp32 { 0 } else { 4 }),
        g_lr: Some(g_lr),
        d_lr: Some(g_lr),
        lr_warmup_kimg: Some(0.0),
        freeze_d: Some(0),
        freeze_g: Some(0),
        freeze_mapping: Some(false),
        ema_kimg: Some(batch as f64 * 10.0 / 32.0),
        ema_rampup: Some(if facts.is_random { 0.05 } else { 0.0 }),
        xflip: Some(false),
        max_bad_steps: Some(20),
        on_divergence: Some(OnDivergence::Stop),
        max_rollbacks: Some(3),
        shrink_micro_batch: Some(false),
        checkpoint_minutes: Some(10.0),
        keep_checkpoints: Some(2),
        tick_kimg: Some(4.0),
        snapshot_ticks: Some(50),
        image_ticks: Some(50),
        keep_snapshots: Some(0),
        grid: Some(GridSize { columns: grid.columns, rows: grid.rows }),
        ..Options::default()
    };
    let mut effective = options.or(defaults);
    if !facts.has_ws {
        (effective.pl_weight, effective.style_mixing) = (Some(0.0), Some(0.0));
    }
    effective
}
