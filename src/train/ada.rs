//! Adaptive discriminator augmentation: p follows the sign of the discriminator's logits on real images.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::tensor::world::World;

/// The rule by which p moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaSettings {
    /// The mean sign of D(real) that p is steered to.
    pub target: f64,
    /// Least thousands of images in which p can rise from 0 to 1.
    pub ada_kimg: f64,
    /// Iterations between two adjustments.
    pub interval: u64,
}

/// The augmentation's probability over a run.
pub(super) enum AugmentProbability {
    /// The probability is a constant of the run.
    Fixed(f64),
    /// The probability follows the signs of D(real) since the last adjustment, which wait on the device.
    Adaptive {
        /// Holds p and moves it.
        controller: AdaController,
        /// One tensor [N] for every micro-batch.
        signs: Vec<Tensor>,
    },
}

impl AugmentProbability {
    /// Begins with `p`, and adapts it where `adaptive` says how.
    pub(super) fn new(p: f64, adaptive: Option<AdaSettings>) -> Self {
        match adaptive {
            Some(settings) => Self::Adaptive { controller: AdaController::new(settings, p), signs: Vec::new() },
            None => Self::Fixed(p),
        }
    }

    /// Keeps this probability, cut to 0 to 1.
    pub(super) fn fixed(p: f64) -> Self {
        Self::Fixed(p.clamp(0.0, 1.0))
    }

    /// Returns the probability for the next phase.
    pub(super) fn p(&self) -> f64 {
        match self {
            Self::Fixed(p) => *p,
            Self::Adaptive { controller, .. } => controller.p(),
        }
    }

    /// Keeps the signs of an iteration.
    pub(super) fn collect(&mut self, new: Vec<Tensor>) {
        if let Self::Adaptive { signs, .. } = self {
            signs.extend(new);
        }
    }

    /// Returns the waiting signs in one tensor; None where there are none.
    pub(super) fn pending(&self) -> Option<Tensor> {
        match self {
            Self::Adaptive { signs, .. } if !signs.is_empty() => Some(Tensor::cat(signs, 0)),
            _ => None,
        }
    }

    /// Takes over the probability and the waiting signs of a checkpoint, where p is adapted.
    pub(super) fn restore(&mut self, p: f64, pending: Option<Tensor>) {
        if let Self::Adaptive { controller, signs } = self {
            controller.set_p(p);
            *signs = pending.into_iter().collect();
        }
    }

    /// Moves p by the signs of all processes, if an adjustment is due after this many iterations.
    ///
    /// # Errors
    /// Another process has left.
    pub(super) fn adapt(&mut self, iteration: u64, batch: u64, world: &World) -> Result<()> {
        if let Self::Adaptive { controller, signs } = self
            && controller.is_due(iteration)
        {
            let signs = Tensor::cat(&std::mem::take(signs), 0);
            let count = Tensor::full([0i64; 0], signs.numel() as f64, (Kind::Double, signs.device()));
            let sum_and_count = Tensor::stack(&[signs.sum(Kind::Double), count], 0);
            world.sum_(&sum_and_count)?;
            let mean = sum_and_count.get(0) / sum_and_count.get(1);
            controller.adapt(mean.double_value(&[]), batch);
        }
        Ok(())
    }

    /// Hands over the waiting signs, in one tensor; None where there are none.
    pub(super) fn take_signs(&mut self) -> Option<Tensor> {
        let taken = self.pending();
        if let Self::Adaptive { signs, .. } = self {
            signs.clear();
        }
        taken
    }
}

/// The probability p, and the rule by which it moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaController {
    settings: AdaSettings,
    p: f64,
}

impl AdaController {
    /// Begins with this p, 0 to 1.
    pub fn new(settings: AdaSettings, p: f64) -> Self {
        Self { settings, p: p.clamp(0.0, 1.0) }
    }

    /// Returns the probability of a transform.
    pub fn p(&self) -> f64 {
        self.p
    }

    /// Sets p, cut to 0 to 1.
    pub fn set_p(&mut self, p: f64) {
        self.p = p.clamp(0.0, 1.0);
    }

    /// Whether p is adjusted after this many iterations.
    pub fn is_due(&self, iterations: u64) -> bool {
        iterations.is_multiple_of(self.settings.interval)
    }

    /// Moves p a step up if the mean sign of D(real) since the last adjustment is above the target, down if it is
    /// below, within 0 and 1. The step's length is that of `interval` iterations of `batch` images.
    pub fn adapt(&mut self, mean_sign: f64, batch: u64) {
        let excess = mean_sign - self.settings.target;
        let step = (batch * self.settings.interval) as f64 / (self.settings.ada_kimg * 1000.0);
        let direction = if excess == 0.0 || excess.is_nan() { 0.0 } else { excess.signum() };
        self.p = (self.p + direction * step).clamp(0.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_rises_while_reals_are_told_apart_and_stays_within_its_bounds() {
        let mut ada = AdaController::new(AdaSettings { target: 0.6, ada_kimg: 0.1, interval: 4 }, 0.0);
        assert!(ada.is_due(4) && !ada.is_due(5));
        // A step is 8 * 4 / 100.
        let mut after = |mean_sign| {
            ada.adapt(mean_sign, 8);
            (ada.p() * 100.0).round() as i64
        };
        assert_eq!([1.0, 1.0, 0.6, 1.0, 1.0].map(&mut after), [32, 64, 64, 96, 100]);
        assert_eq!([f64::NAN, 0.0, 0.0, 0.0, 0.0].map(&mut after), [100, 68, 36, 4, 0]);
    }
}
