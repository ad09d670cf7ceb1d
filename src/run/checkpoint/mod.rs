//! Checkpoints: everything that a run needs to go on exactly, in one folder each, whole or not at all.
//!
//! `checkpoints/000000128000/` of a run holds `state.safetensors` and `checkpoint.json`, the manifest with its checksum
//! and one of its own; `checkpoints/networks/` holds the modules that the state is put into and `networks.json` with theirs.
//! The files are `store` and `manifest`; what they say is `record` (counters) and `tensors`, which a trainer gives and takes
//! (`train/state.rs`). `saving` writes one during a run, `resume` finds where to go on, `rollback` goes back there.

mod keeper;
mod manifest;
mod record;
mod resume;
mod rollback;
mod saving;
mod store;
pub mod tensors;

pub(super) use self::keeper::Keeper;
pub use self::manifest::seal;
pub use self::record::RunRecord;
pub use self::resume::Resumed;
pub use self::store::{Checkpoint, Checkpoints};
