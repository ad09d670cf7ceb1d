//! Geometric transforms: one affine map per image, sampled at twice the resolution between two sym6 filters.

use tch::Tensor;

use super::affine::{Affine, Axes};
use super::axis::AxisMatrix;
use super::draws::Draws;
use super::{Derivatives, Transforms, sampling};
use crate::tensor::device::upload;

/// Number of pixels that the output filter needs beyond the image on every side.
const FILTER_PAD: f64 = 6.0;

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
    // There are two rotations: each happens seldom enough for any of them to happen with probability p.
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

/// Applies a drawn map to every image. Only maps that mix the axes are sampled in two dimensions: for the others two
/// small matrices per image do the same.
///
/// # Shapes
/// images [N, C, H, W] -> the same.
pub(super) fn apply(images: &Tensor, transforms: &Transforms, p: f64, order: Derivatives, draws: &mut Draws) -> Tensor {
    let size = images.size();
    let (h, w) = (size[2] as usize, size[3] as usize);
    let inverses: Vec<Affine> =
        (0..size[0]).map(|_| draw(transforms, w as f64, h as f64, p, draws).inverse()).collect();
    let ([left, right], [top, bottom]) = margins(&inverses, w, h);
    let filters = Filters {
        up_x: AxisMatrix::upsample(w, left, right).tensor_like(images),
        up_y: AxisMatrix::upsample(h, top, bottom).tensor_like(images),
        down_x: AxisMatrix::downsample(w).tensor_like(images),
        down_y: AxisMatrix::downsample(h).tensor_like(images),
    };

    // Uneven padding moves the centre, the map acts at twice the resolution, and the sym6 filters are half a sample off
    // centre.
    let centre = Affine::shift((left as f64 - right as f64) / 2.0, (top as f64 - bottom as f64) / 2.0);
    let (double, half) = (Affine::scale(2.0, 2.0), Affine::scale(0.5, 0.5));
    let (back, forth) = (Affine::shift(-0.5, -0.5), Affine::shift(0.5, 0.5));
    let mut groups = Groups::default();
    for (image, inverse) in inverses.iter().enumerate() {
        groups.add(image as i64, back.after(&double).after(&centre).after(inverse).after(&half).after(&forth));
    }
    groups.apply(
        images,
        |images, maps| filters.mixed(images, maps, order),
        |images, lines, swapped| filters.kept(images, lines, swapped),
    )
}

/// Slope and offset of the map of one axis, for each image.
type SampledLines = Vec<(f64, f64)>;

/// The images of a batch, grouped by what their maps do to the axes.
#[derive(Default)]
struct Groups {
    mixed: (Vec<i64>, Vec<Affine>),
    kept: (Vec<i64>, [SampledLines; 2]),
    swapped: (Vec<i64>, [SampledLines; 2]),
}

impl Groups {
    fn add(&mut self, image: i64, map: Affine) {
        let (group, lines) = match map.axes() {
            Axes::Kept(lines) => (&mut self.kept, lines),
            Axes::Swapped(lines) => (&mut self.swapped, lines),
            Axes::Mixed => {
                self.mixed.0.push(image);
                self.mixed.1.push(map);
                return;
            }
        };
        group.0.push(image);
        group.1.iter_mut().zip(lines).for_each(|(all, line)| all.push(line));
    }

    /// Passes each group through its own function, and puts the results back into the order of the batch.
    fn apply(
        &self,
        images: &Tensor,
        mixed: impl Fn(&Tensor, &[Affine]) -> Tensor,
        kept: impl Fn(&Tensor, &[SampledLines; 2], bool) -> Tensor,
    ) -> Tensor {
        let places = |of: &[i64]| upload(&Tensor::from_slice(of), images.device());
        let taken = |of: &[i64]| images.index_select(0, &places(of));
        let (mut order, mut parts) = (Vec::new(), Vec::new());
        if !self.mixed.0.is_empty() {
            parts.push(mixed(&taken(&self.mixed.0), &self.mixed.1));
            order.extend(&self.mixed.0);
        }
        if !self.kept.0.is_empty() {
            parts.push(kept(&taken(&self.kept.0), &self.kept.1, false));
            order.extend(&self.kept.0);
        }
        if !self.swapped.0.is_empty() {
            parts.push(kept(&taken(&self.swapped.0), &self.swapped.1, true));
            order.extend(&self.swapped.0);
        }
        if parts.len() == 1 {
            return parts.remove(0); // The whole batch, in its order.
        }
        Tensor::cat(&parts, 0).index_select(0, &places(&order).argsort(0, false))
    }
}

/// The filters by axis: to twice the resolution, padding included, and back.
struct Filters {
    up_x: Tensor,
    up_y: Tensor,
    down_x: Tensor,
    down_y: Tensor,
}

impl Filters {
    /// Applies any maps, sampled in two dimensions.
    fn mixed(&self, images: &Tensor, maps: &[Affine], order: Derivatives) -> Tensor {
        let fine = self.up_y.matmul(&images.matmul(&self.up_x.transpose(0, 1)));
        let (h, w) = (self.down_y.size()[1] as usize, self.down_x.size()[1] as usize);
        let sampled = match order.chosen() {
            Derivatives::First => sampling::sample_once(&fine, maps, h, w),
            Derivatives::Second => sampling::sample_twice(&fine, maps, h, w),
        };
        self.down_y.matmul(&sampled.matmul(&self.down_x.transpose(0, 1)))
    }

    /// Applies maps that keep or swap the axes: filter, sampling and filter are one matrix per axis and image. `[x, y]`
    /// are the lines of x and y in the source; `swapped` says that x follows the output's y, and y its x.
    fn kept(&self, images: &Tensor, [x, y]: &[SampledLines; 2], swapped: bool) -> Tensor {
        let (down_of_x, down_of_y) = if swapped { (&self.down_y, &self.down_x) } else { (&self.down_x, &self.down_y) };
        let axis = |lines: &SampledLines, up: &Tensor, down: &Tensor| {
            down.matmul(&sampling::sample_rows(lines, down.size()[1] as usize, up)).unsqueeze(1)
        };
        let (x, y) = (axis(x, &self.up_x, down_of_x), axis(y, &self.up_y, down_of_y));
        if swapped {
            // out = X in^T Y^T: rows of the output follow x of the source.
            return x.matmul(&images.transpose(2, 3).matmul(&y.transpose(2, 3)));
        }
        y.matmul(&images.matmul(&x.transpose(2, 3)))
    }
}

/// Returns how many reflected pixels the sampling can reach: [left, right] and [top, bottom] over the whole batch.
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

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use tch::{Device, Kind};

    use super::*;

    const DRAWN: usize = 20_000;
    const P: f64 = 0.3;

    /// Draws the maps that one transform gives 64x64 images with probability 0.3.
    fn drawn(transforms: Transforms) -> Vec<Affine> {
        let mut draws = Draws::Random(Box::new(ChaCha8Rng::seed_from_u64(3)));
        (0..DRAWN).map(|_| draw(&transforms, 64.0, 64.0, P, &mut draws)).collect()
    }

    /// Asserts that the share of the maps for which `of` holds is the probability expected, within 5 standard errors.
    fn assert_share(maps: &[Affine], expected: f64, of: impl Fn(&[[f64; 3]; 2]) -> bool) {
        let share = maps.iter().filter(|map| of(&map.0)).count() as f64 / maps.len() as f64;
        let error = (expected * (1.0 - expected) / maps.len() as f64).sqrt();
        assert!((share - expected).abs() < 5.0 * error, "{share} of the maps, expected {expected}");
    }

    /// Asserts that the values have mean 0 and this standard deviation, within 4 %.
    fn assert_spread(values: &[f64], deviation: f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let found = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.05 * deviation, "mean {mean}");
        assert!((found / deviation - 1.0).abs() < 0.04, "deviation {found}, expected {deviation}");
    }

    /// Reads what one transform changed where it happened.
    fn values(maps: &[Affine], of: impl Fn(&[[f64; 3]; 2]) -> f64) -> Vec<f64> {
        maps.iter().filter(|map| **map != Affine::IDENTITY).map(|map| of(&map.0)).collect()
    }

    #[test]
    fn flips_and_quarter_turns_are_drawn_evenly() {
        let flips = drawn(Transforms { xflip: true, ..Transforms::default() });
        assert_share(&flips, P / 2.0, |m| m[0][0] < 0.0);
        let turns = drawn(Transforms { rotate90: true, ..Transforms::default() });
        for quarters in 1..4 {
            let (sin, cos) = (-std::f64::consts::FRAC_PI_2 * f64::from(quarters)).sin_cos();
            assert_share(&turns, P / 4.0, |m| (m[0][0] - cos).abs() < 1e-9 && (m[1][0] - sin).abs() < 1e-9);
        }
    }

    #[test]
    fn shifts_are_whole_pixels_within_an_eighth_or_normal() {
        let whole = drawn(Transforms { xint: true, ..Transforms::default() });
        assert!(whole.iter().all(|Affine(m)| m[0][2].fract() == 0.0 && m[0][2].abs() <= 8.0 && m[1][2].abs() <= 8.0));
        // Rounding gives the outermost of 17 places half of the others' share, which is 1 of 16.
        assert_share(&whole, P / 32.0, |m| m[0][2] == 8.0);
        assert_share(&whole, P / 16.0, |m| m[1][2] == -5.0);
        let fractional = drawn(Transforms { xfrac: true, ..Transforms::default() });
        assert_share(&fractional, P, |m| m[0][2] != 0.0);
        assert_spread(&values(&fractional, |m| m[0][2]), 8.0);
        assert_spread(&values(&fractional, |m| m[1][2]), 8.0);
    }

    #[test]
    fn scales_are_log_normal_and_stretching_keeps_the_area() {
        let scales = drawn(Transforms { scale: true, ..Transforms::default() });
        assert_share(&scales, P, |m| m[0][0] != 1.0);
        assert!(scales.iter().all(|Affine(m)| m[0][0] == m[1][1]));
        assert_spread(&values(&scales, |m| m[0][0].log2()), 0.2);
        let stretched = drawn(Transforms { aniso: true, ..Transforms::default() });
        assert_share(&stretched, P, |m| m[0][0] != 1.0);
        assert!(stretched.iter().all(|Affine(m)| (m[0][0] * m[1][1] - 1.0).abs() < 1e-12));
        assert_spread(&values(&stretched, |m| m[0][0].log2()), 0.2);
    }

    /// There are two rotations, before and after the stretching; that any happens has probability p.
    #[test]
    fn rotations_together_happen_with_p_by_any_angle() {
        let rotated = drawn(Transforms { rotate: true, ..Transforms::default() });
        assert_share(&rotated, P, |m| m[0][1] != 0.0);
        assert_share(&rotated, P / 4.0, |m| m[0][1] != 0.0 && m[0][0] > 0.0 && m[1][0] > 0.0);
        // The sines of uniform angles have variance 1/2.
        assert_spread(&values(&rotated, |m| m[1][0]), 0.5_f64.sqrt());
    }

    #[test]
    fn images_come_back_in_the_order_of_the_batch() {
        let images = Tensor::randn([7, 1, 8, 8], (Kind::Double, Device::Cpu));
        let filters = filters(&images, [4, 4], [4, 4]);
        let turned = |angle: f64| Affine::rotation(angle * std::f64::consts::FRAC_PI_2);
        let maps = [turned(0.0), turned(0.3), turned(1.0), turned(0.7), turned(3.0), turned(2.0), turned(0.1)];
        let mut groups = Groups::default();
        maps.iter().enumerate().for_each(|(image, map)| groups.add(image as i64, *map));
        assert_eq!((groups.mixed.0.len(), groups.kept.0.len(), groups.swapped.0.len()), (3, 2, 2));
        let apart = groups.apply(
            &images,
            |part, maps| filters.mixed(part, maps, Derivatives::First),
            |part, lines, swapped| filters.kept(part, lines, swapped),
        );
        let together = filters.mixed(&images, &maps, Derivatives::First);
        assert!((apart - together).abs().max().double_value(&[]) < 1e-10);
    }

    /// Makes the filters for so many reflected pixels to the left and right, and above and below.
    fn filters(images: &Tensor, [left, right]: [usize; 2], [top, bottom]: [usize; 2]) -> Filters {
        let (h, w) = (images.size()[2] as usize, images.size()[3] as usize);
        Filters {
            up_x: AxisMatrix::upsample(w, left, right).tensor_like(images),
            up_y: AxisMatrix::upsample(h, top, bottom).tensor_like(images),
            down_x: AxisMatrix::downsample(w).tensor_like(images),
            down_y: AxisMatrix::downsample(h).tensor_like(images),
        }
    }

    /// Compares pixels and gradients in float64, for both orders of the axes and an oblong image.
    #[test]
    fn a_matrix_per_axis_does_what_sampling_in_two_dimensions_does() {
        let images = Tensor::randn([3, 2, 10, 14], (Kind::Double, Device::Cpu));
        let filters = filters(&images, [5, 8], [3, 4]);
        let maps = |linear: [[f64; 2]; 2]| -> Vec<Affine> {
            let [[a, b], [c, d]] = linear;
            (0..3).map(|i| f64::from(i) * 1.7).map(|i| Affine([[a, b, i - 0.3], [c, d, 2.0 - i]])).collect()
        };
        for linear in [[[0.8, 0.0], [0.0, -1.3]], [[0.0, -1.2], [0.9, 0.0]]] {
            let maps = maps(linear);
            let mut groups = Groups::default();
            maps.iter().enumerate().for_each(|(image, map)| groups.add(image as i64, *map));
            assert!(groups.mixed.0.is_empty());
            let of = |separately: bool| {
                let x = images.detach().set_requires_grad(true);
                let out = if separately {
                    groups.apply(
                        &x,
                        |_, _| unreachable!("no map mixes the axes"),
                        |part, lines, swapped| filters.kept(part, lines, swapped),
                    )
                } else {
                    filters.mixed(&x, &maps, Derivatives::First)
                };
                let gradient = Tensor::run_backward(&[out.sin().sum(Kind::Double)], &[&x], false, false).remove(0);
                [out, gradient]
            };
            for (one, two) in of(true).iter().zip(&of(false)) {
                assert!((one - two).abs().max().double_value(&[]) < 1e-10);
            }
        }
    }
}
