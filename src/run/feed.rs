//! Loads the pictures of a run for training.

use std::sync::Arc;

use anyhow::Result;

use crate::config::RunSettings;
use crate::data::{Batch, Dataset, Loader, Sampler, Share};
use crate::tensor::images::from_bytes;
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::seed::{Stream, derive};
use crate::tensor::world::World;
use crate::train::{Reals, Trainer};

/// The number of decoded batches that wait for training.
const PREFETCH: usize = 3;

/// Loads this process's share of every batch from the place in the order of the pictures that `seen_images` leads to.
pub(super) fn loader(
    settings: &RunSettings,
    dataset: &Arc<Dataset>,
    seen_images: u64,
    world: &World,
) -> Result<Loader> {
    let order = Sampler::new(dataset.len(), settings.xflip, derive(settings.train.seed, 0, Stream::Sampler, 0));
    let batch = settings.train.batch;
    let share = Share { images: (batch / world.size()) as usize, every: batch };
    let first = seen_images + world.rank() * (batch / world.size());
    Loader::of_share(Arc::clone(dataset), order, share, first, PREFETCH)
}

/// Makes tensors of a process's share of a batch.
pub(super) fn reals_of(batch: &Batch, trainer: &Trainer, dataset: &Dataset) -> Reals {
    let (g, side) = (&trainer.networks.g, i64::from(dataset.resolution()));
    let (device, channels) = (g.script.device, i64::from(dataset.channels()));
    let images = (trainer.settings().batch / trainer.world.size()) as i64;
    let c = batch.classes.as_ref().map(|classes| one_hot(classes, g.c_dim(), device));
    Reals { images: from_bytes(&batch.pixels, [images, channels, side, side], device), c }
}

/// Returns how often a data set has each class; None without labels.
pub(super) fn classes_of(dataset: &Dataset) -> Option<ClassDistribution> {
    ClassDistribution::new(&dataset.labels()?.counts())
}
