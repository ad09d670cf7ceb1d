//! Points of curves over the images seen.

use std::collections::BTreeMap;

use serde::Serialize;

/// The means of one tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TickPoint {
    /// Thousands of images seen.
    pub kimg: f64,
    /// Means by the name of the statistic.
    pub means: BTreeMap<String, f64>,
    /// The largest slope of the discriminator's loss.
    pub largest_slope: Option<f64>,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricPoint {
    /// Thousands of images seen.
    pub kimg: f64,
    /// The value.
    pub value: f64,
}
