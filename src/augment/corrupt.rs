//! Transforms of the image content: band gains, noise, cutout.

use tch::Tensor;

use super::Transforms;
use super::axis::AxisMatrix;
use super::draws::Draws;

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
    let gains = Tensor::from_slice(&gains).view([size[0], 4]).to_device(images.device()).to_kind(images.kind());
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

/// Blanks a square of half the side at a drawn place.
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
    Tensor::from_slice(values).to_device(images.device()).to_kind(images.kind()).view([-1, 1, 1, 1])
}
