//! Metrics: how near pictures of a generator come to real ones. A detector (a network) turns pictures into features, a
//! [`Formula`](formula::Formula) turns the features of both sides into numbers, and [`evaluate`] leads from pictures to
//! results. Nothing here knows the training loop.

mod by_rank;
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
