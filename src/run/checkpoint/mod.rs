//! Checkpoints: everything that a run needs to go on exactly, in one folder each, whole or not at all.
//!
//! `checkpoints/000000128000/` of a run holds `state.safetensors` and the manifest `checkpoint.json`, with the
//! checksums of both; `checkpoints/networks/` holds the modules that the state is put into, and `networks.json` with
//! their checksums. `store` and `manifest` handle the files; their content is `record` (counters) and `tensors`, which
//! a trainer gives and takes (`train/state.rs`). `saving` writes a checkpoint during a run, `resume` finds where to go
//! on, `rollback` goes back there.

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
