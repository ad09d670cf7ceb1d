//! Which checkpoint a run has last written or gone back to.

use std::path::Path;
use std::time::Instant;

use super::store::Checkpoints;
use crate::run::evaluator::Best;

/// The checkpoints of a run that goes on.
pub(in crate::run) struct Keeper {
    pub store: Checkpoints,
    /// When the newest was written or gone back to.
    pub last: Instant,
    /// Images of the newest.
    pub saved_images: u64,
    /// The best snapshot that it names.
    pub saved_best: Option<Best>,
    /// How often the run has gone back.
    pub rollbacks: u64,
}

impl Keeper {
    /// Of a run that has written none yet, and keeps the newest `keep`.
    pub fn new(folder: &Path, keep: usize) -> Self {
        let store = Checkpoints::in_run(folder, keep);
        Self { store, last: Instant::now(), saved_images: 0, saved_best: None, rollbacks: 0 }
    }

    /// The newest is now of so many images and names this best snapshot.
    pub fn is_at(&mut self, seen_images: u64, best: Option<Best>) {
        (self.last, self.saved_images, self.saved_best) = (Instant::now(), seen_images, best);
    }
}
