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
    /// Loads a discriminator.
    ///
    /// # Errors
    /// An unreadable file, a newer contract, or a generator.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let script = ScriptModule::load(path, device)?;
        let spec = script.description().map(|text| contract::parse(path, &text, "discriminator")).transpose()?;
        Ok(Self { script, spec })
    }

    /// The contract's sizes; None for a discriminator made elsewhere.
    pub fn spec(&self) -> Option<&DiscriminatorSpec> {
        self.spec.as_ref()
    }

    /// The minibatch-stddev group, which must divide every batch; 1 where it is not known.
    pub fn mbstd_group_size(&self) -> i64 {
        self.spec.as_ref().map_or(1, |spec| spec.mbstd_group_size)
    }

    /// Images [N, C, R, R] in [-1, 1] (and c [N, c_dim]) -> logits [N, 1], larger is more real.
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
