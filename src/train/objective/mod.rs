//! The losses that the networks are trained by. An objective gets the logits that belong to one step of one network and
//! returns a loss for every image; it knows neither networks nor images.
//!
//! A new objective is a file in this folder that implements [`Objective`], and a name for it in
//! `src/config/options.rs`.

mod margin;
mod paired;

use std::fmt;

use tch::Tensor;

pub use margin::{AdversarialLoss, Rooted};
pub use paired::Paired;

/// The logits of one step, or what belongs to each of them, as its sign; each [N] and on the device. Objectives that compare
/// real and generated images get both, all others one at a time.
#[derive(Debug, Default)]
pub struct Logits {
    /// D(A(G(z))), of generated images.
    pub fakes: Option<Tensor>,
    /// D(A(x)), of real images.
    pub reals: Option<Tensor>,
}

impl Logits {
    /// Returns the same values, cut off from the graph.
    pub fn detach(&self) -> Self {
        let detach = |logits: &Option<Tensor>| logits.as_ref().map(Tensor::detach);
        Self { fakes: detach(&self.fakes), reals: detach(&self.reals) }
    }
}

/// The images whose logits are computed in one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Generated images.
    Fakes,
    /// Real images.
    Reals,
    /// Generated and real images, as many of each.
    Both,
}

impl Seen {
    /// Whether generated images are among them.
    pub fn fakes(self) -> bool {
        self != Self::Reals
    }

    /// Whether real images are among them.
    pub fn reals(self) -> bool {
        self != Self::Fakes
    }
}

/// An adversarial objective: the losses of both networks.
pub trait Objective: fmt::Debug + Send + Sync {
    /// Whether the loss of an image depends on logits of the other kind too, as relativistic losses do. Otherwise the
    /// discriminator's step takes generated and real images one after the other, so that only one graph is in memory,
    /// and the generator's step computes no logits of real images.
    fn is_paired(&self) -> bool {
        false
    }

    /// Returns the generator's loss of every image, [N].
    fn generator(&self, logits: &Logits) -> Tensor;

    /// Returns the discriminator's loss of every image, [N], or of every pair where both kinds are given.
    fn discriminator(&self, logits: &Logits) -> Tensor;

    /// Returns how strongly the generator's step pushes each logit, |dL/dlogit|, for the statistics.
    fn generator_slope(&self, logits: &Logits) -> Tensor;

    /// Returns how strongly the discriminator's step pushes each logit, |dL/dlogit|.
    fn discriminator_slope(&self, logits: &Logits) -> Tensor;

    /// Returns for every image whether the discriminator takes it for real: 1, -1, or 0 where it is undecided. The augmentation and
    /// the warnings of overfitting go by it.
    fn signs(&self, logits: &Logits) -> Logits {
        let sign = |logits: &Option<Tensor>| logits.as_ref().map(Tensor::sign);
        Logits { fakes: sign(&logits.fakes), reals: sign(&logits.reals) }
    }
}

/// Lists the graphs of a discriminator's step, which are built one after the other.
pub fn discriminator_graphs(objective: &dyn Objective) -> &'static [Seen] {
    if objective.is_paired() { &[Seen::Both] } else { &[Seen::Fakes, Seen::Reals] }
}

/// Says which images a generator's step judges.
pub fn generator_graph(objective: &dyn Objective) -> Seen {
    if objective.is_paired() { Seen::Both } else { Seen::Fakes }
}
