//! Files: whole or not at all, and pictures on their way to disk. Nothing here knows a tensor.

pub mod atomic;
pub mod available;
pub mod bounded;
pub mod checkpoint;
pub mod confine;
pub mod grid;
pub mod lock;
pub mod memory_file;
pub mod npz;
pub mod numbering;
pub mod opening;
pub mod pixels;
pub mod plot;
pub mod record;
pub mod snapshot;
