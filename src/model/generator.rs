//! The generator: one of the contract, or any TorchScript that takes z and returns images, whose sizes are found by
//! trying it.

use super::contract::{self, GeneratorSpec};
use super::safety::told_when_long;
use super::script::ScriptModule;
use anyhow::{Result, bail, ensure};
use std::path::Path;
use tch::{Device, IValue, Kind, Tensor};

use crate::tensor::no_grad;

/// The source of the per-pixel noise of synthesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseMode {
    /// The noise images stored in the generator.
    Const,
    /// Noise that is drawn anew for each call.
    Random,
    /// No noise at all.
    None,
}

impl NoiseMode {
    /// Returns the word that the contract uses.
    pub fn name(self) -> &'static str {
        match self {
            NoiseMode::Const => "const",
            NoiseMode::Random => "random",
            NoiseMode::None => "none",
        }
    }
}

/// Truncation of w towards w_avg: lerp(w_avg, w, psi) on the first `cutoff` rows, or on all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncation {
    /// Weight of w in the interpolation: 1 leaves w alone, 0 gives w_avg.
    pub psi: f64,
    /// Number of ws rows that are truncated; None for all.
    pub cutoff: Option<i64>,
}

impl Truncation {
    /// The setting that leaves w alone.
    pub const OFF: Truncation = Truncation { psi: 1.0, cutoff: None };
}

/// Sizes of a generator made elsewhere that only takes z and returns images; they were found by trying it.
#[derive(Clone, Debug, PartialEq)]
pub struct ZOnlySpec {
    /// Width of z.
    pub z_dim: i64,
    /// Height and width of the images.
    pub img_resolution: i64,
    /// Channels of the images, 3 (RGB) or 1 (grey).
    pub img_channels: i64,
}

enum Calls {
    Contract(GeneratorSpec),
    ZOnly(ZOnlySpec),
}

/// A generator loaded from a TorchScript file.
pub struct Generator {
    /// The module and its parameters.
    pub script: ScriptModule,
    calls: Calls,
}

/// Widths of z that are tried on a generator that does not say its own.
const COMMON_Z_DIMS: [i64; 9] = [512, 256, 128, 64, 100, 1024, 32, 16, 8];

/// The largest width of z that is tried: more than any generator takes.
const MOST_Z_DIMS: i64 = 1 << 16;

impl Generator {
    /// Loads a generator onto a device; `z_dim` is the width of z for one that does not describe itself.
    ///
    /// # Errors
    /// The file cannot be read or is not safe to load, follows another version of the contract, is a discriminator, or
    /// is a module that no z fits.
    pub fn load(path: &Path, device: Device, z_dim: Option<i64>) -> Result<Self> {
        let script = ScriptModule::load(path, device)?;
        let calls = match script.description() {
            Some(text) => Calls::Contract(contract::parse(path, &text, "generator")?),
            None => {
                let name = format!("'{}'", path.display());
                Calls::ZOnly(told_when_long(&name, || probe(&script, z_dim))?)
            }
        };
        Ok(Self { script, calls })
    }

    /// Returns the contract's sizes; None for a generator that only takes z.
    pub fn spec(&self) -> Option<&GeneratorSpec> {
        match &self.calls {
            Calls::Contract(spec) => Some(spec),
            Calls::ZOnly(_) => None,
        }
    }

    /// Returns the width of z.
    pub fn z_dim(&self) -> i64 {
        match &self.calls {
            Calls::Contract(spec) => spec.z_dim,
            Calls::ZOnly(spec) => spec.z_dim,
        }
    }

    /// Returns the number of classes, 0 without labels.
    pub fn c_dim(&self) -> i64 {
        self.spec().map_or(0, |spec| spec.c_dim)
    }

    /// Returns the height and width of the images.
    pub fn img_resolution(&self) -> i64 {
        match &self.calls {
            Calls::Contract(spec) => spec.img_resolution,
            Calls::ZOnly(spec) => spec.img_resolution,
        }
    }

    /// Returns the channels of the images, 3 (RGB) or 1 (grey).
    pub fn img_channels(&self) -> i64 {
        match &self.calls {
            Calls::Contract(spec) => spec.img_channels,
            Calls::ZOnly(spec) => spec.img_channels,
        }
    }

    /// Returns the noise pixels of one image over all layers; 0 where noise cannot be given from outside.
    pub fn noise_numel(&self) -> i64 {
        self.spec().map_or(0, |spec| spec.noise_numel)
    }

    /// Maps z [N, z_dim] (and c [N, c_dim]) to ws [N, num_ws, w_dim]. `update_w_avg` moves w_avg towards the mean w of
    /// the batch.
    ///
    /// # Errors
    /// The script fails, or this generator has no mapping method.
    pub fn mapping(
        &self,
        z: &Tensor,
        c: Option<&Tensor>,
        truncation: Truncation,
        update_w_avg: bool,
    ) -> Result<Tensor> {
        ensure!(self.spec().is_some(), "'{}' only takes z: it has no mapping method", self.script.path.display());
        let arguments = [
            IValue::from(z.shallow_clone()),
            optional(c),
            IValue::Double(truncation.psi),
            truncation.cutoff.map_or(IValue::None, IValue::Int),
            IValue::Bool(update_w_avg),
        ];
        self.script.tensor_method("run_mapping", &arguments)
    }

    /// Makes images [N, C, R, R] in about [-1, 1] of ws [N, num_ws, w_dim]. `noise` [N, noise_numel] replaces the draws
    /// of `NoiseMode::Random`.
    ///
    /// # Errors
    /// The script fails or gives images of another shape, or this generator has no synthesis method.
    pub fn synthesis(&self, ws: &Tensor, mode: NoiseMode, noise: Option<&Tensor>) -> Result<Tensor> {
        ensure!(self.spec().is_some(), "'{}' only takes z: it has no synthesis method", self.script.path.display());
        let arguments = [IValue::from(ws.shallow_clone()), IValue::String(mode.name().into()), optional(noise)];
        let images = self.script.tensor_method("run_synthesis", &arguments)?;
        self.check_shape(images, ws.size().first().copied())
    }

    /// Refuses images of another shape than the sizes say, since callers count on it.
    fn check_shape(&self, images: Tensor, n: Option<i64>) -> Result<Tensor> {
        let (found, side) = (images.size(), self.img_resolution());
        let expected = [n.unwrap_or(0), self.img_channels(), side, side];
        ensure!(
            found == expected,
            "'{}' gives images of shape {found:?}, {expected:?} is expected; export it again (weights/README.md)",
            self.script.path.display()
        );
        Ok(images)
    }

    /// Makes images of z, with any generator. One that only takes z refuses truncation and labels; the noise settings
    /// have no effect on it.
    ///
    /// # Errors
    /// The script fails, or this generator cannot follow an option.
    pub fn images(
        &self,
        z: &Tensor,
        c: Option<&Tensor>,
        truncation: Truncation,
        mode: NoiseMode,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        match &self.calls {
            Calls::Contract(_) => self.synthesis(&self.mapping(z, c, truncation, false)?, mode, noise),
            Calls::ZOnly(_) => {
                let path = self.script.path.display();
                ensure!(truncation == Truncation::OFF, "'{path}' only takes z: it cannot truncate; leave psi at 1");
                ensure!(c.is_none(), "'{path}' only takes z: it has no labels");
                let images = self.script.tensor_method("forward", &[IValue::from(z.shallow_clone())])?;
                self.check_shape(images, z.size().first().copied())
            }
        }
    }

    /// Returns the label rows of one class, c [n, c_dim] one-hot; None for a generator without labels.
    ///
    /// # Errors
    /// A class is asked of a generator without labels, none is asked of one with labels, or it is out of range.
    pub fn class_labels(&self, class: Option<i64>, n: i64) -> Result<Option<Tensor>> {
        let path = self.script.path.display();
        match (self.c_dim(), class) {
            (0, None) => Ok(None),
            (0, Some(_)) => bail!("cannot use --class: '{path}' was trained without labels"),
            (c_dim, None) => bail!("'{path}' is conditional: choose a class with --class 0 to {}", c_dim - 1),
            (c_dim, Some(class)) if !(0..c_dim).contains(&class) => {
                bail!("class {class} is not in '{path}': it has the classes 0 to {}", c_dim - 1)
            }
            (c_dim, Some(class)) => {
                let c = Tensor::zeros([n, c_dim], (Kind::Float, self.script.device));
                let _ = c.narrow(1, class, 1).fill_(1.0);
                Ok(Some(c))
            }
        }
    }
}

fn optional(tensor: Option<&Tensor>) -> IValue {
    tensor.map_or(IValue::None, |tensor| IValue::from(tensor.shallow_clone()))
}

/// Finds the width of z and the shape of the images by calling forward(z) once or a few times.
fn probe(script: &ScriptModule, z_dim: Option<i64>) -> Result<ZOnlySpec> {
    let path = script.path.display();
    let fits = z_dim.is_none_or(|z_dim| (1..=MOST_Z_DIMS).contains(&z_dim));
    ensure!(fits, "cannot use '{path}' with --z-dim {}; pass 1 to {MOST_Z_DIMS}", z_dim.unwrap_or_default());
    let mut refusal = String::new();
    let candidates = z_dim.map_or(COMMON_Z_DIMS.to_vec(), |z_dim| vec![z_dim]);
    for &z_dim in &candidates {
        let z = Tensor::zeros([2, z_dim], (Kind::Float, script.device));
        match no_grad(|| script.tensor_method("forward", &[IValue::from(z)])) {
            Ok(images) => {
                let size = images.size();
                ensure!(
                    size.len() == 4 && size[0] == 2 && size[2] == size[3] && [1, 3].contains(&size[1]),
                    "'{path}' is no generator: forward(z) gives shape {size:?}, square images [N, 1 or 3, R, R] are expected; \
                     pass another file (weights/README.md)"
                );
                return Ok(ZOnlySpec { z_dim, img_resolution: size[2], img_channels: size[1] });
            }
            Err(error) => refusal = error.to_string(),
        }
    }
    bail!(
        "'{path}' does not describe itself and its forward(z) refuses z of width {candidates:?}; give the width with \
         --z-dim, or use a module of the contract (weights/README.md); last answer: {}",
        refusal.chars().take(160).collect::<String>()
    )
}
