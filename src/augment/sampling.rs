//! Bilinear sampling of images through affine maps, zeros outside: two-dimensional for any map, and along one axis at a
//! time as a matrix for maps that keep the axes.

use tch::{Device, Kind, Tensor};

use super::affine::Affine;
use crate::tensor::device::upload;

/// Samples bilinearly with zeros outside, by libtorch's own sampler, whose derivative has no derivative.
///
/// # Shapes
/// images [N, C, H, W], maps from output offsets to input offsets (both from the centre) -> [N, C, h, w].
pub(super) fn sample_once(images: &Tensor, maps: &[Affine], h: usize, w: usize) -> Tensor {
    let size = images.size();
    // The sampler counts places from -1 to 1, edge to edge.
    let (inputs, outputs) =
        ([2.0 / size[3] as f64, 2.0 / size[2] as f64], Affine::scale(w as f64 / 2.0, h as f64 / 2.0));
    let theta: Vec<f64> = maps
        .iter()
        .flat_map(|map| Affine::scale(inputs[0], inputs[1]).after(map).after(&outputs).0)
        .flatten()
        .collect();
    let theta = Tensor::from_slice(&theta).view([size[0], 2, 3]).to_kind(images.kind());
    let theta = upload(&theta, images.device());
    let grid = Tensor::affine_grid_generator(&theta, [size[0], size[1], h as i64, w as i64], false);
    const BILINEAR: i64 = 0;
    const ZEROS_OUTSIDE: i64 = 0;
    images.grid_sampler_2d(&grid, BILINEAR, ZEROS_OUTSIDE, false)
}

/// Samples as [`sample_once`] does, out of pieces that can be differentiated twice: slower, and for R1 only.
pub(super) fn sample_twice(images: &Tensor, maps: &[Affine], h: usize, w: usize) -> Tensor {
    let (size, kind) = (images.size(), images.kind());
    let (n, channels, in_h, in_w) = (size[0], size[1], size[2], size[3]);
    let [x, y] = source_places(maps, h, w, in_h, in_w, images.device());
    let (columns, rows) = (Neighbours::of(&x, in_w, kind), Neighbours::of(&y, in_h, kind));
    let pixels = images.reshape([n, channels, -1]);
    let mut out: Option<Tensor> = None;
    for (row, of_row) in rows.places.iter().zip(&rows.weights) {
        let row = row * in_w;
        for (column, of_column) in columns.places.iter().zip(&columns.weights) {
            let index = (&row + column).unsqueeze(1).expand([n, channels, -1], false);
            let term = pixels.gather(2, &index, false) * (of_row * of_column).unsqueeze(1);
            out = Some(out.map_or_else(|| term.shallow_clone(), |sum| sum + &term));
        }
    }
    out.expect("four corners").reshape([n, channels, h as i64, w as i64])
}

/// Makes the sampling of one axis as matrices, one per image: output sample i looks at place
/// `slope * (i - centre) + offset`, counted from the centre of the rows of `of`, which are what the axis's samples are
/// made of.
///
/// # Shapes
/// `lines` (slope, offset) of each image, `of` [samples, M] -> [N, n, M].
pub(super) fn sample_rows(lines: &[(f64, f64)], n: usize, of: &Tensor) -> Tensor {
    let (samples, device, kind) = (of.size()[0], of.device(), of.kind());
    let column = |values: Vec<f64>| upload(&Tensor::from_slice(&values), device).view([-1, 1]);
    let outputs = Tensor::arange(n as i64, (Kind::Double, device)) - (n as f64 - 1.0) / 2.0;
    let middle = (samples as f64 - 1.0) / 2.0;
    let at = column(lines.iter().map(|line| line.0).collect()) * outputs
        + column(lines.iter().map(|line| line.1 + middle).collect());
    let neighbours = Neighbours::of(&at, samples, kind);
    let [before, after] = [0, 1].map(|side| {
        let rows = of.index_select(0, &neighbours.places[side].flatten(0, 1));
        rows.view([lines.len() as i64, n as i64, -1]) * neighbours.weights[side].unsqueeze(2)
    });
    before + after
}

/// The two samples of one axis around every place, and their weights, which are 0 outside.
struct Neighbours {
    places: [Tensor; 2],
    weights: [Tensor; 2],
}

impl Neighbours {
    /// Finds the neighbours of places `at`, in float64 and in samples from the first one's centre, among `n` samples;
    /// the weights are in `kind`.
    fn of(at: &Tensor, n: i64, kind: Kind) -> Self {
        let before = at.floor();
        let part = (at - &before).to_kind(kind);
        let weights = [1.0 - &part, part];
        let after = &before + 1.0;
        let inside = |place: &Tensor| (place.ge(0.0) * place.lt(n as f64)).to_kind(kind);
        let weights = [&weights[0] * inside(&before), &weights[1] * inside(&after)];
        let places = [before, after].map(|place| place.clamp(0.0, n as f64 - 1.0).to_kind(Kind::Int64));
        Self { places, weights }
    }
}

/// Returns where every output pixel looks, in input pixels from the first one's centre: x and y, [N, h * w] in float64.
fn source_places(maps: &[Affine], h: usize, w: usize, in_h: i64, in_w: i64, device: Device) -> [Tensor; 2] {
    let offsets = |n: usize| Tensor::arange(n as i64, (Kind::Double, device)) - (n as f64 - 1.0) / 2.0;
    let (x, y) = (offsets(w).view([1, 1, -1]), offsets(h).view([1, -1, 1]));
    let coefficient = |row: usize, column: usize, more: f64| {
        let values: Vec<f64> = maps.iter().map(|map| map.0[row][column] + more).collect();
        upload(&Tensor::from_slice(&values), device).view([-1, 1, 1])
    };
    [(0, in_w), (1, in_h)].map(|(row, size)| {
        let along_y = coefficient(row, 1, 0.0) * &y + coefficient(row, 2, (size as f64 - 1.0) / 2.0);
        (coefficient(row, 0, 0.0) * &x + along_y).flatten(1, 2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_at_the_pixels_copies_and_half_way_averages() {
        let images = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([1, 1, 3, 4]);
        for sample in [sample_once, sample_twice] {
            let difference = sample(&images, &[Affine::IDENTITY], 3, 4) - &images;
            assert!(difference.abs().max().double_value(&[]) < 1e-5);
            let halfway = sample(&images, &[Affine::shift(0.5, 0.0)], 3, 4);
            assert!((halfway.double_value(&[0, 0, 1, 1]) - 5.5).abs() < 1e-5);
            // Half of the last column lies outside, where there is nothing.
            assert!((halfway.double_value(&[0, 0, 1, 3]) - 3.5).abs() < 1e-5);
        }
    }
}
