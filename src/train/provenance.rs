//! Where the weights of a run come from.

use serde_json::{Value, json};

use super::networks::Networks;
use crate::config::RunConfig;
use crate::data::{Dataset, Labels};

/// The options that say where somebody keeps files, which is nobody's business.
const PRIVATE: [&str; 7] =
    ["generator", "generator_raw", "discriminator", "data", "outdir", "detector", "vgg_detector"];

/// The parents' records and what is done to them.
pub(super) fn of_run(config: &RunConfig, networks: &Networks, dataset: &Dataset) -> Value {
    let mut options = serde_json::to_value(config.effective()).unwrap_or_default();
    if let Value::Object(options) = &mut options {
        options.retain(|key, value| !value.is_null() && !PRIVATE.contains(&key.as_str()));
    }
    json!({
        "source": format!("finetuned by rootgan {}", env!("CARGO_PKG_VERSION")),
        "dataset": dataset.name(),
        "class_counts": dataset.labels().map(Labels::counts),
        "options": options,
        "parents": {
            "generator": networks.g.script.provenance(),
            "discriminator": networks.d.script.provenance(),
        },
    })
}
