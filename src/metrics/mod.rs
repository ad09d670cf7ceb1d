//! How near pictures of a generator come to real ones: formulas over features, the network that makes
//! features of pictures, and the pipeline between them. Nothing here knows the training loop.

mod cache;
mod collect;
mod compute;
pub mod detector;
mod detectors;
pub mod evaluate;
pub mod feature_set;
pub mod formula;
pub mod frechet;
pub mod inception_score;
pub mod kernel;
pub mod manifold;
pub mod moments;
pub mod name;
pub mod outcome;
pub mod path_length;
mod registry;

pub use cache::FeatureCache;
pub use detector::Detector;
pub use detectors::Detectors;
pub use evaluate::{EvaluateSettings, Evaluation, Fakes, RealPictures};
pub use feature_set::FeatureSet;
pub use name::{Metric, parse_list};
pub use outcome::Outcome;
