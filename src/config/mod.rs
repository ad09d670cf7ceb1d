//! What a run is told: options as typed or read from a file, and the settings that they mean.

mod options;
mod run;

pub use options::{LossKind, Options};
pub use run::{GridSize, NetworkFacts, RunConfig};
