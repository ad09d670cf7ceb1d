//! The perceptual path length PPL: how much pictures change along a short step in W, by a perceptual
//! distance. Not the regulariser of that name, which is in `regularize`.

use anyhow::{Result, ensure};

/// Shares of path lengths that are left out below and above.
const TRIMMED: (f64, f64) = (0.01, 0.99);

/// The step in W that lengths are divided by.
pub const EPSILON: f64 = 1e-4;

/// The mean of the squared distances over epsilon squared, `d(G(w), G(w + epsilon (w' - w))) / epsilon^2`, those outside of
/// the 1st to 99th percentile left out.
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
    // The percentiles are lengths that occur: below and above they are kept.
    let (low, high) = ((TRIMMED.0 * last).floor() as usize, (TRIMMED.1 * last).ceil() as usize);
    let kept = &sorted[low..=high];
    Ok(kept.iter().sum::<f64>() / kept.len() as f64)
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
