//! The types that networks compute in.

use serde::{Deserialize, Serialize};

/// A type of activations and convolutions. Parameters and gradients are float32 with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionKind {
    /// float32 everywhere
    #[default]
    Fp32,
    /// bfloat16: range of float32, 8 bits of precision; fast on CPUs with AVX512-BF16 or AMX, and on GPUs
    Bf16,
    /// float16: 11 bits of precision; for GPUs
    Fp16,
}

impl PrecisionKind {
    /// Returns the word that the contract uses.
    pub fn name(self) -> &'static str {
        match self {
            PrecisionKind::Fp32 => "fp32",
            PrecisionKind::Bf16 => "bf16",
            PrecisionKind::Fp16 => "fp16",
        }
    }
}

/// The type that a network computes in, and in how many of its resolutions it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// The type of the highest resolutions.
    pub kind: PrecisionKind,
    /// Number of resolutions that use the type, from the highest down; 4x4 never does.
    pub resolutions: u64,
}
