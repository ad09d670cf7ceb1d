//! Compares one training step on a device with the CPU in float32, number by number. All random draws are made on the
//! CPU and copied, so what differs is arithmetic alone.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::augment::{Augment, Derivatives, Draws, Transforms};
use crate::model::{FreezeSettings, NoiseMode, Precision, PrecisionKind, Truncation};
use crate::run::networks::NetworkFiles;
use crate::tensor::device;
use crate::tensor::no_grad;
use crate::tensor::seed::{Stream, host_rng, seed_torch};
use crate::train::draw::{Draw, Mixing};
use crate::train::objective::{AdversarialLoss, Rooted, discriminator_graphs};
use crate::train::optimizer::Adam;
use crate::train::phases::{discriminator_main, discriminator_reg, generator_main, generator_reg, mean};
use crate::train::regularizers::MeanPathLength;
use crate::train::{AdamSettings, Networks, Reals};

const SEED: u64 = 1;
/// Resolutions that compute in 16 bits, as in training.
const RESOLUTIONS_IN_16_BITS: u64 = 4;
/// The probability of each transform where images are augmented.
const AUGMENT_P: f64 = 0.8;

/// The nature of a quantity, which decides how far rounding can carry it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// The networks' results, or a formula of a few operations.
    Direct,
    /// A derivative, or what comes through many layers: sums of large terms that nearly cancel.
    Derived,
}

impl Nature {
    /// Returns the bound on the relative difference, |a - b| / |b| over all values of a quantity. A wrong formula
    /// differs by about 1.
    const fn bound(self, kind: PrecisionKind) -> f64 {
        match (self, kind) {
            (Self::Direct, PrecisionKind::Fp32) => 1e-5,
            (Self::Direct, PrecisionKind::Fp16) => 3e-3,
            (Self::Direct, PrecisionKind::Bf16) => 2e-2,
            (Self::Derived, PrecisionKind::Fp32) => 5e-4,
            (Self::Derived, PrecisionKind::Fp16) => 0.1,
            (Self::Derived, PrecisionKind::Bf16) => 0.2,
        }
    }
}

/// The quantities that are compared: name, nature, and values on the CPU.
type Quantities = Vec<(&'static str, Nature, Tensor)>;

/// The random numbers of a step, on the CPU.
struct HostDraws {
    z: Tensor,
    mixed_z: Tensor,
    c: Option<Tensor>,
    unit_noise: Tensor,
}

/// The files of a pair, and how many of its images are compared.
struct DeviceComparison<'a> {
    files: NetworkFiles,
    /// Kept for messages.
    generator: &'a Path,
    n: i64,
}

/// Compares `device` with the CPU and prints a table.
///
/// # Errors
/// The networks cannot be loaded or trained, or a quantity differs by more than its bound.
pub fn check(generator: &Path, discriminator: &Path, device: Device, n: i64, as_json: bool) -> Result<()> {
    let files =
        NetworkFiles { generator: generator.into(), discriminator: discriminator.into(), ..NetworkFiles::default() };
    let comparison = DeviceComparison { files, generator, n };
    let (expected, draws, reals) = comparison.on_the_cpu()?;
    let gradients: Vec<Tensor> = ["gradient of Gmain", "gradient of Dmain"]
        .map(|name| value(&expected, name))
        .into_iter()
        .collect::<Result<_>>()?;
    let name = device::gpu(device).and_then(|gpu| gpu.name()).unwrap_or_else(|| device::name(device));
    let mut columns = Vec::new();
    for kind in [PrecisionKind::Fp32, PrecisionKind::Fp16, PrecisionKind::Bf16] {
        let found = match comparison.on(device, kind, &draws, &reals, &gradients) {
            Ok(found) => found,
            Err(error) if kind != PrecisionKind::Fp32 => {
                crate::system::ui::say(format!("{}: {error:#}", kind.name()));
                continue;
            }
            Err(error) => return Err(error),
        };
        let differences: Vec<f64> =
            found.iter().zip(&expected).map(|((.., found), (.., expected))| difference(found, expected)).collect();
        columns.push((kind, differences));
    }
    let names: Vec<&str> = expected.iter().map(|(name, ..)| *name).collect();
    let natures: Vec<Nature> = expected.iter().map(|(_, nature, _)| *nature).collect();
    if as_json {
        let of = |differences: &[f64]| -> serde_json::Map<_, _> {
            names.iter().zip(differences).map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        let all: serde_json::Map<_, _> =
            columns.iter().map(|(kind, values)| (kind.name().to_owned(), json!(of(values)))).collect();
        println!("{}", json!({ "device": name, "images": n, "relative_differences": all }));
    } else {
        print(&name, &names, &natures, &columns);
    }
    let worst = |(kind, values): &(PrecisionKind, Vec<f64>)| {
        let rows = names.iter().zip(&natures).zip(values);
        let beyond = rows.filter(|((_, nature), value)| value.is_nan() || **value > nature.bound(*kind));
        beyond.map(|((name, _), value)| format!("{name} in {} by {value:.1e}", kind.name())).collect::<Vec<_>>()
    };
    let beyond: Vec<String> = columns.iter().flat_map(worst).collect();
    ensure!(beyond.is_empty(), "{name} differs from the CPU by more than rounding explains: {}", beyond.join(", "));
    Ok(())
}

fn print(device: &str, names: &[&str], natures: &[Nature], columns: &[(PrecisionKind, Vec<f64>)]) {
    println!("relative differences of {device} from the CPU in fp32:");
    let heads: Vec<String> = columns.iter().map(|(kind, _)| format!("{:>8}", kind.name())).collect();
    println!("{:<40}{}", "", heads.join("  "));
    for nature in [Nature::Direct, Nature::Derived] {
        for (row, name) in names.iter().enumerate().filter(|(row, _)| natures[*row] == nature) {
            let values: Vec<String> = columns.iter().map(|(_, values)| format!("{:>8.1e}", values[row])).collect();
            println!("{name:<40}{}", values.join("  "));
        }
        let bounds: Vec<String> = columns.iter().map(|(kind, _)| format!("{:>8.1e}", nature.bound(*kind))).collect();
        println!("{:<40}{}", "  allowed for these", bounds.join("  "));
    }
}

/// Returns |a - b| / |b|, in float64.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.square().sum(Kind::Double).sqrt().double_value(&[]);
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    norm(&(a - &b)) / norm(&b).max(f64::MIN_POSITIVE)
}

fn value(quantities: &Quantities, name: &str) -> Result<Tensor> {
    let found = quantities.iter().find(|(known, ..)| *known == name);
    found.map(|(.., value)| value.shallow_clone()).with_context(|| format!("no quantity '{name}'"))
}

impl DeviceComparison<'_> {
    fn load(&self, device: Device, kind: PrecisionKind) -> Result<Networks> {
        let mut networks = self.files.load(FreezeSettings::default(), device)?;
        if kind != PrecisionKind::Fp32 {
            networks.set_precision(Precision { kind, resolutions: RESOLUTIONS_IN_16_BITS })?;
        }
        Ok(networks)
    }

    /// Computes the numbers to compare with; returns what they were made from, too.
    fn on_the_cpu(&self) -> Result<(Quantities, HostDraws, Tensor)> {
        let networks = self.load(Device::Cpu, PrecisionKind::Fp32)?;
        let g = &networks.g;
        ensure!(g.spec().is_some(), "'{}' only takes z: there is nothing to compare", self.generator.display());
        seed_torch(SEED, 0, Stream::GeneratorMain, 0);
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let (side, channels) = (g.img_resolution(), g.img_channels());
        let draws = HostDraws {
            z: normal(&[self.n, g.z_dim()]),
            mixed_z: normal(&[self.n, g.z_dim()]),
            c: g.class_labels((g.c_dim() > 0).then_some(0), self.n)?,
            unit_noise: normal(&[self.n, channels, side, side]),
        };
        let z = normal(&[self.n, g.z_dim()]);
        let reals = no_grad(|| g.images(&z, draws.c.as_ref(), Truncation::OFF, NoiseMode::Const, None))?;
        let mut quantities = step(&networks, &draws, &reals)?;
        let gradients: Vec<Tensor> = ["gradient of Gmain", "gradient of Dmain"]
            .map(|name| value(&quantities, name))
            .into_iter()
            .collect::<Result<_>>()?;
        quantities.extend(updates(&networks, &gradients));
        Ok((quantities, draws, reals))
    }

    fn on(
        &self,
        device: Device,
        kind: PrecisionKind,
        draws: &HostDraws,
        reals: &Tensor,
        gradients: &[Tensor],
    ) -> Result<Quantities> {
        let networks = self.load(device, kind)?;
        let mut quantities = step(&networks, draws, reals)?;
        quantities.extend(updates(&networks, gradients));
        Ok(quantities)
    }
}

/// Computes everything that comes before the optimisers' steps.
fn step(networks: &Networks, draws: &HostDraws, reals: &Tensor) -> Result<Quantities> {
    let (g, d) = (&networks.g, &networks.d);
    let device = g.script.device;
    let num_ws = g.spec().context("a generator that only takes z")?.num_ws;
    let there = |tensor: &Tensor| tensor.to_device(device);
    let draw = || Draw {
        z: there(&draws.z),
        c: draws.c.as_ref().map(there),
        mixing: Some(Mixing { z: there(&draws.mixed_z), cutoff: (num_ws / 2).max(1) }),
        noise: NoiseMode::Const,
    };
    let reals = || Reals { images: there(reals), c: draws.c.as_ref().map(there) };
    let objective = AdversarialLoss::Rooted(Rooted::new(2.0, None)?);

    let ws = g.mapping(&there(&draws.z), draw().c.as_ref(), Truncation::OFF, false)?;
    let images = no_grad(|| g.synthesis(&ws, NoiseMode::Const, None))?;
    let logits = no_grad(|| d.logits(&reals().images, reals().c.as_ref()))?;

    let judged = generator_main(g, d, &objective, &draw(), &reals(), &mut Augment::off())?;
    let of_g_main = networks.g_flat.gradient(&mean(&judged.losses))?;
    let mut pl_mean = MeanPathLength::new(device);
    let penalties = generator_reg(g, &mut pl_mean, &draw(), Some(&there(&draws.unit_noise)))?;
    let of_g_reg = networks.g_flat.gradient(&mean(&penalties))?;
    let mut of_d_main = Tensor::zeros_like(&networks.d_flat.values);
    for &seen in discriminator_graphs(&objective) {
        let judged = discriminator_main(g, d, &objective, seen, &draw(), &reals(), &mut Augment::off())?;
        of_d_main += networks.d_flat.gradient(&mean(&judged.losses))?;
    }
    let norms = discriminator_reg(d, &reals(), &mut augment())?;
    let of_d_reg = networks.d_flat.gradient(&mean(&norms))?;
    let augmented = [Derivatives::First, Derivatives::Second].map(|order| augment().apply(&reals().images, order));
    let [once, twice] = augmented;

    let direct = |name, tensor| (name, Nature::Direct, tensor);
    let derived = |name, tensor| (name, Nature::Derived, tensor);
    let quantities = [
        direct("ws", ws),
        direct("images", images),
        direct("augmented images", once),
        direct("augmented images, for R1", twice),
        derived("logits", logits),
        derived("gradient of Gmain", of_g_main),
        derived("path lengths' penalties", penalties),
        derived("gradient of Greg (second order)", of_g_reg),
        derived("gradient of Dmain", of_d_main),
        derived("R1's squared gradients, augmented", norms),
        derived("gradient of Dreg (second order)", of_d_reg),
    ];
    Ok(quantities.map(|(name, nature, tensor)| (name, nature, tensor.detach().to_device(Device::Cpu))).into())
}

/// Makes an augmentation of all transforms but noise, which comes from the device's own generator.
fn augment() -> Augment {
    let transforms = Transforms { noise: false, ..Transforms::named("bgcfnc").expect("the name of a pipe") };
    let draws = Draws::Random(Box::new(host_rng(SEED, 0, Stream::AugmentDiscriminatorMain, 0)));
    Augment::new(transforms, AUGMENT_P, draws)
}

/// Computes what two steps of each optimiser with given gradients change, and the average after them.
fn updates(networks: &Networks, gradients: &[Tensor]) -> Quantities {
    let device = networks.g.script.device;
    let change = |values: &Tensor, gradient: &Tensor| {
        let (before, gradient) = (values.copy(), gradient.to_device(device));
        let mut adam = Adam::new(AdamSettings::lazy(0.0025, 4), values);
        let _ = adam.step(values, &gradient, 1.0);
        let _ = adam.step(values, &(&gradient * 0.5), 1.0);
        (values - before).to_device(Device::Cpu)
    };
    let of_g = change(&networks.g_flat.values, &gradients[0]);
    let of_d = change(&networks.d_flat.values, &gradients[1]);
    networks.update_ema(0.9);
    let averaged: Vec<Tensor> = networks
        .g_ema
        .script
        .parameters
        .iter()
        .filter(|parameter| parameter.trainable)
        .map(|parameter| parameter.tensor.detach().reshape([-1]))
        .collect();
    let average = Tensor::cat(&averaged, 0).to_device(Device::Cpu);
    let direct = |name, tensor| (name, Nature::Direct, tensor);
    vec![direct("Adam's change of G", of_g), direct("Adam's change of D", of_d), direct("averaged generator", average)]
}
