//! The discriminator: images [N, C, R, R] (and labels) -> logits [N, 1].

use super::contract::{CONTRACT_VERSION, DiscriminatorSpec};
use super::script::ScriptModule;
use anyhow::{Context, Result, bail, ensure};
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
        let spec = script.string_method("describe").map(|text| parse_spec(path, &text)).transpose()?;
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
    /// The script's own.
    pub fn logits(&self, images: &Tensor, c: Option<&Tensor>) -> Result<Tensor> {
        let mut arguments = vec![IValue::from(images.shallow_clone())];
        if self.spec.is_some() {
            arguments.push(c.map_or(IValue::None, |c| IValue::from(c.shallow_clone())));
        }
        self.script.tensor_method("forward", &arguments)
    }
}

fn parse_spec(path: &Path, text: &str) -> Result<DiscriminatorSpec> {
    let value: serde_json::Value = serde_json::from_str(text).with_context(|| {
        format!("'{}': describe() is not JSON; export it again (weights/README.md)", path.display())
    })?;
    match value["kind"].as_str() {
        Some("discriminator") => {}
        Some(kind) => {
            bail!("'{}' is a {kind}, a discriminator is expected; are the two files swapped?", path.display())
        }
        None => bail!("'{}': describe() does not say its kind; export it again (weights/README.md)", path.display()),
    }
    let spec: DiscriminatorSpec = serde_json::from_value(value).with_context(|| {
        format!("'{}': describe() lacks a size; export it again (weights/README.md)", path.display())
    })?;
    ensure!(
        spec.contract == CONTRACT_VERSION,
        "'{}' follows version {} of the contract, this program version {CONTRACT_VERSION}; export it again",
        path.display(),
        spec.contract
    );
    Ok(spec)
}
