//! The exponential moving average of the generator's weights.

use tch::Tensor;

use crate::tensor::no_grad;

/// The speed at which the average follows the trained weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaSettings {
    /// Half-life in thousands of images.
    pub halflife_kimg: f64,
    /// Where given, the half-life is at most this share of the images seen so far: for training from
    /// scratch (0.05), where early weights should be forgotten quickly.
    pub rampup: Option<f64>,
}

impl EmaSettings {
    /// Returns the share of the average that stays in one step: `0.5^(batch / halflife)`, halflife in images.
    pub fn beta(&self, batch: u64, seen_images: u64) -> f64 {
        let full = self.halflife_kimg * 1000.0;
        let halflife = self.rampup.map_or(full, |share| full.min(seen_images as f64 * share));
        0.5f64.powf(batch as f64 / halflife.max(1e-8))
    }
}

/// Moves the average: `average <- beta average + (1 - beta) values`, both [total].
pub fn update(average: &Tensor, values: &Tensor, beta: f64) {
    no_grad(|| {
        let _ = average.shallow_clone().lerp_(values, 1.0 - beta);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_one_half_life_half_is_left() {
        let ema = EmaSettings { halflife_kimg: 0.5, rampup: None };
        let average = Tensor::from_slice(&[1f32]);
        for step in 0..50 {
            update(&average, &Tensor::from_slice(&[0f32]), ema.beta(10, step * 10));
        }
        assert!((average.double_value(&[0]) - 0.5).abs() < 1e-5);
    }

    #[test]
    fn with_ramp_up_the_first_step_copies() {
        let ema = EmaSettings { halflife_kimg: 10.0, rampup: Some(0.05) };
        assert_eq!(ema.beta(32, 0), 0.0);
        assert!((ema.beta(32, 64_000) - 0.5f64.powf(0.01)).abs() < 1e-12);
        assert!((ema.beta(32, 1_000_000) - 0.5f64.powf(0.0032)).abs() < 1e-12);
    }
}
