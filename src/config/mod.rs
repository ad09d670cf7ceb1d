//! What a run is told: options as typed or read from a file, and the settings that they mean.

mod options;
mod run;

pub use options::{AugmentMode, LossKind, Options};
pub use run::{AugmentConfig, GridSize, NetworkFacts, RunConfig};
