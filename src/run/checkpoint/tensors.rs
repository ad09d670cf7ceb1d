//! Writes and reads the tensors of a checkpoint, which are one safetensors file.

use std::path::Path;

use anyhow::Result;

use crate::model::weights;
use crate::train::state::Tensors;

/// Writes tensors to a new file.
///
/// # Errors
/// A full disk or a folder that cannot be written.
pub fn write(path: &Path, tensors: &Tensors) -> Result<()> {
    weights::write_new(path, tensors.iter())
}

/// Reads the tensors of a file.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<Tensors> {
    Ok(weights::read(path)?.tensors.into_iter().collect())
}
