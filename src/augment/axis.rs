//! Filters as one banded matrix per axis, padding and resampling folded in: `Y x X^T` is two matrix products, which
//! any device does at its full speed and differentiates as often as needed.

use tch::Tensor;

use super::filters::{BANDS, SYM6};
use crate::tensor::device::upload;

/// Values of a matrix from which on it is made on the device: those of 128x128 images and larger.
const LARGE: usize = 128 * 128;

/// A matrix [rows, columns] that acts on one axis: the values of every row that are not 0.
pub(super) struct AxisMatrix {
    /// Their places in the whole matrix, row by row, each once.
    places: Vec<i64>,
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl AxisMatrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { places: Vec::new(), values: Vec::new(), rows, columns }
    }

    /// Rows come in their order.
    fn add(&mut self, row: usize, column: usize, value: f64) {
        let place = (row * self.columns + column) as i64;
        let first_of_row = (row * self.columns) as i64;
        let of_row = self.places.iter().rev().take_while(|place| **place >= first_of_row);
        match of_row.enumerate().find(|(_, other)| **other == place) {
            Some((back, _)) => {
                let index = self.values.len() - 1 - back;
                self.values[index] += value as f32;
            }
            None => {
                self.places.push(place);
                self.values.push(value as f32);
            }
        }
    }

    /// The matrix where the images are, in their kind. Of a large one only the values go there: most of it is zeros.
    pub(super) fn tensor_like(&self, images: &Tensor) -> Tensor {
        let size = self.rows * self.columns;
        let shape = [self.rows as i64, self.columns as i64];
        if size < LARGE {
            let mut whole = vec![0f32; size];
            self.places.iter().zip(&self.values).for_each(|(&place, &value)| whole[place as usize] = value);
            return upload(&Tensor::from_slice(&whole).view(shape), images.device()).to_kind(images.kind());
        }
        let (places, values) = (Tensor::from_slice(&self.places), Tensor::from_slice(&self.values));
        let [places, values] = [places, values].map(|part| upload(&part, images.device()));
        let mut matrix = Tensor::zeros([size as i64], (images.kind(), images.device()));
        let _ = matrix.scatter_(0, &places, &values.to_kind(images.kind()));
        matrix.view(shape)
    }

    /// From n samples to 2 (n + low + high): reflected at the ends, then the sym6 low pass at twice the rate.
    pub(super) fn upsample(n: usize, low: usize, high: usize) -> Self {
        let padded = n + low + high;
        let mut matrix = Self::zeros(2 * padded, n);
        for row in 0..2 * padded {
            for (tap, &value) in SYM6.iter().rev().enumerate() {
                // Sample `row` of the filtered row sees places row - 6 + tap of the one with zeros between.
                let place = (row + tap) as i64 - 6;
                if place >= 0 && place % 2 == 0 && place / 2 < padded as i64 {
                    matrix.add(row, reflected(place / 2 - low as i64, n), 2.0 * value);
                }
            }
        }
        matrix
    }

    /// From 2 (n + 6) samples to n: the sym6 low pass, every second sample.
    pub(super) fn downsample(n: usize) -> Self {
        let mut matrix = Self::zeros(n, 2 * (n + 6));
        for row in 0..n {
            for (tap, &value) in SYM6.iter().enumerate() {
                matrix.add(row, 1 + 2 * row + tap, value);
            }
        }
        matrix
    }

    /// From n samples to n: one band of the filter bank, reflected at the ends.
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

/// The sample that place `i` shows when a row of n is reflected at its end samples, as often as needed.
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
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn reflection_leaves_the_end_samples_single_and_bounces() {
        let seen: Vec<usize> = (-4..8).map(|i| reflected(i, 3)).collect();
        assert_eq!(seen, [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]);
    }

    #[test]
    fn constants_pass_up_and_the_bands_sum_to_the_identity() {
        let up = AxisMatrix::upsample(8, 7, 3);
        let like = Tensor::zeros([0], (Kind::Float, Device::Cpu));
        // Rows away from the padding's outer ends see all taps.
        let inner = up.tensor_like(&like).narrow(0, 6, 24).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        assert!((inner - 1.0).abs().max().double_value(&[]) < 1e-5);
        let bands: Vec<_> = (0..4).map(|band| AxisMatrix::band(5, band).tensor_like(&like)).collect();
        let identity = Tensor::eye(5, (Kind::Float, Device::Cpu));
        assert!((bands.iter().sum::<Tensor>() - identity).abs().max().double_value(&[]) < 1e-5);
    }
}
