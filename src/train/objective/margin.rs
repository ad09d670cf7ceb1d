//! The objectives that give every logit a loss of its own, as functions of a margin: rooted logistic and logistic.
//!
//! A margin `z` is a logit signed so that larger is better: `D(G(w))` for the generator, `D(x)` and
//! `-D(G(w))` for the discriminator.
//!
//! # Source
//! Wang, Veluswami, Mishra, Ravi, "Accelerated Neural Network Training with Rooted Logistic
//! Objectives", arXiv 2310.03890.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::{Logits, Objective};

/// An objective that gives every margin a loss of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdversarialLoss {
    /// `log(1 + exp(-z))`, the non-saturating logistic loss of StyleGAN2.
    Logistic,
    /// `k (1 + exp(-z))^(1/k)`.
    Rooted(Rooted),
}

/// The rooted logistic loss of one k, as it stands or continued linearly beyond a slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rooted {
    k: f64,
    cap: Option<SlopeCap>,
}

/// A straight line of slope `-slope` below `margin`, on which the loss goes on: convex, and C1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SlopeCap {
    slope: f64,
    margin: f64,
}

impl Rooted {
    /// Makes the loss of order `k`, at least 1; `slope_cap`, where given, bounds |dL/dz|.
    ///
    /// # Errors
    /// The order k is below 1 or not finite, or the cap is not above 0.
    pub fn new(k: f64, slope_cap: Option<f64>) -> Result<Self> {
        ensure!(
            k.is_finite() && k >= 1.0,
            "the rooted loss needs a finite k of at least 1, not {k}; the default is 20"
        );
        let cap = match slope_cap {
            None => None,
            Some(slope) => {
                ensure!(
                    slope.is_finite() && slope > 0.0,
                    "the slope cap must be finite and above 0, not {slope}; leave it out for no cap"
                );
                Some(SlopeCap { slope, margin: margin_of_slope(k, slope) })
            }
        };
        Ok(Self { k, cap })
    }

    /// Returns the order k of the root.
    pub fn k(&self) -> f64 {
        self.k
    }
}

impl AdversarialLoss {
    /// Returns the loss of every margin.
    ///
    /// Rooted: `k (1 + exp(-z))^(1/k)`, computed as `k exp(softplus(-z) / k)`, which is finite in
    /// float32 down to `z = -k (88.72 - ln k)`. Logistic: `softplus(-z)`.
    ///
    /// # Shapes
    /// `margins` of any shape -> the same shape, at least k (rooted) or 0 (logistic).
    pub fn of(&self, margins: &Tensor) -> Tensor {
        match self {
            Self::Logistic => softplus_of_negative(margins),
            Self::Rooted(rooted) => rooted.of(margins),
        }
    }

    /// Returns the loss less its infimum, so that losses of different k can be compared:
    /// `k (exp(softplus(-z) / k) - 1)`, which tends to the logistic loss as k grows.
    pub fn excess(&self, margins: &Tensor) -> Tensor {
        match self {
            Self::Logistic => softplus_of_negative(margins),
            Self::Rooted(Rooted { k, cap }) => {
                let inner = |z: &Tensor| (softplus_of_negative(z) / *k).expm1() * *k;
                continued(margins, *cap, inner)
            }
        }
    }

    /// Returns |dL/dz| of every margin: `sigmoid(-z) exp(softplus(-z) / k)`, at most the cap.
    ///
    /// # Shapes
    /// The shapes of [`of`](Self::of). No graph is needed.
    pub fn slope(&self, margins: &Tensor) -> Tensor {
        match self {
            Self::Logistic => (-margins).sigmoid(),
            Self::Rooted(Rooted { k, cap }) => {
                let z = cap.map_or_else(|| margins.shallow_clone(), |cap| margins.clamp_min(cap.margin));
                (-&z).sigmoid() * (softplus_of_negative(&z) / *k).exp()
            }
        }
    }
}

/// Every logit has a margin, and every margin a loss: the generator wants `D(fake)` large, the discriminator `D(real)` and
/// `-D(fake)`.
impl Objective for AdversarialLoss {
    fn generator(&self, logits: &Logits) -> Tensor {
        self.of(fakes(logits))
    }

    fn discriminator(&self, logits: &Logits) -> Tensor {
        sum_of_halves(logits, |margins| self.of(margins))
    }

    fn generator_slope(&self, logits: &Logits) -> Tensor {
        self.slope(fakes(logits))
    }

    fn discriminator_slope(&self, logits: &Logits) -> Tensor {
        let margins: Vec<Tensor> = discriminator_margins(logits).collect();
        self.slope(&Tensor::cat(&margins, 0))
    }
}

fn fakes(logits: &Logits) -> &Tensor {
    logits.fakes.as_ref().expect("the generator's step judges generated images")
}

fn discriminator_margins(logits: &Logits) -> impl Iterator<Item = Tensor> {
    let of_fakes = logits.fakes.as_ref().map(|logits| -logits);
    of_fakes.into_iter().chain(logits.reals.as_ref().map(Tensor::shallow_clone))
}

fn sum_of_halves(logits: &Logits, loss: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let losses = discriminator_margins(logits).map(|margins| loss(&margins));
    losses.reduce(|sum, losses| sum + losses).expect("the discriminator's step judges images")
}

impl Rooted {
    fn of(&self, margins: &Tensor) -> Tensor {
        continued(margins, self.cap, |z| (softplus_of_negative(z) / self.k).exp() * self.k)
    }
}

/// Returns `loss(z)`, continued below the cap's margin m as `loss(m) + slope (m - z)`.
fn continued(z: &Tensor, cap: Option<SlopeCap>, loss: impl Fn(&Tensor) -> Tensor) -> Tensor {
    match cap {
        None => loss(z),
        Some(SlopeCap { slope, margin }) => loss(&z.clamp_min(margin)) + (margin - z).relu() * slope,
    }
}

/// Returns `log(1 + exp(-z))`, exact with both derivatives for every z.
///
/// libtorch's own softplus turns linear above 20, where its second derivative vanishes; and with
/// `abs` the derivatives at 0 would be those of a kink that the sum does not have.
fn softplus_of_negative(z: &Tensor) -> Tensor {
    let negative = -z;
    let size = z.where_self(&z.ge(0.0), &negative);
    negative.relu() + (-size).exp().log1p()
}

/// Finds the margin at which `|dL/dz| = sigmoid(-z) exp(softplus(-z) / k)` is `slope`; |dL/dz| falls with z.
fn margin_of_slope(k: f64, slope: f64) -> f64 {
    let log_slope = |z: f64| {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        // log sigmoid(-z) = -softplus(z)
        -softplus(z) + softplus(-z) / k
    };
    // k = 1 never falls below exp(-z): the slope reaches any value in this range.
    let (mut low, mut high) = (-1e6, 1e6);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if log_slope(middle) > slope.ln() { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn rooted(k: f64, cap: Option<f64>) -> AdversarialLoss {
        AdversarialLoss::Rooted(Rooted::new(k, cap).unwrap())
    }

    fn value(loss: &AdversarialLoss, z: f64) -> f64 {
        loss.of(&Tensor::from(z)).double_value(&[])
    }

    fn derivative(loss: &AdversarialLoss, z: f64) -> f64 {
        let z = Tensor::from(z).set_requires_grad(true);
        let out = loss.of(&z);
        Tensor::run_backward(&[out], &[&z], false, false)[0].double_value(&[])
    }

    #[test]
    fn at_zero_the_loss_is_k_times_the_root_of_two() {
        for k in [1.0, 2.0, 5.0] {
            assert!((value(&rooted(k, None), 0.0) - k * 2f64.powf(1.0 / k)).abs() < 1e-14);
        }
    }

    #[test]
    fn with_k_one_it_is_one_plus_exp() {
        assert!((value(&rooted(1.0, None), -3.0) - (1.0 + 3f64.exp())).abs() < 1e-12);
    }

    #[test]
    fn the_excess_tends_to_the_logistic_loss() {
        let z = Tensor::from_slice(&[-3.0, 0.0, 2.0]);
        let (far, logistic) = (rooted(1e7, None).excess(&z), AdversarialLoss::Logistic.of(&z));
        assert!((far - logistic).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn the_slope_is_the_derivative() {
        for loss in [rooted(2.0, None), rooted(2.0, Some(3.0)), AdversarialLoss::Logistic] {
            for z in [-30.0, -5.0, -1.0, 0.0, 1.0, 5.0] {
                let slope = loss.slope(&Tensor::from(z)).double_value(&[]);
                let expected = -derivative(&loss, z);
                assert!((slope - expected).abs() <= 1e-12 * expected, "{loss:?} at {z}");
            }
        }
    }

    #[test]
    fn beyond_the_cap_the_loss_is_a_line_that_touches_it() {
        let (free, capped) = (rooted(2.0, None), rooted(2.0, Some(3.0)));
        let margin = margin_of_slope(2.0, 3.0);
        assert!((derivative(&free, margin) + 3.0).abs() < 1e-9);
        assert_eq!(value(&free, margin + 0.5), value(&capped, margin + 0.5));
        let line = value(&free, margin) + 3.0 * 10.0;
        assert!((value(&capped, margin - 10.0) - line).abs() < 1e-9);
        assert!((derivative(&capped, margin - 10.0) + 3.0).abs() < 1e-12);
    }

    #[test]
    fn float32_stays_finite_as_far_as_the_value_fits() {
        for k in [2.0, 5.0, 20.0] {
            let edge = -k * (88.7 - f64::ln(k));
            let z = Tensor::from(edge as f32).set_requires_grad(true);
            let out = rooted(k, Some(1e30)).of(&z);
            assert_eq!(out.kind(), Kind::Float);
            let free = rooted(k, None).of(&z);
            let slope = &Tensor::run_backward(&[&free], &[&z], false, false)[0];
            for tensor in [&out, &free, slope] {
                assert!(tensor.double_value(&[]).is_finite(), "k = {k}");
            }
        }
    }

    #[test]
    fn k_below_one_is_refused_with_the_reason() {
        let message = Rooted::new(0.0, None).unwrap_err().to_string();
        assert!(message.contains("at least 1, not 0"), "{message}");
        assert!(Rooted::new(2.0, Some(0.0)).is_err());
    }
}
