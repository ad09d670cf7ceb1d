//! Filters as one banded matrix per axis, padding and resampling folded in: `Y x X^T` is two matrix products, which
//! any device does at its full speed and differentiates as often as needed.

use tch::Tensor;

use super::filters::{BANDS, SYM6};
use crate::tensor::device::upload;

/// A matrix [rows, columns] that acts on one axis.
pub(super) struct AxisMatrix {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl AxisMatrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: vec![0.0; rows * columns], rows, columns }
    }

    fn add(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.columns + column] += value as f32;
    }

    /// Returns the matrix on the device of the images, in their kind.
    pub(super) fn tensor_like(&self, images: &Tensor) -> Tensor {
        let matrix = Tensor::from_slice(&self.values).view([self.rows as i64, self.columns as i64]);
        upload(&matrix, images.device()).to_kind(images.kind())
    }

    /// Makes the matrix from n samples to 2 (n + low + high): reflected at the ends, then the sym6 low pass at twice
    /// the rate.
    pub(super) fn upsample(n: usize, low: usize, high: usize) -> Self {
        let padded = n + low + high;
        let mut matrix = Self::zeros(2 * padded, n);
        for row in 0..2 * padded {
            for (tap, &value) in SYM6.iter().rev().enumerate() {
                // Sample `row` of the filtered row sees places row - 6 + tap of the padded row with zeros between its
                // samples.
                let place = (row + tap) as i64 - 6;
                if place >= 0 && place % 2 == 0 && place / 2 < padded as i64 {
                    matrix.add(row, reflected(place / 2 - low as i64, n), 2.0 * value);
                }
            }
        }
        matrix
    }

    /// Makes the matrix from 2 (n + 6) samples to n: the sym6 low pass, every second sample.
    pub(super) fn downsample(n: usize) -> Self {
        let mut matrix = Self::zeros(n, 2 * (n + 6));
        for row in 0..n {
            for (tap, &value) in SYM6.iter().enumerate() {
                matrix.add(row, 1 + 2 * row + tap, value);
            }
        }
        matrix
    }

    /// Makes the matrix from n samples to n: one band of the filter bank, reflected at the ends.
    pub(super) fn band(n: usize, band: usize) -> Self {
        let mut matrix = Self::zeros(n, n);
        for row in 0..n {
            for (tap, &value) in BANDS[band].iter().enumerate() {
                matrix.add(row, reflected((row + tap) as i64 - 21, n), value);
            }
        }
        matrix
    }
}

/// Returns the sample that place `i` shows when a row of n is reflected at its end samples, as often as needed.
fn reflected(i: i64, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as i64 - 1);
    let folded = i.rem_euclid(period);
    folded.min(period - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_leaves_the_end_samples_single_and_bounces() {
        let seen: Vec<usize> = (-4..8).map(|i| reflected(i, 3)).collect();
        assert_eq!(seen, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
    }

    #[test]
    fn constants_pass_up_and_the_bands_sum_to_the_identity() {
        let up = AxisMatrix::upsample(8, 7, 3);
        // Rows away from the padding's outer ends see all taps.
        let inner = up.values.chunks(8).skip(6).take(24);
        assert!(inner.map(|row| row.iter().sum::<f32>()).all(|sum| (sum - 1.0).abs() < 1e-5));
        let bands: Vec<_> = (0..4).map(|band| AxisMatrix::band(5, band)).collect();
        for place in 0..25 {
            let sum: f32 = bands.iter().map(|band| band.values[place]).sum();
            assert!((sum - f32::from(place % 6 == 0)).abs() < 1e-5, "{place}: {sum}");
        }
    }
}
