//! How near pictures of a generator come to real ones: formulas over features, the network that makes
//! features of pictures, and the pipeline between them. Nothing here knows the training loop.

pub mod frechet;
pub mod inception_score;
pub mod kernel;
pub mod manifold;
pub mod moments;
pub mod path_length;
