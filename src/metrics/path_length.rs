//! The perceptual path length PPL: how much pictures change along a short step in W, by a perceptual distance. It is
//! not the regulariser of that name, which is in `train/regularizers.rs`.

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::detector::{Detector, perceptual_input};
use super::feature_set::Needs;
use super::formula::{Amount, Formula, Measured, Sides};
use crate::latent::picture_source::{DumpDraws, PictureSource};
use crate::latent::seeds::dump_latents;
use crate::model::Truncation;
use crate::system::signals::StopRequest;
use crate::system::ui::Bar;
use crate::tensor::images::check_finite;
use crate::tensor::labels::one_hot;
use crate::tensor::no_grad;

/// Shares of the sorted path lengths below and above which lengths are left out.
const TRIMMED: (f64, f64) = (0.01, 0.99);

/// Step in W as a share of the way between two latents; the distance is divided by its square.
const EPSILON: f64 = 1e-4;
/// The rule of comparing larger pictures, for records.
pub(super) const RESIZE: &str = "none; larger pictures averaged down to 256x256";

/// Computes the PPL of `pairs` pairs of latents: `d(G(w), G(w + epsilon (w' - w))) / epsilon^2`, averaged by
/// [`trimmed_mean`]. Both pictures of a pair have the same class and the same random noise. Pair i depends on the seed
/// and i alone.
///
/// # Errors
/// A generator without mapping, a detector without perceptual distance, or pictures that are not finite.
pub fn perceptual_path_length(
    detector: &Detector,
    source: &PictureSource<'_>,
    draws: &DumpDraws,
    pairs: usize,
    stop: &StopRequest,
) -> Result<f64> {
    let bar = Bar::new(pairs as u64, "path lengths");
    let mut lengths = Vec::with_capacity(pairs);
    for range in source.batches(pairs) {
        stop.check()?;
        let count = range.len() as u64;
        let of_batch = no_grad(|| path_lengths(detector, source, draws, range))?;
        lengths.extend(Vec::<f64>::try_from(of_batch.to_kind(Kind::Double))?);
        bar.inc(count);
    }
    bar.finish();
    trimmed_mean(&lengths)
}

/// Returns the lengths of one batch of pairs, [n] on the CPU.
fn path_lengths(
    detector: &Detector,
    source: &PictureSource<'_>,
    draws: &DumpDraws,
    range: Range<usize>,
) -> Result<Tensor> {
    let (generator, n) = (source.generator, range.len() as i64);
    let (z_dim, device) = (generator.z_dim(), generator.script.device);
    let (z, noise) =
        dump_latents(draws.seed, range.start as u32, range.len(), 2 * z_dim, generator.noise_numel(), device);
    let c = match draws.classes_of(range) {
        Some(classes) => Some(one_hot(&classes, generator.c_dim(), device)),
        None => generator.class_labels(source.class, n)?,
    };
    let map = |z: Tensor| generator.mapping(&z, c.as_ref(), Truncation::OFF, false);
    let ws = map(z.narrow(1, 0, z_dim))?;
    let end = map(z.narrow(1, z_dim, z_dim))?;
    let moved = ws.lerp(&end, EPSILON);
    let image = |ws: &Tensor| -> Result<Tensor> {
        let images = generator.synthesis(ws, source.noise_mode, Some(&noise))?;
        check_finite(&images)?;
        detector.perceptual(&perceptual_input(&images, detector))
    };
    let difference = image(&ws)? - image(&moved)?;
    let squares = difference.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
    Ok((squares / (EPSILON * EPSILON)).to_device(Device::Cpu))
}

/// Returns the mean of path lengths, leaving out those outside of the 1st to 99th percentile.
///
/// # Shapes
/// `lengths`: one number per pair of pictures, already divided.
///
/// # Source
/// Karras et al., arXiv 1812.04948, section 4.1; at the path's beginning only ("end"), as arXiv 1912.04958.
///
/// # Errors
/// No pairs, or a length that is not finite.
pub fn trimmed_mean(lengths: &[f64]) -> Result<f64> {
    ensure!(!lengths.is_empty(), "the path length needs at least one pair of pictures");
    let bad = lengths.iter().filter(|length| !length.is_finite()).count();
    ensure!(
        bad == 0,
        "{bad} of {} path lengths are not finite: the generator or the detector is damaged",
        lengths.len()
    );
    let mut sorted = lengths.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = (sorted.len() - 1) as f64;
    // Percentiles that fall between two lengths are moved outwards, and the lengths at them are kept.
    let (low, high) = ((TRIMMED.0 * last).floor() as usize, (TRIMMED.1 * last).ceil() as usize);
    let kept = &sorted[low..=high];
    Ok(kept.iter().sum::<f64>() / kept.len() as f64)
}

/// The metrics `ppl2_wend` and `ppl2_wend_2k`.
#[derive(Debug)]
pub struct PathLength;

/// Pairs of latents where the name says no number.
const PAIRS: usize = 50_000;

impl Formula for PathLength {
    fn prefix(&self) -> &'static str {
        "ppl2_wend"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        match rest {
            "" => Some(Amount { count: PAIRS, all_reals: true, neighbours: 0 }),
            _ => Amount::alone(rest.strip_prefix('_')?),
        }
    }

    fn lower_is_better(&self) -> bool {
        true
    }

    fn needs_reals(&self) -> bool {
        false
    }

    fn walks_latents(&self) -> bool {
        true
    }

    fn is_of_vgg(&self) -> bool {
        true
    }

    fn add_needs(&self, _: usize, _: &mut Needs) {}

    fn compute(&self, _: &Sides<'_>) -> Result<Measured> {
        bail!("it needs a generator")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_hundredth_on_each_side_does_not_count() {
        // 0, 1, ..., 200: places 2 to 198 are kept.
        let mut lengths: Vec<f64> = (0..=200).map(f64::from).collect();
        lengths[200] = 1e9;
        lengths[0] = -1e9;
        assert!((trimmed_mean(&lengths).unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(trimmed_mean(&[3.0]).unwrap(), 3.0);
    }

    #[test]
    fn lengths_that_are_not_finite_are_counted() {
        assert!(trimmed_mean(&[1.0, f64::NAN]).unwrap_err().to_string().starts_with("1 of 2"));
        assert!(trimmed_mean(&[]).is_err());
    }
}
