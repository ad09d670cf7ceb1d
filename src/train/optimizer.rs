//! Adam over one flat parameter buffer, with the correction for lazy regularisation.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use crate::tensor::finite::magnitude;
use crate::tensor::no_grad;

/// The constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running mean of the gradient, per step.
    pub beta1: f64,
    /// Decay of the running mean of the squared gradient, per step.
    pub beta2: f64,
    /// Added to the root of the mean square, against division by 0.
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

/// The running means of an optimiser, for checkpoints.
#[derive(Debug)]
pub struct AdamState {
    /// Mean of the gradient, [total]; None where beta1 is 0.
    pub mean: Option<Tensor>,
    /// Mean of the squared gradient, [total].
    pub square: Tensor,
    /// Steps taken, without skipped ones.
    pub steps: i32,
}

/// The optimiser of one network.
pub struct Adam {
    settings: AdamSettings,
    /// Mean of the gradient; not kept where beta1 is 0.
    mean: Option<Tensor>,
    /// Mean of the squared gradient.
    square: Tensor,
    /// Steps taken, a scalar on the device: only the device knows which were left out.
    steps: Tensor,
}

impl Adam {
    /// Begins with means of 0 for a buffer like `values`.
    pub fn new(settings: AdamSettings, values: &Tensor) -> Self {
        let mean = (settings.beta1 != 0.0).then(|| values.zeros_like());
        let steps = Tensor::zeros([0i64; 0], (Kind::Double, values.device()));
        Self { settings, mean, square: values.zeros_like(), steps }
    }

    /// Returns views of the running means; waits for the device.
    pub fn state(&self) -> AdamState {
        let mean = self.mean.as_ref().map(Tensor::shallow_clone);
        AdamState { mean, square: self.square.shallow_clone(), steps: self.steps.double_value(&[]) as i32 }
    }

    /// Copies `state` over its own.
    ///
    /// # Errors
    /// The state belongs to other parameters.
    pub fn restore(&mut self, state: &AdamState) -> Result<()> {
        let fits = state.square.size() == self.square.size() && state.mean.is_some() == self.mean.is_some();
        ensure!(fits, "the optimiser's state is of {} values, not {}", state.square.numel(), self.square.numel());
        no_grad(|| {
            let _ = self.steps.f_fill_(f64::from(state.steps))?;
            self.square.f_copy_(&state.square)?;
            if let (Some(mean), Some(stored)) = (&mut self.mean, &state.mean) {
                mean.f_copy_(stored)?;
            }
            Ok(())
        })
    }

    /// Takes one step: `values -= lr m^ / (sqrt(v^) + eps)`, with m^ and v^ corrected for their start at 0. `lr_factor`
    /// scales lr. A gradient with a value whose square is not finite changes nothing and counts as no step: v keeps
    /// squares, and one that overflows would make the weights NaN a step later. Nothing here waits for the device.
    ///
    /// # Shapes
    /// `values` and `gradient`: [total], as in [`Adam::new`] -> whether the step was taken, a scalar on the device.
    pub fn step(&mut self, values: &Tensor, gradient: &Tensor, lr_factor: f64) -> Tensor {
        let AdamSettings { beta1, beta2, eps, .. } = self.settings;
        let lr = self.settings.lr * lr_factor;
        no_grad(|| {
            let taken = magnitude(gradient).square().isfinite();
            // A skipped step computes with zeros, and gives weights of 0 to the means below, so that nothing changes.
            let zero = Tensor::zeros([0i64; 0], (Kind::Float, gradient.device()));
            let mut update = gradient.where_self(&taken, &zero);
            let root = update.square();
            let steps = &self.steps + &taken;
            let weight = |beta: f64| taken.to_kind(Kind::Float) * (1.0 - beta);
            // At least 1: the correction at step 0 is 0 and would be divided by.
            let counted = steps.clamp_min(1.0);
            let correction = |beta: f64| -> Tensor { 1.0 - Tensor::pow_scalar(beta, &counted) };
            let (weight1, weight2) = (weight(beta1), weight(beta2));
            let root_scale = correction(beta2).rsqrt().to_kind(Kind::Float);
            let rate = (taken.to_kind(Kind::Double) * -lr / correction(beta1)).to_kind(Kind::Float);

            // Everything from here on is in place, so that a lack of memory leaves no half step.
            let _ = self.square.lerp_tensor_(&root, &weight2);
            let mut root = self.square.sqrt_out(&root);
            root *= root_scale;
            root += eps;
            if let Some(mean) = &mut self.mean {
                let _ = mean.lerp_tensor_(&update, &weight1);
                update.copy_(mean);
            }
            update *= rate;
            let _ = values.shallow_clone().addcdiv_(&update, &root);
            self.steps = steps;
            taken
        })
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
        let _ = Adam::new(settings, &values).step(&values, &Tensor::from_slice(&[2f32, -0.01, 0.0]), 1.0);
        let expected = Tensor::from_slice(&[0.9f32, 1.1, 1.0]);
        assert!((values - expected).abs().max().double_value(&[]) < 1e-6);
    }

    /// The expected values are m and v after gradients 1 and 3, computed by hand in float64.
    #[test]
    fn the_second_step_uses_both_moments() {
        let settings = AdamSettings { lr: 0.1, beta1: 0.5, beta2: 0.9, eps: 0.0 };
        let values = Tensor::from_slice(&[0f32]);
        let mut adam = Adam::new(settings, &values);
        let _ = adam.step(&values, &Tensor::from_slice(&[1f32]), 1.0);
        let _ = adam.step(&values, &Tensor::from_slice(&[3f32]), 1.0);
        let (mean, square) = ((0.25 + 1.5) / 0.75, (0.09 + 0.9) / 0.19);
        let expected = -0.1 - 0.1 * mean / f64::sqrt(square);
        assert!((values.double_value(&[0]) - expected).abs() < 1e-6);
    }

    /// This holds for the very first step too, and where a kept mean of the gradient would go on moving the values.
    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing_and_counts_as_no_step() {
        let good = |sign: f32| Tensor::from_slice(&[sign, -2.0 * sign, 0.5]);
        for beta1 in [0.0, 0.9] {
            let settings = AdamSettings { lr: 0.1, beta1, beta2: 0.99, eps: 1e-8 };
            let run = |bad: &[f32]| {
                let values = Tensor::from_slice(&[1f32, 2.0, 3.0]);
                let mut adam = Adam::new(settings, &values);
                let mut bad_steps = || {
                    for &value in bad {
                        let before = values.copy();
                        let taken = adam.step(&values, &Tensor::from_slice(&[1f32, value, 1.0]), 1.0);
                        assert_eq!((taken.int64_value(&[]), &values), (0, &before));
                    }
                    assert_eq!(adam.step(&values, &good(1.0), 1.0).int64_value(&[]), 1);
                };
                bad_steps();
                bad_steps();
                (values, adam.state())
            };
            let (values, state) = run(&[]);
            // The last gradient is finite, but not its square.
            let (others, other) = run(&[f32::NAN, f32::INFINITY, -f32::INFINITY, 1e20]);
            assert_eq!(
                (values, state.square, state.mean, state.steps),
                (others, other.square, other.mean, other.steps)
            );
            assert_eq!(state.steps, 2);
        }
    }
}
