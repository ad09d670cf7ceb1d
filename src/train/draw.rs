//! The inputs of the phases: reals with their labels, and what one call of the generator draws at random.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::model::{Generator, NoiseMode};
use crate::tensor::labels::{ClassDistribution, one_hot};

/// Real images with their labels.
#[derive(Debug)]
pub struct Reals {
    /// [N, C, R, R] in [-1, 1].
    pub images: Tensor,
    /// c [N, c_dim], for conditional networks.
    pub c: Option<Tensor>,
}

impl Reals {
    /// Takes images without labels.
    pub fn unlabelled(images: Tensor) -> Self {
        Self { images, c: None }
    }

    /// Returns views of `count` images from `first` on.
    pub fn narrow(&self, first: u64, count: u64) -> Self {
        let part = |tensor: &Tensor| tensor.narrow(0, first as i64, count as i64);
        Self { images: part(&self.images), c: self.c.as_ref().map(part) }
    }
}

/// A second style for the later rows of ws.
#[derive(Debug)]
pub struct Mixing {
    /// z [N, z_dim] of the second style.
    pub z: Tensor,
    /// The first row of ws that it takes, 1 to num_ws - 1.
    pub cutoff: i64,
}

/// The random part of one call of the generator.
#[derive(Debug)]
pub struct Draw {
    /// z [N, z_dim].
    pub z: Tensor,
    /// Labels c [N, c_dim] of a conditional generator.
    pub c: Option<Tensor>,
    /// Style mixing, where it happens.
    pub mixing: Option<Mixing>,
    /// The source of the per-pixel noise.
    pub noise: NoiseMode,
}

impl Draw {
    /// Draws for `n` images: z from libtorch's seeded generator, the decision about mixing (with this probability, one
    /// cutoff for all, uniform in [1, num_ws)) and the classes from `rng`.
    pub fn sample(
        g: &Generator,
        classes: Option<&ClassDistribution>,
        n: u64,
        mixing_probability: f64,
        rng: &mut impl Rng,
    ) -> Self {
        let device = g.script.device;
        let z = normal(n, g.z_dim(), device);
        // Both numbers are drawn whatever the probability, so that it does not shift later draws.
        let (chance, place): (f64, f64) = (rng.random(), rng.random());
        let mixing = g.spec().filter(|_| chance < mixing_probability).map(|spec| {
            let cutoff = 1 + (place * (spec.num_ws - 1) as f64) as i64;
            Mixing { z: normal(n, g.z_dim(), device), cutoff }
        });
        let c = classes.map(|classes| {
            let drawn: Vec<u32> = (0..n).map(|_| classes.sample(rng)).collect();
            one_hot(&drawn, classes.c_dim(), device)
        });
        Self { z, c, mixing, noise: NoiseMode::Random }
    }
}

/// A source of draws for the micro-batches of one phase.
pub(super) struct PhaseDraws<'a> {
    pub g: &'a Generator,
    pub classes: Option<&'a ClassDistribution>,
    /// Probability of mixing two styles.
    pub mixing: f64,
    pub rng: ChaCha8Rng,
}

impl PhaseDraws<'_> {
    /// Draws for the next `n` images.
    pub(super) fn draw(&mut self, n: u64) -> Draw {
        Draw::sample(self.g, self.classes, n, self.mixing, &mut self.rng)
    }
}

fn normal(n: u64, z_dim: i64, device: Device) -> Tensor {
    Tensor::randn([n as i64, z_dim], (Kind::Float, device))
}
