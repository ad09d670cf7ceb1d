//! Latents and the pictures that a generator makes of them: seeds, truncation, classes, batches.

pub mod picture_source;
pub mod seeds;
