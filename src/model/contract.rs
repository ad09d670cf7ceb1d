//! Reads what a module of the contract says of itself through its `describe()` method, and refuses impossible sizes.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the contract that this program speaks.
pub const CONTRACT_VERSION: i64 = 1;

/// Sizes of a generator of the contract, as its `describe()` gives them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSpec {
    /// Version of the contract that the file follows.
    pub contract: i64,
    /// Width of z.
    pub z_dim: i64,
    /// Number of classes, 0 without labels.
    pub c_dim: i64,
    /// Width of w.
    pub w_dim: i64,
    /// Number of w rows that synthesis takes, 2 log2(resolution) - 2.
    pub num_ws: i64,
    /// Height and width of the images.
    pub img_resolution: i64,
    /// Channels of the images, 3 (RGB) or 1 (grey).
    pub img_channels: i64,
    /// Layers of the mapping network.
    pub mapping_layers: i64,
    /// Channels at resolution r are min(channel_base / r, channel_max).
    pub channel_base: i64,
    /// The most channels at any resolution, see `channel_base`.
    pub channel_max: i64,
    /// Bound of the convolution outputs, if any.
    pub conv_clamp: Option<f64>,
    /// Noise pixels of one image, over all layers.
    pub noise_numel: i64,
    /// How blocks are connected: `skip` (RGB of every block added up), `orig` or `resnet`.
    #[serde(default = "skip")]
    pub g_architecture: String,
}

fn skip() -> String {
    "skip".to_owned()
}

/// Sizes of a discriminator of the contract, as its `describe()` gives them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorSpec {
    /// Version of the contract that the file follows.
    pub contract: i64,
    /// Number of classes, 0 without labels.
    pub c_dim: i64,
    /// Height and width of the images.
    pub img_resolution: i64,
    /// Channels of the images, 3 (RGB) or 1 (grey).
    pub img_channels: i64,
    /// Channels at resolution r are min(channel_base / r, channel_max).
    pub channel_base: i64,
    /// The most channels at any resolution, see `channel_base`.
    pub channel_max: i64,
    /// Bound of the convolution outputs, if any.
    pub conv_clamp: Option<f64>,
    /// Group size of the minibatch standard deviation, 0 without one.
    pub mbstd_group_size: i64,
    /// How blocks are connected: `resnet`, `orig` or `skip`.
    #[serde(default = "resnet")]
    pub d_architecture: String,
}

fn resnet() -> String {
    "resnet".to_owned()
}

/// Reads what `describe()` of the module at `path` returned; `kind` is what it should be.
///
/// # Errors
/// The text is no JSON, or it describes another kind, another version of the contract, or a size that is missing or
/// cannot be.
pub fn parse<Spec: DeserializeOwned>(path: &Path, text: &str, kind: &str) -> Result<Spec> {
    let file = path.display();
    let value: Value = serde_json::from_str(text)
        .with_context(|| format!("'{file}': describe() is not JSON; export it again (weights/README.md)"))?;
    match value["kind"].as_str() {
        Some(found) if found == kind => {}
        Some(found) => bail!("'{file}' is a {found}, a {kind} is expected; are the two files swapped?"),
        None => bail!("'{file}': describe() does not say its kind; export it again (weights/README.md)"),
    }
    let version = &value["contract"];
    ensure!(
        version.as_i64() == Some(CONTRACT_VERSION),
        "'{file}' follows version {version} of the contract, this program version {CONTRACT_VERSION}; export it again"
    );
    check_sizes(path, &value)?;
    serde_json::from_value(value)
        .with_context(|| format!("'{file}': describe() lacks a size; export it again (weights/README.md)"))
}

/// The names of sizes, each with its least and its greatest value. A description beyond them is damaged, and would ask
/// for more memory than there is. Sizes that not every architecture has are 0 without it.
const RANGES: [(&str, i64, i64); 11] = [
    ("z_dim", 1, 1 << 16),
    ("c_dim", 0, 1 << 20),
    ("w_dim", 1, 1 << 16),
    ("num_ws", 1, 64),
    ("img_resolution", 4, 1 << 14),
    ("img_channels", 1, 3),
    ("mapping_layers", 0, 64),
    ("channel_base", 0, 1 << 24),
    ("channel_max", 0, 1 << 16),
    ("noise_numel", 0, 1 << 32),
    ("mbstd_group_size", 0, 1 << 16),
];

fn check_sizes(path: &Path, value: &Value) -> Result<()> {
    let sizes = RANGES.iter().filter_map(|&(key, least, most)| Some((key, value[key].as_i64()?, least..=most)));
    for (key, size, range) in sizes {
        let possible = range.contains(&size) && (key != "img_channels" || size != 2);
        ensure!(
            possible,
            "'{}': describe() says {key} {size}, which cannot be; export it again (weights/README.md)",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_that_an_architecture_does_not_have_are_zero() {
        let path = Path::new("mine.pt");
        let of_g = json!({
            "kind": "generator", "contract": 1, "z_dim": 8, "c_dim": 0, "w_dim": 8, "num_ws": 6, "img_resolution": 16,
            "img_channels": 3, "mapping_layers": 0, "channel_base": 0, "channel_max": 0, "conv_clamp": null, "noise_numel": 0,
        });
        let spec: GeneratorSpec = parse(path, &of_g.to_string(), "generator").unwrap();
        assert_eq!((spec.mapping_layers, spec.channel_base, spec.channel_max), (0, 0, 0));
        let of_d = json!({
            "kind": "discriminator", "contract": 1, "c_dim": 0, "img_resolution": 16, "img_channels": 3, "channel_base": 0,
            "channel_max": 0, "conv_clamp": null, "mbstd_group_size": 0,
        });
        assert_eq!(parse::<DiscriminatorSpec>(path, &of_d.to_string(), "discriminator").unwrap().mbstd_group_size, 0);
        let text = json!({ "kind": "generator", "contract": 1, "z_dim": 0 }).to_string();
        assert!(parse::<GeneratorSpec>(path, &text, "generator").unwrap_err().to_string().contains("z_dim 0"));
    }
}
