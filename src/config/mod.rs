//! The options of a run, as typed or read from a file, and the settings that they become.
//!
//! An option is declared in `options.rs`, with its help, default, range and mode side by side; `declare.rs` makes of it what visits all
//! options, `option_files.rs` reads them from files, and `settings.rs` turns options
//! into settings, in which everything has a value.

#[macro_use]
mod declare;
mod facts;
mod grid_size;
mod memory;
mod option_files;
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
