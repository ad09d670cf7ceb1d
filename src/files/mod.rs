//! Files: whole or not at all when written, bounded when read, with locks and checksums. Nothing here knows a tensor.

pub mod atomic;
pub mod bounded;
pub mod cache;
pub mod checksum;
pub mod json_lines;
pub mod lock;
pub mod memory_file;
pub mod npz;
pub mod opening;
pub mod record;
