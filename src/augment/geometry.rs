//! Geometric transforms: one affine map per image, sampled at twice the resolution between two sym6 filters.

use tch::{Device, Kind, Tensor};

use super::axis::AxisMatrix;
use super::draws::Draws;
use super::{Derivatives, Transforms};

/// What an output filter needs beyond the image on every side, in pixels.
const FILTER_PAD: f64 = 6.0;

/// An affine map of the plane: pixel offsets from the centre, x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Affine([[f64; 3]; 2]);

impl Affine {
    const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    fn shift(x: f64, y: f64) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y]])
    }

    fn scale(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0]])
    }

    fn rotation(angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }

    /// First `other`, then this.
    fn after(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self(std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                a[row][0] * b[0][column] + a[row][1] * b[1][column] + if column == 2 { a[row][2] } else { 0.0 }
            })
        }))
    }

    fn inverse(&self) -> Self {
        let [[a, b, x], [c, d, y]] = self.0;
        let determinant = a * d - b * c;
        let linear = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        Self(std::array::from_fn(|row| {
            let [p, q] = linear[row];
            [p, q, -(p * x + q * y)]
        }))
    }

    fn apply(&self, x: f64, y: f64) -> [f64; 2] {
        self.0.map(|[a, b, c]| a * x + b * y + c)
    }
}

/// Draws the transforms of one image of `w` x `h` pixels; later ones multiply on the left.
fn draw(transforms: &Transforms, w: f64, h: f64, p: f64, draws: &mut Draws) -> Affine {
    let mut map = Affine::IDENTITY;
    let mut then = |happens: bool, transform: Affine| {
        if happens {
            map = transform.after(&map);
        }
    };
    if transforms.xflip {
        let flipped = draws.choice(2);
        then(draws.happens(p), Affine::scale(1.0 - 2.0 * flipped, 1.0));
    }
    if transforms.rotate90 {
        let quarters = draws.choice(4);
        then(draws.happens(p), Affine::rotation(-std::f64::consts::FRAC_PI_2 * quarters));
    }
    if transforms.xint {
        let (x, y) = (draws.symmetric(0.125), draws.symmetric(0.125));
        then(draws.happens(p), Affine::shift((x * w).round_ties_even(), (y * h).round_ties_even()));
    }
    if transforms.scale {
        let factor = draws.log2_normal(0.2);
        then(draws.happens(p), Affine::scale(factor, factor));
    }
    // Two rotations, so that together they happen with probability p.
    let of_each = 1.0 - (1.0 - p).sqrt();
    if transforms.rotate {
        let angle = draws.symmetric(std::f64::consts::PI);
        then(draws.happens(of_each), Affine::rotation(-angle));
    }
    if transforms.aniso {
        let factor = draws.log2_normal(0.2);
        then(draws.happens(p), Affine::scale(factor, 1.0 / factor));
    }
    if transforms.rotate {
        let angle = if draws.is_percentile() { 0.0 } else { draws.symmetric(std::f64::consts::PI) };
        then(draws.happens(of_each), Affine::rotation(-angle));
    }
    if transforms.xfrac {
        let (x, y) = (draws.normal(0.125), draws.normal(0.125));
        then(draws.happens(p), Affine::shift(x * w, y * h));
    }
    map
}

/// Applies a drawn map to every image.
///
/// # Shapes
/// images [N, C, H, W] -> the same.
pub(super) fn apply(images: &Tensor, transforms: &Transforms, p: f64, order: Derivatives, draws: &mut Draws) -> Tensor {
    let size = images.size();
    let (h, w) = (size[2] as usize, size[3] as usize);
    let inverses: Vec<Affine> =
        (0..size[0]).map(|_| draw(transforms, w as f64, h as f64, p, draws).inverse()).collect();
    let ([left, right], [top, bottom]) = margins(&inverses, w, h);
    let up_x = AxisMatrix::upsample(w, left, right).tensor_like(images);
    let up_y = AxisMatrix::upsample(h, top, bottom).tensor_like(images);
    let fine = up_y.matmul(&images.matmul(&up_x.transpose(0, 1)));

    // The centre moves with uneven padding; at twice the resolution; the sym6 filters are half a sample off centre.
    let centre = Affine::shift((left as f64 - right as f64) / 2.0, (top as f64 - bottom as f64) / 2.0);
    let (double, half) = (Affine::scale(2.0, 2.0), Affine::scale(0.5, 0.5));
    let (back, forth) = (Affine::shift(-0.5, -0.5), Affine::shift(0.5, 0.5));
    let maps: Vec<Affine> = inverses
        .iter()
        .map(|inverse| back.after(&double).after(&centre).after(inverse).after(&half).after(&forth))
        .collect();
    let (out_h, out_w) = (2 * (h + 6), 2 * (w + 6));
    let sampled = match order {
        Derivatives::First => sample_once(&fine, &maps, out_h, out_w),
        Derivatives::Second => sample_twice(&fine, &maps, out_h, out_w),
    };
    let down_x = AxisMatrix::downsample(w).tensor_like(images);
    let down_y = AxisMatrix::downsample(h).tensor_like(images);
    down_y.matmul(&sampled.matmul(&down_x.transpose(0, 1)))
}

/// How many reflected pixels the sampling can reach: [left, right] and [top, bottom] over the whole batch.
fn margins(inverses: &[Affine], w: usize, h: usize) -> ([usize; 2], [usize; 2]) {
    let (x, y) = ((w as f64 - 1.0) / 2.0, (h as f64 - 1.0) / 2.0);
    let mut low = [f64::INFINITY; 2];
    let mut high = [f64::NEG_INFINITY; 2];
    for inverse in inverses {
        for (sign_x, sign_y) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let corner = inverse.apply(sign_x * x, sign_y * y);
            for axis in 0..2 {
                low[axis] = low[axis].min(corner[axis]);
                high[axis] = high[axis].max(corner[axis]);
            }
        }
    }
    let beyond =
        |reach: f64, half: f64, n: usize| (reach - half + FILTER_PAD).clamp(0.0, n as f64 - 1.0).ceil() as usize;
    ([beyond(-low[0], x, w), beyond(high[0], x, w)], [beyond(-low[1], y, h), beyond(high[1], y, h)])
}

/// Bilinear samples with zeros outside, by libtorch's own sampler, whose derivative has no derivative.
///
/// # Shapes
/// images [N, C, H, W], maps from output offsets to input offsets (both from the centre) -> [N, C, h, w].
fn sample_once(images: &Tensor, maps: &[Affine], h: usize, w: usize) -> Tensor {
    let size = images.size();
    // The sampler counts from -1 to 1, edge to edge.
    let (inputs, outputs) =
        ([2.0 / size[3] as f64, 2.0 / size[2] as f64], Affine::scale(w as f64 / 2.0, h as f64 / 2.0));
    let theta: Vec<f64> = maps
        .iter()
        .flat_map(|map| Affine::scale(inputs[0], inputs[1]).after(map).after(&outputs).0)
        .flatten()
        .collect();
    let theta = Tensor::from_slice(&theta).view([size[0], 2, 3]).to_kind(images.kind()).to_device(images.device());
    let grid = Tensor::affine_grid_generator(&theta, [size[0], size[1], h as i64, w as i64], false);
    const BILINEAR: i64 = 0;
    const ZEROS_OUTSIDE: i64 = 0;
    images.grid_sampler_2d(&grid, BILINEAR, ZEROS_OUTSIDE, false)
}

/// The same out of pieces that can be differentiated twice: slower, and for R1 only.
fn sample_twice(images: &Tensor, maps: &[Affine], h: usize, w: usize) -> Tensor {
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

/// The two samples of one axis around every place, and their weights, which are 0 outside.
struct Neighbours {
    places: [Tensor; 2],
    weights: [Tensor; 2],
}

impl Neighbours {
    /// `at` in samples from the first one's centre, in float64; `n` samples; weights in `kind`.
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

/// Where every output pixel looks, in input pixels from the first one's centre: x and y, [N, h * w] in float64.
fn source_places(maps: &[Affine], h: usize, w: usize, in_h: i64, in_w: i64, device: Device) -> [Tensor; 2] {
    let offsets = |n: usize| Tensor::arange(n as i64, (Kind::Double, device)) - (n as f64 - 1.0) / 2.0;
    let (x, y) = (offsets(w).view([1, 1, -1]), offsets(h).view([1, -1, 1]));
    let coefficient = |row: usize, column: usize, more: f64| {
        let values: Vec<f64> = maps.iter().map(|map| map.0[row][column] + more).collect();
        Tensor::from_slice(&values).to_device(device).view([-1, 1, 1])
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
    fn an_inverse_undoes_its_map() {
        let map = Affine::shift(3.0, -1.0).after(&Affine::rotation(0.3)).after(&Affine::scale(2.0, 0.5));
        let [x, y] = map.inverse().after(&map).apply(5.0, 7.0);
        assert!((x - 5.0).abs() < 1e-12 && (y - 7.0).abs() < 1e-12);
    }

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
