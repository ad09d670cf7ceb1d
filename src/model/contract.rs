//! What a module of the contract says of itself through its `describe()` method.

use serde::{Deserialize, Serialize};

/// The version of the contract that this program speaks.
pub const CONTRACT_VERSION: i64 = 1;

/// Sizes of a generator of the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorSpec {
    /// Version of the contract.
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
    /// 3 (RGB) or 1 (grey).
    pub img_channels: i64,
    /// Layers of the mapping network.
    pub mapping_layers: i64,
    /// Channels at resolution r are min(channel_base / r, channel_max).
    pub channel_base: i64,
    /// See `channel_base`.
    pub channel_max: i64,
    /// Bound of the convolution outputs, if any.
    pub conv_clamp: Option<f64>,
    /// Noise pixels of one image, over all layers.
    pub noise_numel: i64,
}

/// Sizes of a discriminator of the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorSpec {
    /// Version of the contract.
    pub contract: i64,
    /// Number of classes, 0 without labels.
    pub c_dim: i64,
    /// Height and width of the images.
    pub img_resolution: i64,
    /// 3 (RGB) or 1 (grey).
    pub img_channels: i64,
    /// Channels at resolution r are min(channel_base / r, channel_max).
    pub channel_base: i64,
    /// See `channel_base`.
    pub channel_max: i64,
    /// Bound of the convolution outputs, if any.
    pub conv_clamp: Option<f64>,
    /// Group size of the minibatch standard deviation.
    pub mbstd_group_size: i64,
}
