//! Colour transforms: one 4x4 matrix per image on (r, g, b, 1), applied once.

use tch::Tensor;

use super::Transforms;
use super::draws::Draws;

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
    let affine = Tensor::from_slice(&values).view([size[0], 3, 4]).to_device(images.device()).to_kind(images.kind());
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

/// `scale I + factor v v^T`, v the grey axis.
fn along_grey(scale: f64, factor: f64) -> Matrix {
    std::array::from_fn(|row| {
        std::array::from_fn(|column| scale * f64::from(row == column) + factor * GREY[row] * GREY[column])
    })
}

/// A right-hand rotation about the grey axis (Rodrigues).
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
    use super::*;

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
