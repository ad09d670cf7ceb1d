//! The properties of the networks that defaults and checks need.

use super::MemoryFacts;
use crate::model::provenance::RANDOM_SOURCE;
use crate::model::{Discriminator, Generator};
use crate::tensor::device;

/// The properties of a pair that defaults and ranges of options depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Height and width of the images.
    pub resolution: u64,
    /// Group size of the discriminator's minibatch standard deviation: a batch is a multiple of it, or at most as
    /// large.
    pub mbstd_group_size: u64,
    /// Whether the generator has the mapping and synthesis of the contract; without them path length
    /// and style mixing are off.
    pub has_ws: bool,
    /// Whether the pair has the random weights of `rootgan new`: training from scratch, not a transfer.
    pub is_random: bool,
    /// Whether both networks can compute in 16 bits.
    pub has_precision: bool,
    /// Whether both networks are on a GPU.
    pub on_cuda: bool,
    /// Number of processes that train together; a batch is shared among them.
    pub processes: u64,
    /// The sizes that decide how much memory training takes.
    pub memory: MemoryFacts,
}

impl NetworkFacts {
    /// Makes the facts of plain networks of a resolution, for what depends on nothing else.
    pub(super) fn of_resolution(resolution: u64) -> Self {
        Self {
            resolution,
            mbstd_group_size: 1,
            has_ws: true,
            is_random: false,
            has_precision: false,
            on_cuda: false,
            processes: 1,
            memory: MemoryFacts::default(),
        }
    }

    /// Reads the properties of a loaded pair.
    pub fn from_pair(g: &Generator, d: &Discriminator) -> Self {
        Self {
            resolution: g.img_resolution() as u64,
            mbstd_group_size: d.mbstd_group_size() as u64,
            has_ws: g.spec().is_some(),
            is_random: g.script.provenance()["source"] == RANDOM_SOURCE,
            has_precision: g.script.has_method("set_precision") && d.script.has_method("set_precision"),
            on_cuda: g.script.device.is_cuda(),
            processes: 1,
            memory: MemoryFacts::from_pair(g, d, device::gpu(g.script.device).and_then(|gpu| gpu.bytes())),
        }
    }

    /// Returns the images of a batch that each process computes, at least 1.
    pub(super) fn share(&self, batch: u64) -> u64 {
        (batch / self.processes.max(1)).max(1)
    }

    /// Returns the number of pixels of one image.
    pub(super) fn pixels(&self) -> f64 {
        (self.resolution * self.resolution) as f64
    }
}
