//! Computes checksums of files, and keeps them in records by which damage is noticed later.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::opening::to_read;

/// The record of one file, by which damage is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The name of the file, in the folder of the record.
    pub file: String,
    /// The SHA-256 of its bytes in hexadecimal.
    pub sha256: String,
    /// The length in bytes.
    pub bytes: u64,
}

impl FileRecord {
    /// Records a file as it is now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let context = || format!("cannot read '{}'", path.display());
        let bytes = std::fs::metadata(path).with_context(context)?.len();
        let name = path.file_name().with_context(context)?;
        Ok(Self { file: name.to_string_lossy().into_owned(), sha256: sha256(path)?, bytes })
    }
}

/// Returns the SHA-256 of a file in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    to_read(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hasher))
        .with_context(|| format!("cannot read '{}'", path.display()))?;
    Ok(format!("{:x}", hasher.finalize()))
}
