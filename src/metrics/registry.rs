//! Lists every kind of metric; a new kind joins with a line in [`FORMULAS`].

use super::formula::Formula;
use super::frechet::Frechet;
use super::inception_score::InceptionScore;
use super::kernel::Kernel;
use super::manifold::{DensityAndCoverage, PrecisionAndRecall};
use super::path_length::PathLength;

/// The formulas, in the order in which names are looked up.
pub const FORMULAS: [&dyn Formula; 6] =
    [&Frechet, &Kernel, &PrecisionAndRecall, &DensityAndCoverage, &InceptionScore, &PathLength];
