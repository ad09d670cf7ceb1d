//! The options of a run, as typed or read from a file, and the settings that they become.
//!
//! An option is declared in `options.rs`, with its help, default, range and mode side by side; `settings.rs` turns options
//! into settings, in which everything has a value.

mod facts;
mod grid_size;
mod memory;
mod options;
mod presets;
mod settings;
mod spec;

pub use facts::NetworkFacts;
pub use grid_size::GridSize;
pub use memory::MemoryFacts;
pub use options::{AugmentMode, LossKind, OnDivergence, Options, Pairing};
pub use presets::preset_of;
pub use settings::{RunSettings, freeze_settings, train_settings};
