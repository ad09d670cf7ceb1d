//! The discriminator: images [N, C, R, R] (and labels) -> logits [N, 1].

use super::contract::{self, DiscriminatorSpec};
use super::script::ScriptModule;
use anyhow::Result;
use std::path::Path;
use tch::{Device, IValue, Tensor};

/// A discriminator loaded from a TorchScript file.
pub struct Discriminator {
    /// The module and its parameters.
    pub script: ScriptModule,
    spec: Option<DiscriminatorSpec>,
}

impl Discriminator {
    /// Loads a discriminator onto a device.
    ///
    /// # Errors
    /// The file cannot be read or is not safe to load, follows another version of the contract, or is a generator.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let script = ScriptModule::load(path, device)?;
        let spec = script.description().map(|text| contract::parse(path, &text, "discriminator")).transpose()?;
        Ok(Self { script, spec })
    }

    /// Returns the contract's sizes; None for a discriminator made elsewhere.
    pub fn spec(&self) -> Option<&DiscriminatorSpec> {
        self.spec.as_ref()
    }

    /// Returns the group size of the minibatch standard deviation, 1 where it is not known. A batch has to be a
    /// multiple of it, or at most as large.
    pub fn mbstd_group_size(&self) -> i64 {
        self.spec.as_ref().map_or(1, |spec| spec.mbstd_group_size.max(1))
    }

    /// Judges images [N, C, R, R] in [-1, 1] (and c [N, c_dim]): logits [N, 1], larger is more real.
    ///
    /// # Errors
    /// The script fails.
    pub fn logits(&self, images: &Tensor, c: Option<&Tensor>) -> Result<Tensor> {
        let mut arguments = vec![IValue::from(images.shallow_clone())];
        if self.spec.is_some() {
            arguments.push(c.map_or(IValue::None, |c| IValue::from(c.shallow_clone())));
        }
        self.script.tensor_method("forward", &arguments)
    }
}
