//! What a run is told: options as typed or read from a file, and the settings that they mean.

mod checks;
mod defaults;
mod grid_size;
mod options;
mod presets;
mod run;

pub use grid_size::GridSize;
pub use options::{AugmentMode, LossKind, OnDivergence, Options};
pub use presets::preset;
pub use run::{AugmentConfig, NetworkFacts, RunConfig, freeze_settings};
