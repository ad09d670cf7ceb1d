//! The distance of a generated picture from a target, with a gradient: perceptual or of features where there is a detector,
//! of pixels otherwise.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use crate::metrics::Detector;
use crate::metrics::detector::perceptual_input;
use crate::tensor::no_grad;

/// The smallest side at which pixels are compared.
const SMALLEST_SIDE: i64 = 4;

/// A target, and the way in which pictures are compared with it.
pub struct PictureDistance<'d> {
    detector: Option<&'d Detector>,
    /// The target's rows of the detector, or the target itself at every scale.
    target: Vec<Tensor>,
}

impl<'d> PictureDistance<'d> {
    /// Measures from `target` [1, C, R, R] in [-1, 1].
    ///
    /// # Errors
    /// The detector fails.
    pub fn from_target(target: &Tensor, detector: Option<&'d Detector>) -> Result<Self> {
        let target = no_grad(|| compared(target, detector))?;
        Ok(Self { detector, target })
    }

    /// Returns the distance of `images` [1, C, R, R] from the target, a scalar with a gradient: the squared distance of the
    /// detector's rows, or the mean squared difference of pixels, summed over the scales R, R/2, ..., 4.
    ///
    /// # Errors
    /// The detector fails.
    pub fn of(&self, images: &Tensor) -> Result<Tensor> {
        let found = compared(images, self.detector)?;
        let parts = found.iter().zip(&self.target).map(|(found, target)| (found - target).square());
        Ok(match self.detector {
            Some(_) => parts.map(|squares| squares.sum(Kind::Float)).sum(),
            None => parts.map(|squares| squares.mean(Kind::Float)).sum(),
        })
    }

    /// Names the distance.
    pub fn name(&self) -> String {
        match self.detector {
            Some(detector) if detector.has_perceptual() => format!("perceptual, {}", detector.id.name),
            Some(detector) => format!("squared, {}", detector.id.features),
            None => "mean squared difference of pixels, summed over scales".to_owned(),
        }
    }
}

/// Returns what is compared of images.
fn compared(images: &Tensor, detector: Option<&Detector>) -> Result<Vec<Tensor>> {
    match detector {
        Some(detector) => Ok(vec![rows(images, detector)?]),
        None => Ok(scales(images)),
    }
}

fn rows(images: &Tensor, detector: &Detector) -> Result<Tensor> {
    let rows = detector.differentiable_rows(&perceptual_input(images, detector))?.to_device(images.device());
    ensure!(
        !images.requires_grad() || rows.requires_grad(),
        "the detector {} passes no gradients on; use one of rootgan detector, or none",
        detector.id.name
    );
    Ok(rows)
}

/// Returns the images at the scales R, R/2, ..., 4, each the mean of 2x2 pixels of the one before.
fn scales(images: &Tensor) -> Vec<Tensor> {
    let halved = |image: &Tensor| {
        (image.size()[3] >= 2 * SMALLEST_SIDE)
            .then(|| image.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>))
    };
    std::iter::successors(Some(images.shallow_clone()), halved).collect()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn grey(value: f64) -> Tensor {
        Tensor::full([1, 3, 16, 16], value, (Kind::Float, Device::Cpu))
    }

    /// 16x16, 8x8 and 4x4 differ by 0.5 in every pixel: 3 times 0.25.
    #[test]
    fn plain_pictures_differ_equally_at_every_scale() {
        let distance = PictureDistance::from_target(&grey(0.25), None).unwrap();
        assert!((distance.of(&grey(-0.25)).unwrap().double_value(&[]) - 0.75).abs() < 1e-6);
        assert_eq!(distance.of(&grey(0.25)).unwrap().double_value(&[]), 0.0);
    }

    #[test]
    fn the_gradient_points_away_from_the_target() {
        let distance = PictureDistance::from_target(&grey(0.0), None).unwrap();
        let images = grey(0.5).set_requires_grad(true);
        let gradient = Tensor::run_backward(&[distance.of(&images).unwrap()], &[&images], false, false).remove(0);
        assert!(gradient.min().double_value(&[]) > 0.0);
    }
}
