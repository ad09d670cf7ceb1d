//! `checkpoint.json`, the manifest of a checkpoint, with a checksum of its own.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::files::atomic::write_json;
use crate::files::bounded::read_text;
use crate::files::checksum::FileRecord;

/// The version of the format; another one is refused.
const VERSION: u64 = 2;
/// The key of the checksum.
const SEAL: &str = "sha256";

#[derive(Serialize, Deserialize)]
pub(super) struct CheckpointManifest<T> {
    version: u64,
    /// The file of tensors.
    pub(super) state: FileRecord,
    /// Everything else that a run needs.
    #[serde(flatten)]
    pub(super) record: T,
}

impl<T: Serialize> CheckpointManifest<T> {
    pub(super) fn new(state: FileRecord, record: T) -> Self {
        Self { version: VERSION, state, record }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut value = serde_json::to_value(self)?;
        seal(&mut value);
        write_json(path, &value)
    }
}

impl<T: DeserializeOwned> CheckpointManifest<T> {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let broken = || format!("'{}' is damaged", path.display());
        let value: Value = serde_json::from_str(&text).with_context(broken)?;
        if let Some(version) = value["version"].as_u64().filter(|&version| version != VERSION) {
            bail!("'{}' has format {version}, this program reads {VERSION}; use the one that wrote it", path.display());
        }
        let (found, expected) = (seal_of(&value), value[SEAL].as_str().unwrap_or("none"));
        ensure!(found == expected, "'{}' is damaged: its sha256 is {found}, it says {expected}", path.display());
        serde_json::from_value(value).with_context(broken)
    }
}

/// Puts a checksum over everything else into a manifest.
pub fn seal(manifest: &mut Value) {
    manifest[SEAL] = seal_of(manifest).into();
}

/// Computes the checksum of everything in a manifest but its own checksum, from compact JSON in the order of the file.
fn seal_of(manifest: &Value) -> String {
    let entries = manifest.as_object().into_iter().flatten().filter(|(key, _)| *key != SEAL);
    let others: Map<String, Value> = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
    format!("{:x}", Sha256::digest(Value::Object(others).to_string()))
}
