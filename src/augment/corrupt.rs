//! Transforms of the image content: gains of frequency bands, noise, cutout.

use tch::Tensor;

use super::Transforms;
use super::axis::AxisMatrix;
use super::draws::Draws;
use crate::tensor::device::upload;

/// The power that natural images have in each band, lowest first.
const EXPECTED_POWER: [f64; 4] = [10.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0];
const NOISE_DEVIATION: f64 = 0.1;
/// Side of the square that cutout blanks, as a share of the image.
const CUTOUT: f64 = 0.5;

/// Multiplies the bands of every image by drawn gains of unit expected power.
///
/// # Shapes
/// images [N, C, H, W] of any size -> the same.
pub(super) fn filter(images: &Tensor, transforms: &Transforms, p: f64, draws: &mut Draws) -> Tensor {
    let size = images.size();
    let gains: Vec<f32> = (0..size[0]).flat_map(|_| draw_gains(transforms, p, draws)).map(|gain| gain as f32).collect();
    let gains = upload(&Tensor::from_slice(&gains).view([size[0], 4]), images.device()).to_kind(images.kind());
    let along = |n: i64| {
        let bands: Vec<Tensor> = (0..4).map(|band| AxisMatrix::band(n as usize, band).tensor_like(images)).collect();
        let bands = Tensor::stack(&bands, 0).view([4, n * n]);
        gains.matmul(&bands).view([size[0], 1, n, n])
    };
    let (y, x) = (along(size[2]), along(size[3]));
    y.matmul(&images.matmul(&x.transpose(2, 3)))
}

fn draw_gains(transforms: &Transforms, p: f64, draws: &mut Draws) -> [f64; 4] {
    let mut gains = [1.0; 4];
    for band in 0..4 {
        if !transforms.imgfilter[band] {
            continue;
        }
        let gain = draws.log2_normal(1.0);
        let mut of_band = [1.0; 4];
        if draws.happens(p) {
            of_band[band] = gain;
        }
        let power: f64 = EXPECTED_POWER.iter().zip(of_band).map(|(power, gain)| power * gain * gain).sum();
        gains.iter_mut().zip(of_band).for_each(|(sum, gain)| *sum *= gain / power.sqrt());
    }
    gains
}

/// Adds normal noise of a drawn strength to every image.
pub(super) fn noise(images: &Tensor, p: f64, draws: &mut Draws) -> Tensor {
    let n = images.size()[0];
    let strengths: Vec<f32> = (0..n)
        .map(|_| {
            let strength = draws.normal(1.0).abs() * NOISE_DEVIATION;
            if draws.happens(p) { strength as f32 } else { 0.0 }
        })
        .collect();
    images + images.randn_like() * per_image(&strengths, images)
}

/// Blanks a square of half the side at a drawn place of every image.
pub(super) fn cutout(images: &Tensor, p: f64, draws: &mut Draws) -> Tensor {
    let size = images.size();
    let drawn: Vec<[f32; 3]> = (0..size[0])
        .map(|_| {
            let (x, y) = (draws.uniform() as f32, draws.uniform() as f32);
            [x, y, if draws.happens(p) { (CUTOUT / 2.0) as f32 } else { 0.0 }]
        })
        .collect();
    let column = |index: usize| per_image(&drawn.iter().map(|row| row[index]).collect::<Vec<_>>(), images);
    let reach = column(2);
    let near = |n: i64, shape: [i64; 4], centre: Tensor| {
        let places = (Tensor::arange(n, (images.kind(), images.device())) + 0.5) / n as f64;
        (places.view(shape) - centre).abs().lt_tensor(&reach)
    };
    let blank = near(size[3], [1, 1, 1, -1], column(0)).logical_and(&near(size[2], [1, 1, -1, 1], column(1)));
    images * blank.logical_not().to_kind(images.kind())
}

fn per_image(values: &[f32], images: &Tensor) -> Tensor {
    upload(&Tensor::from_slice(values), images.device()).to_kind(images.kind()).view([-1, 1, 1, 1])
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use tch::{Device, Kind};

    use super::*;

    fn seeded() -> Draws {
        Draws::Random(Box::new(ChaCha8Rng::seed_from_u64(3)))
    }

    fn plain(n: i64, value: f64) -> Tensor {
        Tensor::full([n, 3, 16, 16], value, (Kind::Double, Device::Cpu))
    }

    /// The strength is |normal| * 0.1, so its mean square is 0.01; the noise is as strong in every channel.
    #[test]
    fn noise_is_white_and_as_strong_as_published() {
        tch::manual_seed(4);
        let (n, p) = (2000, 0.3);
        let added = noise(&plain(n, 0.5), p, &mut seeded()) - 0.5;
        let power = added.square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double);
        let touched = power.gt(0.0).sum(Kind::Double).double_value(&[]) / n as f64;
        assert!((touched - p).abs() < 0.05, "{touched} of the images");
        let mean = power.mean(Kind::Double).double_value(&[]) / touched;
        assert!((mean / 0.01 - 1.0).abs() < 0.25, "mean square {mean}");
        let scaled = added.index_select(0, &power.gt(0.0).nonzero().view([-1]));
        let scaled = &scaled / scaled.square().mean_dim([1i64, 2, 3].as_slice(), true, Kind::Double).sqrt();
        let along = |shift: [i64; 2]| {
            let moved = scaled.roll(shift, [2i64, 3]);
            (&scaled * moved).mean(Kind::Double).double_value(&[])
        };
        assert!(scaled.mean(Kind::Double).double_value(&[]).abs() < 0.01);
        assert!(along([0, 1]).abs() < 0.01 && along([1, 0]).abs() < 0.01, "neighbours are correlated");
        let channels = scaled.narrow(1, 0, 1) * scaled.narrow(1, 1, 1);
        assert!(channels.mean(Kind::Double).double_value(&[]).abs() < 0.01, "channels are correlated");
    }

    #[test]
    fn cutout_blanks_a_square_of_half_the_side_anywhere() {
        let (n, p) = (4000, 0.3);
        let kept = cutout(&plain(n, 1.0), p, &mut seeded()).select(1, 0);
        let blank: Tensor = 1.0 - kept;
        let areas = blank.sum_dim_intlist([1i64, 2].as_slice(), false, Kind::Double);
        let touched = areas.gt(0.0).sum(Kind::Double).double_value(&[]) / n as f64;
        assert!((touched - p).abs() < 0.04, "{touched} of the images");
        assert_eq!(areas.max().double_value(&[]), 64.0);
        // The centre is uniform: it is within a quarter of the side of the middle pixel along both axes in 1 of 4
        // cases, and of a corner pixel, half a pixel from the edges, in (4.5 / 16)^2 of them.
        let often = |y: i64, x: i64| blank.select(1, y).select(1, x).mean(Kind::Double).double_value(&[]) / p;
        assert!((often(8, 8) - 0.25).abs() < 0.05, "{}", often(8, 8));
        assert!((often(0, 0) - (4.5_f64 / 16.0).powi(2)).abs() < 0.03, "{}", often(0, 0));
    }

    #[test]
    fn the_bands_gains_keep_the_expected_power() {
        let (transforms, mut draws) = (Transforms::named("filter").expect("a pipe"), seeded());
        let (n, p) = (5000, 0.3);
        let untouched = (0..n).filter(|_| draw_gains(&transforms, p, &mut draws) == [1.0; 4]).count() as f64;
        // Each band's draw leaves all gains as they are, up to rounding, unless it happens.
        assert!((untouched / f64::from(n) - (1.0 - p).powi(4)).abs() < 0.03, "{untouched}");
        for _ in 0..100 {
            let one = Transforms { imgfilter: [false, true, false, false], ..Transforms::default() };
            let gains = draw_gains(&one, 1.0, &mut draws);
            let power: f64 = EXPECTED_POWER.iter().zip(gains).map(|(power, gain)| power * gain * gain).sum();
            assert!((power - 1.0).abs() < 1e-12);
        }
    }
}
