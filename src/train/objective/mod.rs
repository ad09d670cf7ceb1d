//! What the networks are trained towards. An objective gets the logits that belong to one step of one network and
//! returns a loss for every image; it knows neither networks nor images.
//!
//! A new one is a file in this folder that implements [`Objective`], and a name for it in `src/config/options.rs`.

mod margin;

use std::fmt;

use tch::Tensor;

pub use margin::{AdversarialLoss, Rooted};

/// The logits of one step, each [N] and on the device. Objectives that compare real and generated images get both, all
/// others one at a time.
#[derive(Debug, Default)]
pub struct Logits {
    /// D(A(G(z))), of generated images.
    pub fakes: Option<Tensor>,
    /// D(A(x)), of real images.
    pub reals: Option<Tensor>,
}

impl Logits {
    /// The same values, cut off from the graph.
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
    /// As many of both.
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

/// An adversarial objective.
pub trait Objective: fmt::Debug + Send + Sync {
    /// Whether the loss of an image depends on logits of the other kind too, as relativistic losses do. Otherwise the
    /// discriminator's step takes generated and real images one after the other, so that only one graph is in memory,
    /// and the generator's step computes no logits of real images.
    fn is_paired(&self) -> bool {
        false
    }

    /// The generator's loss of every image, [N].
    fn generator(&self, logits: &Logits) -> Tensor;

    /// The discriminator's loss of every image, [N]; where both kinds are given, of every pair.
    fn discriminator(&self, logits: &Logits) -> Tensor;

    /// How strongly each logit is pushed in the generator's step, |dL/dlogit|, for the statistics.
    fn generator_slope(&self, logits: &Logits) -> Tensor;

    /// The same in the discriminator's step.
    fn discriminator_slope(&self, logits: &Logits) -> Tensor;
}

/// The graphs of a discriminator's step, one after the other.
pub fn discriminator_graphs(objective: &dyn Objective) -> &'static [Seen] {
    if objective.is_paired() { &[Seen::Both] } else { &[Seen::Fakes, Seen::Reals] }
}

/// The graph of a generator's step.
pub fn generator_graph(objective: &dyn Objective) -> Seen {
    if objective.is_paired() { Seen::Both } else { Seen::Fakes }
}
