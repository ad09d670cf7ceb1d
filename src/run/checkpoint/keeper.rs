//! The checkpoint that a run has last written or gone back to.

use std::path::Path;
use std::time::Instant;

use super::store::Checkpoints;
use crate::run::evaluator::Best;

/// The checkpoints of a running run, and which one is its newest.
pub(in crate::run) struct Keeper {
    pub store: Checkpoints,
    /// Time at which the newest was written or gone back to.
    pub last: Instant,
    /// Images that the newest has seen.
    pub saved_images: u64,
    /// The best snapshot that the newest checkpoint names.
    pub saved_best: Option<Best>,
    /// Number of times that the run has gone back.
    pub rollbacks: u64,
}

impl Keeper {
    /// Begins without a checkpoint; the newest `keep` will be kept.
    pub fn new(folder: &Path, keep: usize) -> Self {
        let store = Checkpoints::in_run(folder, keep);
        Self { store, last: Instant::now(), saved_images: 0, saved_best: None, rollbacks: 0 }
    }

    /// Records that the newest checkpoint has so many images and names this best snapshot.
    pub fn is_at(&mut self, seen_images: u64, best: Option<Best>) {
        (self.last, self.saved_images, self.saved_best) = (Instant::now(), seen_images, best);
    }
}
