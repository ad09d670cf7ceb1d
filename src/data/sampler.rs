//! The order of the training pictures: an endless stream of shuffled epochs.
//!
//! The picture at a position depends on nothing but the position, so resuming needs no state.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// An endless stream of items. In every epoch each picture comes once, or with mirroring twice: once plain and once
/// flipped, at unrelated places.
#[derive(Clone, Debug)]
pub struct Sampler {
    len: usize,
    items: usize,
    /// Seed of the shuffling; None: the order of the names.
    seed: Option<u64>,
    epoch: Option<u64>,
    order: Vec<usize>,
}

impl Sampler {
    /// Makes a stream over `len` pictures, with their mirror images if `xflip`.
    ///
    /// # Panics
    /// If `len` is zero.
    pub fn new(len: usize, xflip: bool, seed: u64) -> Self {
        assert!(len > 0, "no pictures to draw from");
        let items = if xflip { 2 * len } else { len };
        Self { len, items, seed: Some(seed), epoch: None, order: (0..items).collect() }
    }

    /// Makes a stream of the pictures in their own order, over and over.
    ///
    /// # Panics
    /// If `len` is zero.
    pub fn in_order(len: usize) -> Self {
        Self { seed: None, ..Self::new(len, false, 0) }
    }

    /// Returns the picture at `position` (counted in images from 0), `0..len`, and whether it is flipped.
    ///
    /// Positions may come in any order; going on within an epoch is cheap, entering one shuffles it.
    pub fn item(&mut self, position: u64) -> (usize, bool) {
        let items = self.items as u64;
        self.enter(position / items);
        let item = self.order[(position % items) as usize];
        (item % self.len, item >= self.len)
    }

    fn enter(&mut self, epoch: u64) {
        let Some(own_seed) = self.seed.filter(|_| self.epoch != Some(epoch)) else {
            return;
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&own_seed.to_le_bytes());
        seed[8..16].copy_from_slice(&epoch.to_le_bytes());
        // Shuffling starts from the sorted order, as the result must not depend on epochs seen before.
        self.order.clear();
        self.order.extend(0..self.items);
        self.order.shuffle(&mut ChaCha8Rng::from_seed(seed));
        self.epoch = Some(epoch);
    }
}
