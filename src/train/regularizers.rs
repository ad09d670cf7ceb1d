//! The regularisers: R1 and R2 on the discriminator, which are one function of real and of generated images, and path length
//! on the generator. They differentiate a gradient, so their inner gradient keeps its graph.
//!
//! # Source
//! Mescheder et al., arXiv 1801.04406 (R1); Karras et al., arXiv 1912.04958, section 3.2 (path length).

use anyhow::{Context, Result, anyhow};
use tch::{Kind, Tensor};

use crate::tensor::one_line;

/// Iterations between two evaluations of R1, as published.
pub const R1_INTERVAL: u64 = 16;
/// Iterations between two evaluations of path length, as published.
pub const PL_INTERVAL: u64 = 4;

/// The strength of R1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct R1Settings {
    /// Weight; 0 switches it off.
    pub gamma: f64,
    /// Iterations between two evaluations.
    pub interval: u64,
}

/// The strength of path-length regularisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathLengthSettings {
    /// Weight; 0 switches it off.
    pub weight: f64,
    /// Iterations between two evaluations.
    pub interval: u64,
}

/// Share of the way from the mean path length to that of a batch, which one evaluation goes.
const PL_DECAY: f64 = 0.01;

/// Returns `|dD/dx|^2` of every image: the sum over pixels and channels.
///
/// R1 is `gamma / 2` times its mean.
///
/// # Shapes
/// logits [N, 1] or [N], images [N, C, H, W] with a gradient -> [N].
///
/// # Errors
/// The logits do not depend on the images, or libtorch has no second derivative for a part of D.
pub fn squared_gradient_norms(logits: &Tensor, images: &Tensor) -> Result<Tensor> {
    let gradient = inner_gradient(&logits.sum(Kind::Float), images, "R1")?;
    Ok(gradient.square().sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float))
}

/// Returns `|J^T y|` of every image, J the Jacobian of the image by ws and y a normal draw:
/// `sqrt(mean over rows of ws of sum over w of g^2)`, `g = d sum(images * y / sqrt(H W)) / d ws`.
///
/// # Shapes
/// images and unit_noise [N, C, H, W], ws [N, num_ws, w_dim] with a gradient -> [N].
///
/// # Errors
/// The errors of [`squared_gradient_norms`].
pub fn path_lengths(images: &Tensor, ws: &Tensor, unit_noise: &Tensor) -> Result<Tensor> {
    let size = images.size();
    let pixels = (size[2] * size[3]) as f64;
    let projected = (images * unit_noise).sum(Kind::Float) * (1.0 / pixels.sqrt());
    let gradient = inner_gradient(&projected, ws, "path length")?;
    let energy = gradient.square().sum_dim_intlist([2i64].as_slice(), false, Kind::Float);
    Ok(energy.mean_dim([1i64].as_slice(), false, Kind::Float).sqrt())
}

/// The running mean that path lengths are pulled towards.
pub struct MeanPathLength {
    /// The mean, a scalar without a graph.
    pub pl_mean: Tensor,
}

impl MeanPathLength {
    /// Starts at 0 on this device.
    pub fn new(device: tch::Device) -> Self {
        Self { pl_mean: Tensor::zeros([0i64; 0], (Kind::Float, device)) }
    }

    /// Returns a copy that later penalties do not move.
    pub(super) fn copy(&self) -> Self {
        Self { pl_mean: self.pl_mean.shallow_clone() }
    }

    /// Returns the mean `next`, or the present one where that is not finite, since it would stay so for ever. The
    /// device decides.
    pub(super) fn moved_to(&self, next: &Tensor) -> Self {
        Self { pl_mean: next.where_self(&next.isfinite(), &self.pl_mean) }
    }

    /// Returns `(length - pl_mean)^2` of every image against the mean after this batch. The gradient flows through that
    /// mean; the stored one is cut off from it.
    ///
    /// # Shapes
    /// lengths [N] -> [N].
    pub fn penalties(&mut self, lengths: &Tensor) -> Tensor {
        let mean = self.pl_mean.lerp(&lengths.mean(Kind::Float), PL_DECAY);
        self.pl_mean = mean.detach();
        (lengths - mean).square()
    }
}

/// Returns d output / d input with a graph; no other gradient is computed.
fn inner_gradient(output: &Tensor, input: &Tensor, what: &str) -> Result<Tensor> {
    let gradients = Tensor::f_run_backward(&[output], &[input], true, true)
        .map_err(|error| anyhow!("the inner gradient of {what} failed: {}", one_line(&error)))?;
    let gradient = gradients.into_iter().next().filter(Tensor::defined);
    gradient.with_context(|| format!("{what} has no gradient: the output does not depend on its input"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn r1_of_a_linear_critic_is_its_squared_weight_norm() {
        let weight = Tensor::randn([3, 4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let images = Tensor::randn([2, 3, 4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let logits = (&images * &weight).sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float);
        let norms = squared_gradient_norms(&logits, &images).unwrap();
        let expected = weight.square().sum(Kind::Float).double_value(&[]);
        for i in 0..2 {
            assert!((norms.double_value(&[i]) - expected).abs() < 1e-4);
        }
        // The derivative of |w|^2 by the weight w is 2 w.
        let second = &Tensor::run_backward(&[norms.mean(Kind::Float)], &[&weight], false, false)[0];
        assert!((second - &weight * 2.0).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn the_path_length_of_a_scaling_generator_is_its_scale() {
        // images = 3 ws, laid out as pixels: g = 3 y / sqrt(HW), and the mean over 4 rows of the sum
        // over 4 columns is 9 * 16 / (16 * 4) for y = 1.
        let ws = Tensor::randn([2, 4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let images = (&ws * 3.0).view([2, 1, 4, 4]);
        let lengths = path_lengths(&images, &ws, &images.ones_like()).unwrap();
        for i in 0..2 {
            assert!((lengths.double_value(&[i]) - 1.5).abs() < 1e-6);
        }
    }

    #[test]
    fn the_penalty_uses_the_updated_mean() {
        let mut mean = MeanPathLength::new(Device::Cpu);
        let penalties = mean.penalties(&Tensor::from_slice(&[1f32, 3.0]));
        assert!((mean.pl_mean.double_value(&[]) - 0.02).abs() < 1e-8);
        assert!((penalties.double_value(&[1]) - 2.98 * 2.98).abs() < 1e-5);
    }

    #[test]
    fn a_mean_that_is_not_finite_leaves_the_old_one() {
        let mut mean = MeanPathLength { pl_mean: Tensor::from(2f32) };
        for (next, expected) in [(f32::NAN, 2.0), (f32::INFINITY, 2.0), (-f32::INFINITY, 2.0), (3.0, 3.0)] {
            mean = mean.moved_to(&Tensor::from(next));
            assert_eq!(mean.pl_mean.double_value(&[]), expected, "after {next}");
        }
    }

    #[test]
    fn an_input_without_a_path_is_an_error() {
        let images = Tensor::zeros([1, 1, 2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let logits = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!(squared_gradient_norms(&logits, &images).is_err());
    }
}
