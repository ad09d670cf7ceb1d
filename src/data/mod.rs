//! Reads folders and zips of pictures and their classes, checks and converts them, and draws batches. It handles bytes
//! only; the caller makes tensors.

mod archive;
mod colour;
pub mod convert;
pub mod dataset;
pub mod decode;
pub mod folder;
pub mod formats;
pub mod labels;
pub mod loader;
pub mod passed_over;
pub mod pictures;
mod room;
pub mod sampler;

pub use convert::{ConvertOptions, Findings, convert};
pub use dataset::{Dataset, DatasetOptions, ScanReport, Subset};
pub use labels::{LabelChoice, Labels};
pub use loader::{Batch, Loader, Share};
pub use pictures::Pictures;
pub use sampler::Sampler;
