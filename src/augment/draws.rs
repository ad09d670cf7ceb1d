//! The random numbers of the augmentation, one after the other from a seeded stream on the host, so that every device
//! and every resumed run augments alike. For tests they can all be the same percentile of their distribution.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::Tensor;

/// The source of the random numbers.
#[derive(Clone)]
pub enum Draws {
    /// Numbers come from a seeded stream.
    Random(Box<ChaCha8Rng>),
    /// Every transform happens, and every number is this percentile (0 to 1) of its distribution.
    Percentile(f64),
}

impl Draws {
    /// Whether a transform of this probability happens.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        match self {
            Self::Random(rng) => rng.random::<f64>() < probability,
            Self::Percentile(_) => true,
        }
    }

    /// Draws a number that is uniform in [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        match self {
            Self::Random(rng) => rng.random(),
            Self::Percentile(percentile) => *percentile,
        }
    }

    /// Draws a number that is uniform in [-bound, bound).
    pub(super) fn symmetric(&mut self, bound: f64) -> f64 {
        (2.0 * self.uniform() - 1.0) * bound
    }

    /// Draws a normal number with this standard deviation.
    pub(super) fn normal(&mut self, deviation: f64) -> f64 {
        deviation
            * match self {
                Self::Random(rng) => rng.sample::<f64, _>(StandardNormal),
                // The percentile is taken without the factor sqrt(2): that is the convention of the golden numbers.
                Self::Percentile(percentile) => Tensor::from(2.0 * *percentile - 1.0).erfinv().double_value(&[]),
            }
    }

    /// Draws 2 to the power of a normal number with this standard deviation.
    pub(super) fn log2_normal(&mut self, deviation: f64) -> f64 {
        self.normal(deviation).exp2()
    }

    /// Draws one of 0 to n - 1.
    pub(super) fn choice(&mut self, n: u32) -> f64 {
        (self.uniform() * f64::from(n)).floor()
    }

    /// Whether numbers are percentiles.
    pub(super) fn is_percentile(&self) -> bool {
        matches!(self, Self::Percentile(_))
    }
}
