//! Adaptive discriminator augmentation: p follows the sign of the discriminator's logits on real images.

/// How p is adapted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaSettings {
    /// The mean sign of D(real) that p is steered to.
    pub target: f64,
    /// How many thousand images p takes from 0 to 1 at least.
    pub ada_kimg: f64,
    /// Iterations between two adjustments.
    pub interval: u64,
}

/// p, and what was seen since its last adjustment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaController {
    settings: AdaSettings,
    p: f64,
    signs: f64,
    count: f64,
}

impl AdaController {
    /// Begins with this p, 0 to 1.
    pub fn new(settings: AdaSettings, p: f64) -> Self {
        Self { settings, p: p.clamp(0.0, 1.0), signs: 0.0, count: 0.0 }
    }

    /// The probability of a transform.
    pub fn p(&self) -> f64 {
        self.p
    }

    /// Takes note of logits of real images: the sum of their signs, and how many they were.
    pub fn observe(&mut self, sum_of_signs: f64, count: usize) {
        self.signs += sum_of_signs;
        self.count += count as f64;
    }

    /// After iteration number `iteration` of `batch` images: every `interval` iterations, a step up if the mean sign is
    /// above the target and down if it is below, within 0 and 1.
    pub fn after_iteration(&mut self, iteration: u64, batch: u64) {
        if !iteration.is_multiple_of(self.settings.interval) || self.count == 0.0 {
            return;
        }
        let excess = self.signs / self.count - self.settings.target;
        let step = (batch * self.settings.interval) as f64 / (self.settings.ada_kimg * 1000.0);
        let direction = if excess == 0.0 { 0.0 } else { excess.signum() };
        self.p = (self.p + direction * step).clamp(0.0, 1.0);
        (self.signs, self.count) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: AdaSettings = AdaSettings { target: 0.6, ada_kimg: 0.1, interval: 4 };

    #[test]
    fn p_rises_while_reals_are_told_apart_and_stays_within_its_bounds() {
        let mut ada = AdaController::new(SETTINGS, 0.0);
        for iteration in 0..40 {
            ada.observe(8.0, 8);
            ada.after_iteration(iteration, 8);
        }
        // 8 * 4 / 100 a step.
        assert_eq!(ada.p(), 1.0);
        for iteration in 41..45 {
            ada.observe(0.0, 8);
            ada.after_iteration(iteration, 8);
        }
        assert!((ada.p() - 0.68).abs() < 1e-12);
    }
}
