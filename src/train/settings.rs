//! The settings of an iteration. Every setting is resolved: None means off.

use std::sync::Arc;

use super::ada::AdaSettings;
use super::ema::EmaSettings;
use super::objective::Objective;
use super::optimizer::AdamSettings;
use super::regularizers::{PathLengthSettings, R1Settings};
use crate::augment::Transforms;

/// The settings of a [`Trainer`](super::Trainer).
#[derive(Clone, Debug)]
pub struct TrainSettings {
    /// Seed of every random stream.
    pub seed: u64,
    /// Images per iteration.
    pub batch: u64,
    /// Images computed at once, a divisor of `batch`; gradients are accumulated.
    pub micro_batch: u64,
    /// Whether a smaller micro-batch, of half the images or less, is taken when memory runs out.
    pub shrink_micro_batch: bool,
    /// The adversarial objective.
    pub objective: Arc<dyn Objective>,
    /// R1 on the discriminator.
    pub r1: R1Settings,
    /// Weight of R2, the same penalty on generated images in the same iterations; 0 for none.
    pub r2_gamma: f64,
    /// Path length on the generator.
    pub path_length: PathLengthSettings,
    /// Probability of mixing two styles in one call, 0 to 1.
    pub style_mixing: f64,
    /// The augmentation of what the discriminator sees.
    pub augment: AugmentSettings,
    /// The generator's optimiser.
    pub g_adam: AdamSettings,
    /// The discriminator's optimiser.
    pub d_adam: AdamSettings,
    /// Images over which the learning rates rise from 0; 0 for none.
    pub lr_warmup_images: u64,
    /// The averaged generator.
    pub ema: EmaSettings,
    /// Skipped steps in a row, of one phase, after which training has diverged.
    pub max_bad_steps: u64,
}

impl TrainSettings {
    /// Whether the discriminator has a regularisation.
    pub fn has_gradient_penalty(&self) -> bool {
        self.r1.gamma > 0.0 || self.r2_gamma > 0.0
    }
}

/// The augmentation of what the discriminator sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentSettings {
    /// The transforms that can happen to an image.
    pub transforms: Transforms,
    /// The probability of each, 0 to 1: at the beginning where it is adapted, throughout where it is not.
    pub p: f64,
    /// The rule by which p is adapted; None where p is a constant.
    pub ada: Option<AdaSettings>,
}
