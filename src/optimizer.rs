//! Adam over one flat parameter buffer, with the correction for lazy regularisation.

use anyhow::{Result, ensure};
use tch::{Tensor, no_grad};

/// Adam's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Step size.
    pub lr: f64,
    /// Decay of the mean of the gradient, per step.
    pub beta1: f64,
    /// Decay of the mean of its square, per step.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
}

impl AdamSettings {
    /// StyleGAN2's Adam (betas 0 and 0.99, eps 1e-8) where a regulariser takes a step of its own
    /// every `interval` iterations: with the ratio r = interval / (interval + 1), lr r and beta^r.
    ///
    /// # Source
    /// Karras et al., arXiv 1912.04958, appendix B.
    pub fn lazy(lr: f64, interval: u64) -> Self {
        let ratio = interval as f64 / (interval as f64 + 1.0);
        Self { lr: lr * ratio, beta1: 0.0, beta2: 0.99f64.powf(ratio), eps: 1e-8 }
    }
}

/// What an optimiser has learnt.
#[derive(Debug)]
pub struct AdamState {
    /// Mean of the gradient, [total]; None where beta1 is 0.
    pub mean: Option<Tensor>,
    /// Mean of its square, [total].
    pub square: Tensor,
    /// Steps taken.
    pub steps: i32,
}

/// The optimiser of one network.
pub struct Adam {
    settings: AdamSettings,
    /// Mean of the gradient; not kept where beta1 is 0.
    mean: Option<Tensor>,
    /// Mean of its square.
    square: Tensor,
    steps: i32,
}

impl Adam {
    /// For a buffer like `values`; nothing learnt yet.
    pub fn new(settings: AdamSettings, values: &Tensor) -> Self {
        let mean = (settings.beta1 != 0.0).then(|| values.zeros_like());
        Self { settings, mean, square: values.zeros_like(), steps: 0 }
    }

    /// Views of what it has learnt.
    pub fn state(&self) -> AdamState {
        let mean = self.mean.as_ref().map(Tensor::shallow_clone);
        AdamState { mean, square: self.square.shallow_clone(), steps: self.steps }
    }

    /// Goes on from `state`, which is copied.
    ///
    /// # Errors
    /// A state of other parameters.
    pub fn restore(&mut self, state: &AdamState) -> Result<()> {
        let fits = state.square.size() == self.square.size() && state.mean.is_some() == self.mean.is_some();
        ensure!(fits, "the optimiser's state is of {} values, not {}", state.square.numel(), self.square.numel());
        self.steps = state.steps;
        no_grad(|| {
            self.square.f_copy_(&state.square)?;
            if let (Some(mean), Some(stored)) = (&mut self.mean, &state.mean) {
                mean.f_copy_(stored)?;
            }
            Ok(())
        })
    }

    /// One step: `values -= lr m^ / (sqrt(v^) + eps)`, with m^ and v^ corrected for their start at 0. `lr_factor` scales
    /// lr.
    ///
    /// # Shapes
    /// `values` and `gradient`: [total], as in [`Adam::new`].
    pub fn step(&mut self, values: &Tensor, gradient: &Tensor, lr_factor: f64) {
        let AdamSettings { beta1, beta2, eps, .. } = self.settings;
        let lr = self.settings.lr * lr_factor;
        self.steps += 1;
        let (correction1, correction2) = (1.0 - beta1.powi(self.steps), 1.0 - beta2.powi(self.steps));
        no_grad(|| {
            let _ = self.square.lerp_(&gradient.square(), 1.0 - beta2);
            let mean = match &mut self.mean {
                Some(mean) => mean.lerp_(gradient, 1.0 - beta1),
                None => gradient.shallow_clone(),
            };
            let root = self.square.sqrt() * (1.0 / correction2.sqrt()) + eps;
            let _ = values.shallow_clone().addcdiv_(&(mean * (-lr / correction1)), &root);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lazy_correction_has_the_published_values() {
        let (g, d) = (AdamSettings::lazy(0.0025, 4), AdamSettings::lazy(0.0025, 16));
        assert!((g.lr - 0.002).abs() < 1e-12 && (g.beta2 - 0.991992).abs() < 1e-6);
        assert!((d.lr / 0.0025 - 0.941176).abs() < 1e-6 && (d.beta2 - 0.990585).abs() < 1e-6);
    }

    /// The first step is lr * sign(gradient) whatever the gradient's size, both moments being
    /// corrected for their start.
    #[test]
    fn the_first_step_has_the_length_of_the_learning_rate() {
        let settings = AdamSettings { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8 };
        let values = Tensor::from_slice(&[1f32, 1.0, 1.0]);
        Adam::new(settings, &values).step(&values, &Tensor::from_slice(&[2f32, -0.01, 0.0]), 1.0);
        let expected = Tensor::from_slice(&[0.9f32, 1.1, 1.0]);
        assert!((values - expected).abs().max().double_value(&[]) < 1e-6);
    }

    /// By hand in float64: m and v after gradients 1 and 3.
    #[test]
    fn the_second_step_uses_both_moments() {
        let settings = AdamSettings { lr: 0.1, beta1: 0.5, beta2: 0.9, eps: 0.0 };
        let values = Tensor::from_slice(&[0f32]);
        let mut adam = Adam::new(settings, &values);
        adam.step(&values, &Tensor::from_slice(&[1f32]), 1.0);
        adam.step(&values, &Tensor::from_slice(&[3f32]), 1.0);
        let (mean, square) = ((0.25 + 1.5) / 0.75, (0.09 + 0.9) / 0.19);
        let expected = -0.1 - 0.1 * mean / f64::sqrt(square);
        assert!((values.double_value(&[0]) - expected).abs() < 1e-6);
    }
}
