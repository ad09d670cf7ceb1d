//! Latents and the pictures that a generator makes of them: seeds, truncation, classes, batches; ways between latents, mixtures
//! and directions in W, pictures projected into W, and blends of two generators.

pub mod blend;
pub mod directions;
pub mod interpolation;
pub mod layers;
pub mod mixing;
mod noise_maps;
pub mod picture_distance;
pub mod picture_source;
pub mod projection;
pub mod seeds;
pub mod w_samples;
pub mod walk;
pub mod ws_file;
