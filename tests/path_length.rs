//! The perceptual path length that `rootgan metrics` measures, against its formula.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{pair16_labelled, rootgan, scripted, text};
use rootgan::latent::seeds::dump_latents;
use rootgan::model::{Generator, NoiseMode, Truncation};
use rootgan::tensor::no_grad;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// A detector whose perceptual rows are the pictures themselves.
const PERCEPTUAL: &str = "\
class Detector(torch.nn.Module):
    def forward(self, img: torch.Tensor, resize_images: bool = True, return_features: bool = False,
                return_lpips: bool = False):
        assert return_lpips and not resize_images and not return_features
        return img.flatten(1) / 255
net = Detector()
";

const PAIRS: usize = 12;
const CLASS: i64 = 1;

fn measured(generator: &Path, detector: &Path, batch: &str) -> f64 {
    let mut command = rootgan();
    command.args(["metrics", "--device", "cpu", "--json", "--metrics", "ppl2_wend_12", "--class", "1", "--seed", "5"]);
    command.args(["--batch", batch, "--generator", text(generator), "--vgg-detector", text(detector)]);
    let output = command.assert().success().get_output().stdout.clone();
    let record: Value = serde_json::from_slice(&output).unwrap();
    record["results"]["ppl2_wend_12"].as_f64().unwrap()
}

/// The mean of `|x - x'|^2 / epsilon^2`, x being a picture from 0 to 1 and x' that of a step towards another w. The
/// step is ten times that of the program, since the rounding of float32 counts less beside a longer one.
fn expected(generator: &Path) -> f64 {
    common::configure_torch();
    let g = Generator::load(generator, Device::Cpu, None).unwrap();
    let (z, noise) = dump_latents(5, 0, PAIRS, 2 * g.z_dim(), g.noise_numel(), Device::Cpu);
    let c = g.class_labels(Some(CLASS), PAIRS as i64).unwrap();
    let epsilon = 1e-3;
    no_grad(|| {
        let w = |half: i64| {
            g.mapping(&z.narrow(1, half * g.z_dim(), g.z_dim()), c.as_ref(), Truncation::OFF, false).unwrap()
        };
        let picture = |ws: &Tensor| (g.synthesis(ws, NoiseMode::Random, Some(&noise)).unwrap() + 1.0) / 2.0;
        let (from, to) = (w(0), w(1));
        let difference = picture(&from) - picture(&(&from + (to - &from) * epsilon));
        difference.square().sum(Kind::Double).double_value(&[]) / (PAIRS as f64 * epsilon * epsilon)
    })
}

#[test]
fn the_path_length_is_the_squared_distance_of_a_short_step_whatever_the_batch() {
    let place = tempfile::tempdir().unwrap();
    let detector = place.path().join("perceptual.pt");
    scripted(&detector, PERCEPTUAL);
    let generator = pair16_labelled().0;
    let expected = expected(&generator);
    for batch in ["4", "5"] {
        let found = measured(&generator, &detector, batch);
        assert!((found / expected - 1.0).abs() < 0.03, "batches of {batch}: {found} is not {expected}");
    }
}
