//! Loads the pictures of a run for training.

use std::sync::Arc;

use anyhow::Result;

use crate::config::RunSettings;
use crate::data::{Dataset, Loader, Sampler};
use crate::tensor::labels::ClassDistribution;
use crate::tensor::seed::{Stream, derive};

/// The number of decoded batches that wait for training.
const PREFETCH: usize = 3;

/// Loads batches from the place in the order of the pictures that `seen_images` leads to.
pub(super) fn loader(settings: &RunSettings, dataset: &Arc<Dataset>, seen_images: u64) -> Result<Loader> {
    let order = Sampler::new(dataset.len(), settings.xflip, derive(settings.train.seed, 0, Stream::Sampler, 0));
    Loader::new(Arc::clone(dataset), order, settings.train.batch as usize, seen_images, PREFETCH)
}

/// Returns how often a data set has each class; None without labels.
pub(super) fn classes_of(dataset: &Dataset) -> Option<ClassDistribution> {
    ClassDistribution::new(&dataset.labels()?.counts())
}
