//! The tensors of a checkpoint: one safetensors file.

use std::path::Path;

use anyhow::{Result, anyhow};
use tch::{Device, Tensor};

use crate::model::weights;
use crate::tensor::one_line;
use crate::train::state::Tensors;

/// Writes tensors to a new file.
///
/// # Errors
/// A full disk or a folder that cannot be written.
pub fn write(path: &Path, tensors: &Tensors) -> Result<()> {
    let on_cpu: Vec<(&String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name, tensor.to_device(Device::Cpu).contiguous())).collect();
    Tensor::write_safetensors(&on_cpu, path).map_err(|error| anyhow!("{}", one_line(&error)))
}

/// Reads them again.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<Tensors> {
    Ok(weights::read(path)?.tensors.into_iter().collect())
}
