//! The provenance of a run's weights.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Options, RunSettings};
use crate::data::{Dataset, Labels};
use crate::files::checksum::sha256;
use crate::model::ScriptModule;
use crate::model::provenance::flattened;
use crate::train::Networks;

/// The SHA-256 of the network files that a run began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ParentFiles {
    /// The generator that is trained.
    generator: Option<String>,
    discriminator: Option<String>,
}

impl ParentFiles {
    /// Hashes the files of networks that were just loaded.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn hash(networks: &Networks) -> Result<Self> {
        let of = |script: &ScriptModule| sha256(&script.path).map(Some);
        Ok(Self { generator: of(&networks.g.script)?, discriminator: of(&networks.d.script)? })
    }
}

/// Makes the provenance of a run: its parents, its data and its options.
pub(super) fn of_run(settings: &RunSettings, networks: &Networks, dataset: &Dataset, files: &ParentFiles) -> Value {
    let (mut options, paths) = (serde_json::to_value(settings.effective()).unwrap_or_default(), Options::path_keys());
    if let Value::Object(options) = &mut options {
        options.retain(|key, value| !value.is_null() && !paths.contains(&key.as_str()));
    }
    let mut record = flattened(json!({
        "source": format!("finetuned by rootgan {}", env!("CARGO_PKG_VERSION")),
        "dataset": dataset.name(),
        "class_counts": dataset.labels().map(Labels::counts),
        "options": options,
        "parents": {
            "generator": networks.g.script.provenance(),
            "discriminator": networks.d.script.provenance(),
        },
    }));
    for (name, sha256) in [("generator", &files.generator), ("discriminator", &files.discriminator)] {
        if let (Value::Object(parent), Some(sha256)) = (&mut record["parents"][name], sha256) {
            parent.insert("sha256".to_owned(), json!(sha256));
        }
    }
    record
}
