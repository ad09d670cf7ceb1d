//! Which values options may have.

use super::run::{NetworkFacts, count, number};
use super::{AugmentMode, LossKind, Options};
use crate::model::PrecisionKind;

/// More images in one iteration are a typing error.
const MAX_BATCH: u64 = 1 << 16;
/// So are more than a million million images.
const MAX_KIMG: f64 = 1e9;
/// More pixels in a preview grid are one too, and would not fit a PNG viewer.
const MAX_GRID_PIXELS: u64 = 1 << 30;

/// Every value against its range, and those that depend on each other.
pub(super) fn check_ranges(o: &Options, facts: NetworkFacts, problems: &mut Problems) {
    let (batch, micro) = (count(o.batch), count(o.micro_batch));
    problems.check(batch > 0, || "--batch must be at least 1".to_owned());
    problems.check(batch <= MAX_BATCH, || format!("--batch {batch} is more than {MAX_BATCH}"));
    problems.check(micro > 0, || "--micro-batch must be at least 1".to_owned());
    if batch > 0 && micro > 0 {
        problems.check(batch % micro == 0, || format!("--batch {batch} is not divisible by --micro-batch {micro}"));
        let group = facts.mbstd_group_size.clamp(1, micro);
        problems.check(micro % group == 0, || {
            let flag = if micro == batch { "--batch" } else { "--micro-batch" };
            format!(
                "the discriminator compares groups of {group} images: pass a multiple of {group} as {flag}, not {micro}"
            )
        });
    }
    for (value, flag) in [(o.g_lr, "g-lr"), (o.d_lr, "d-lr"), (o.kimg, "kimg"), (o.tick_kimg, "tick-kimg")] {
        let value = number(value);
        problems.check(value.is_finite() && value > 0.0, || format!("--{flag} must be above 0, not {value}"));
        problems
            .check(value <= MAX_KIMG || !value.is_finite(), || format!("--{flag} {value:e} is more than {MAX_KIMG}"));
    }
    for (value, flag) in [
        (o.r1_gamma, "r1-gamma"),
        (o.pl_weight, "pl-weight"),
        (o.ema_kimg, "ema-kimg"),
        (o.ema_rampup, "ema-rampup"),
        (o.lr_warmup_kimg, "lr-warmup-kimg"),
        (o.checkpoint_minutes, "checkpoint-minutes"),
    ] {
        let value = number(value);
        problems.check(value.is_finite() && value >= 0.0, || format!("--{flag} must be 0 or more, not {value}"));
    }
    for (value, flag) in [
        (o.r1_interval, "r1-interval"),
        (o.pl_interval, "pl-interval"),
        (o.max_bad_steps, "max-bad-steps"),
        (o.keep_checkpoints, "keep-checkpoints"),
    ] {
        problems.check(count(value) > 0, || format!("--{flag} must be at least 1"));
    }
    let reduced = o.precision.unwrap_or_default() != PrecisionKind::Fp32;
    problems.check(!reduced || facts.has_precision, || {
        "--precision: these networks compute in float32 only, having no method set_precision; import or make them again \
         with this version (weights/README.md)"
            .to_owned()
    });
    problems.check(!reduced || count(o.precision_resolutions) > 0, || {
        "--precision-resolutions must be at least 1; for none pass --precision fp32".to_owned()
    });
    problems.check(reduced || count(o.precision_resolutions) == 0, || {
        "--precision-resolutions belongs to --precision bf16 or fp16".to_owned()
    });
    problems.check(o.metrics.is_none() || o.detector.is_some(), || {
        "--metrics needs --detector (scripts/make_detector.py makes one)".to_owned()
    });
    problems.check(o.subset_seed.is_none() || o.subset.is_some(), || "--subset-seed belongs to --subset".to_owned());
    let cells = o.grid.map_or(0, |grid| (grid.columns * grid.rows) as u64);
    problems.check(cells * facts.resolution * facts.resolution <= MAX_GRID_PIXELS, || {
        format!("a --grid of {cells} pictures of this size has over 2^30 pixels; pass a smaller one")
    });
    let mixing = number(o.style_mixing);
    problems.check((0.0..=1.0).contains(&mixing), || format!("--style-mixing must be from 0 to 1, not {mixing}"));
    check_augment(o, problems);
    if o.loss == Some(LossKind::Logistic) {
        problems.check(o.root_k.is_none() && o.root_slope_cap.is_none(), || {
            "--root-k and --root-slope-cap belong to --loss rooted".to_owned()
        });
    }
}

fn check_augment(o: &Options, problems: &mut Problems) {
    let mode = o.aug.unwrap_or_default();
    problems.check(mode != AugmentMode::Fixed || o.p.is_some(), || {
        "--aug fixed needs --p, from 0 to 1, as in --p 0.2".to_owned()
    });
    problems.check(mode == AugmentMode::Fixed || o.p.is_none(), || "--p belongs to --aug fixed".to_owned());
    let adaptive = [o.target, o.init_p, o.ada_kimg].iter().any(Option::is_some);
    problems.check(mode == AugmentMode::Ada || !adaptive, || {
        "--target, --init-p and --ada-kimg belong to --aug ada".to_owned()
    });
    problems.check(mode != AugmentMode::Noaug || o.augpipe.is_none(), || {
        "--augpipe belongs to --aug ada or fixed".to_owned()
    });
    for (value, flag) in [(o.p, "p"), (o.init_p, "init-p")] {
        let value = value.unwrap_or(0.0);
        problems.check((0.0..=1.0).contains(&value), || format!("--{flag} must be from 0 to 1, not {value}"));
    }
    let target = o.target.unwrap_or(0.6);
    problems.check((-1.0..=1.0).contains(&target), || format!("--target must be from -1 to 1, not {target}"));
    let ada_kimg = o.ada_kimg.unwrap_or(1.0);
    problems.check(ada_kimg.is_finite() && ada_kimg > 0.0, || format!("--ada-kimg must be above 0, not {ada_kimg}"));
}

/// Everything that is wrong, so that the user hears of it at once.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<String>);

impl Problems {
    /// Notes `problem` unless this holds.
    pub(super) fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }
}
