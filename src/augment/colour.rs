//! Colour transforms: one 4x4 matrix per image on (r, g, b, 1), applied once.

use tch::Tensor;

use super::Transforms;
use super::draws::Draws;
use crate::tensor::device::upload;

type Matrix = [[f64; 4]; 4];

/// The grey axis (1, 1, 1, 0) / sqrt(3).
const GREY: [f64; 4] = [0.577_350_269_189_625_8, 0.577_350_269_189_625_8, 0.577_350_269_189_625_8, 0.0];

/// Draws the transforms of one image; later ones multiply on the left.
fn draw_matrix(transforms: &Transforms, p: f64, draws: &mut Draws) -> Matrix {
    let mut matrix = identity();
    let mut then = |happens: bool, transform: Matrix| {
        if happens {
            matrix = product(&transform, &matrix);
        }
    };
    if transforms.brightness {
        let shift = draws.normal(0.2);
        then(draws.happens(p), brightness(shift));
    }
    if transforms.contrast {
        let factor = draws.log2_normal(0.5);
        then(draws.happens(p), diagonal([factor, factor, factor, 1.0]));
    }
    if transforms.lumaflip {
        let flipped = draws.choice(2);
        then(draws.happens(p), along_grey(1.0, -2.0 * flipped));
    }
    if transforms.hue {
        let angle = draws.symmetric(std::f64::consts::PI);
        then(draws.happens(p), rotation_about_grey(angle));
    }
    if transforms.saturation {
        let factor = draws.log2_normal(1.0);
        then(draws.happens(p), along_grey(factor, 1.0 - factor));
    }
    matrix
}

/// Applies a drawn colour matrix to every image.
///
/// # Shapes
/// images [N, 3, H, W] or [N, 1, H, W] (the rows are averaged: a grey picture stays grey).
pub(super) fn apply(images: &Tensor, transforms: &Transforms, p: f64, draws: &mut Draws) -> Tensor {
    let size = images.size();
    let matrices: Vec<Matrix> = (0..size[0]).map(|_| draw_matrix(transforms, p, draws)).collect();
    let values: Vec<f32> = matrices.iter().flat_map(|m| m[..3].concat()).map(|value| value as f32).collect();
    let affine = upload(&Tensor::from_slice(&values).view([size[0], 3, 4]), images.device()).to_kind(images.kind());
    let (linear, shift) = (affine.narrow(2, 0, 3), affine.narrow(2, 3, 1));
    let pixels = images.reshape([size[0], size[1], -1]);
    let out = if size[1] == 3 {
        linear.bmm(&pixels) + shift
    } else {
        let mean = |part: &Tensor| part.mean_dim([1i64].as_slice(), true, images.kind());
        pixels * mean(&linear).sum_dim_intlist([2i64].as_slice(), true, images.kind()) + mean(&shift)
    };
    out.reshape(size.as_slice())
}

fn identity() -> Matrix {
    diagonal([1.0; 4])
}

fn diagonal(values: [f64; 4]) -> Matrix {
    std::array::from_fn(|row| std::array::from_fn(|column| if row == column { values[row] } else { 0.0 }))
}

fn brightness(shift: f64) -> Matrix {
    let mut matrix = identity();
    matrix[..3].iter_mut().for_each(|row| row[3] = shift);
    matrix
}

/// Returns `scale I + factor v v^T`, v being the grey axis.
fn along_grey(scale: f64, factor: f64) -> Matrix {
    std::array::from_fn(|row| {
        std::array::from_fn(|column| scale * f64::from(row == column) + factor * GREY[row] * GREY[column])
    })
}

/// Returns a right-hand rotation about the grey axis (Rodrigues).
fn rotation_about_grey(angle: f64) -> Matrix {
    let (sin, cos) = angle.sin_cos();
    let v = GREY[0];
    let cross = [[0.0, -v, v], [v, 0.0, -v], [-v, v, 0.0]];
    let mut matrix = identity();
    for row in 0..3 {
        for column in 0..3 {
            let same = f64::from(row == column);
            matrix[row][column] = cos * same + sin * cross[row][column] + (1.0 - cos) * v * v;
        }
    }
    matrix
}

fn product(left: &Matrix, right: &Matrix) -> Matrix {
    std::array::from_fn(|row| {
        std::array::from_fn(|column| (0..4).map(|inner| left[row][inner] * right[inner][column]).sum())
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// Reads `of` from the matrices of one transform where it happened; asserts that it happens with probability 0.3.
    fn drawn(transforms: Transforms, of: impl Fn(&Matrix) -> f64) -> Vec<f64> {
        let (n, p) = (20_000, 0.3);
        let mut draws = Draws::Random(Box::new(ChaCha8Rng::seed_from_u64(3)));
        let matrices: Vec<Matrix> = (0..n).map(|_| draw_matrix(&transforms, p, &mut draws)).collect();
        let values: Vec<f64> = matrices.iter().filter(|matrix| **matrix != identity()).map(of).collect();
        // A flip of the luma changes nothing in half of the cases.
        let expected = if transforms.lumaflip { p / 2.0 } else { p } * f64::from(n);
        assert!((values.len() as f64 - expected).abs() < 5.0 * expected.sqrt(), "{} of {expected}", values.len());
        values
    }

    fn deviation(values: &[f64]) -> f64 {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
    }

    #[test]
    fn colours_change_as_often_and_as_far_as_published() {
        let none = Transforms::default();
        let shifts = drawn(Transforms { brightness: true, ..none }, |m| m[0][3]);
        assert!((deviation(&shifts) / 0.2 - 1.0).abs() < 0.04);
        let contrasts = drawn(Transforms { contrast: true, ..none }, |m| m[1][1].log2());
        assert!((deviation(&contrasts) / 0.5 - 1.0).abs() < 0.04);
        let flips = drawn(Transforms { lumaflip: true, ..none }, |m| m[0].iter().sum());
        assert!(flips.iter().all(|of_grey: &f64| (of_grey + 1.0).abs() < 1e-12));
        // Hue turns about grey by a uniform angle: the trace is 1 + 2 cos, whose deviation is sqrt(2).
        let turns = drawn(Transforms { hue: true, ..none }, |m| m[0][0] + m[1][1] + m[2][2]);
        assert!((deviation(&turns) / 2.0_f64.sqrt() - 1.0).abs() < 0.04);
        // Saturation multiplies everything across the grey axis, and nothing along it.
        let saturations = drawn(Transforms { saturation: true, ..none }, |m| (m[0][0] - m[0][1]).log2());
        assert!((deviation(&saturations) - 1.0).abs() < 0.04);
    }

    #[test]
    fn a_third_of_a_turn_about_grey_permutes_the_colours() {
        let turn = rotation_about_grey(2.0 * std::f64::consts::FRAC_PI_3 * 1.0);
        // Red goes to green.
        for (row, expected) in [0.0, 1.0, 0.0].into_iter().enumerate() {
            assert!((turn[row][0] - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn without_saturation_a_colour_is_its_mean() {
        let grey = along_grey(0.0, 1.0);
        let row: f64 = grey[1][..3].iter().zip([0.3, 0.6, 0.9]).map(|(a, b)| a * b).sum();
        assert!((row - 0.6).abs() < 1e-12);
    }
}
