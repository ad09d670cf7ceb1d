//! The relativistic form of a loss: a real and a generated image are judged as a pair, by the difference of their logits.
//!
//! # Source
//! Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard GAN", arXiv 1807.00734; with
//! gradient penalties on both kinds of images: Huang et al., arXiv 2501.05441.

use tch::Tensor;

use super::{AdversarialLoss, Logits, Objective};

/// A loss f of pairs: with the margin `m = D(x) - D(G(w))`, the discriminator's loss is `f(m)`, the generator's `f(-m)`.
///
/// Pairs are made by position in the micro-batch. Only differences of logits count, so what is the same for every image,
/// such as the last bias of the discriminator, has no gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired(pub AdversarialLoss);

impl Objective for Paired {
    fn is_paired(&self) -> bool {
        true
    }

    fn generator(&self, logits: &Logits) -> Tensor {
        self.0.of(&-margins(logits))
    }

    fn discriminator(&self, logits: &Logits) -> Tensor {
        self.0.of(&margins(logits))
    }

    fn generator_slope(&self, logits: &Logits) -> Tensor {
        self.0.slope(&-margins(logits))
    }

    fn discriminator_slope(&self, logits: &Logits) -> Tensor {
        self.0.slope(&margins(logits))
    }

    /// Returns the signs of each kind's logits less the mean of the other kind's, since the sign of `D(x)` alone says nothing.
    fn signs(&self, logits: &Logits) -> Logits {
        let (reals, fakes) = both(logits);
        let above = |logits: &Tensor, others: &Tensor| Some((logits - others.mean(others.kind())).sign());
        Logits { fakes: above(fakes, reals), reals: above(reals, fakes) }
    }
}

/// Returns `D(x) - D(G(w))` of every pair, [N].
fn margins(logits: &Logits) -> Tensor {
    let (reals, fakes) = both(logits);
    reals - fakes
}

fn both(logits: &Logits) -> (&Tensor, &Tensor) {
    let reals = logits.reals.as_ref().expect("a paired objective is given real images");
    (reals, logits.fakes.as_ref().expect("a paired objective is given generated images"))
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::train::objective::Rooted;

    /// The pairs of the tests: real logits, then generated ones.
    const PAIRS: [(f64, f64); 7] =
        [(0.0, 0.0), (1.5, -0.5), (-2.0, 3.0), (10.0, 10.0), (-0.001, 0.0), (8.0, -8.0), (-12.0, 12.0)];

    /// Computes `k (1 + exp(-m))^(1/k)` literally, its slope and its curvature; without k the logistic loss.
    fn literal(k: Option<f64>, m: f64) -> (f64, f64, f64) {
        let s = 1.0 / (1.0 + (-m).exp());
        match k {
            None => ((1.0 + (-m).exp()).ln(), s - 1.0, s * (1.0 - s)),
            Some(k) => {
                let root = (1.0 + (-m).exp()).powf(1.0 / k);
                (k * root, -(1.0 - s) * root, root * (s * (1.0 - s) + (1.0 - s) * (1.0 - s) / k))
            }
        }
    }

    fn losses() -> [(Option<f64>, Paired); 4] {
        let rooted = |k| (Some(k), Paired(AdversarialLoss::Rooted(Rooted::new(k, None).unwrap())));
        [(None, Paired(AdversarialLoss::Logistic)), rooted(2.0), rooted(5.0), rooted(20.0)]
    }

    fn logits(kind: Kind) -> (Tensor, Tensor) {
        let column = |pick: fn(&(f64, f64)) -> f64| {
            Tensor::from_slice(&PAIRS.iter().map(pick).collect::<Vec<_>>()).to_kind(kind).set_requires_grad(true)
        };
        (column(|pair| pair.0), column(|pair| pair.1))
    }

    fn assert_close(found: &Tensor, expected: &[f64], tolerance: f64, what: &str) {
        for (i, expected) in expected.iter().enumerate() {
            let found = found.double_value(&[i as i64]);
            let scale = expected.abs().max(1e-3);
            assert!((found - expected).abs() <= tolerance * scale, "{what} of pair {i}: {found}, not {expected}");
        }
    }

    /// Compares values and both derivatives by both logits with the literal formulas.
    #[test]
    fn losses_of_pairs_are_those_of_their_differences() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5)] {
            for (k, paired) in losses() {
                for of_generator in [false, true] {
                    let (reals, fakes) = logits(kind);
                    let both = Logits { reals: Some(reals.shallow_clone()), fakes: Some(fakes.shallow_clone()) };
                    let (loss, sign) = match of_generator {
                        true => (paired.generator(&both), -1.0),
                        false => (paired.discriminator(&both), 1.0),
                    };
                    let expected: Vec<_> = PAIRS.iter().map(|(x, y)| literal(k, sign * (x - y))).collect();
                    let part = |pick: fn(&(f64, f64, f64)) -> f64| expected.iter().map(pick).collect::<Vec<f64>>();
                    assert_close(&loss, &part(|e| e.0), tolerance, "the loss");
                    let first = Tensor::run_backward(&[loss.sum(kind)], &[&reals, &fakes], true, true);
                    let slopes: Vec<f64> = part(|e| e.1).iter().map(|slope| sign * slope).collect();
                    assert_close(&first[0], &slopes, tolerance, "the derivative by D(x)");
                    let opposite: Vec<f64> = slopes.iter().map(|slope| -slope).collect();
                    assert_close(&first[1], &opposite, tolerance, "the derivative by D(G(w))");
                    let second = Tensor::run_backward(&[first[0].sum(kind)], &[&reals, &fakes], false, false);
                    let curved = part(|e| e.2);
                    assert_close(&second[0], &curved, tolerance, "the second derivative");
                    let opposite: Vec<f64> = curved.iter().map(|value| -value).collect();
                    assert_close(&second[1], &opposite, tolerance, "the mixed derivative");
                    let slope =
                        if of_generator { paired.generator_slope(&both) } else { paired.discriminator_slope(&both) };
                    assert_close(&slope, &slopes.iter().map(|s| s.abs()).collect::<Vec<_>>(), tolerance, "the slope");
                }
            }
        }
    }

    #[test]
    fn what_all_logits_share_changes_nothing() {
        let paired = losses()[1].1;
        let (reals, fakes) = logits(Kind::Double);
        let shifted = Logits { reals: Some(&reals + 7.0), fakes: Some(&fakes + 7.0) };
        let plain = Logits { reals: Some(reals), fakes: Some(fakes) };
        let largest = |a: Tensor, b: Tensor| (a - b).abs().max().double_value(&[]);
        assert!(largest(paired.generator(&plain), paired.generator(&shifted)) < 1e-9);
        let signs = |logits: &Logits| paired.signs(logits).reals.unwrap();
        assert_eq!(largest(signs(&plain), signs(&shifted)), 0.0);
    }
}
