//! Losses of a classifier with any number of classes, each a function of one margin.

use anyhow::Result;
use rootgan::train::objective::{AdversarialLoss, Rooted};
use tch::Tensor;

/// A loss that a classifier is trained with; p is the softmax probability of the true class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// The cross-entropy `-log p`.
    CrossEntropy,
    /// The rooted loss `k p^(-1/k) - k`, which tends to the cross-entropy from above as k grows.
    Rooted(f64),
    /// The bounded loss `k - k p^(1/k)`, at most k, which tends to the cross-entropy from below: the form in the
    /// authors' code (k = 3 there).
    Bounded(f64),
}

impl Objective {
    /// Returns the loss's name in tables and legends.
    pub fn name(&self) -> String {
        match self {
            Self::CrossEntropy => "cross-entropy".to_owned(),
            Self::Rooted(k) => format!("rooted, k = {k}"),
            Self::Bounded(k) => format!("bounded, k = {k}"),
        }
    }

    /// Computes the loss of every example, 0 at best.
    ///
    /// With [`true_class_margin`] z, p = sigmoid(z), so `-log p = softplus(-z)` is the library's logistic loss and
    /// `k p^(-1/k) = k (1 + exp(-z))^(1/k)` its rooted loss of z, the binary one for two classes. The bounded loss is
    /// `-k expm1(-softplus(-z) / k)`.
    ///
    /// # Shapes
    /// `logits` [n, classes], `labels` int64 [n] -> [n].
    ///
    /// # Errors
    /// The loss's k is below 1.
    pub fn of(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let margins = true_class_margin(logits, labels);
        let cross_entropy = |z: &Tensor| AdversarialLoss::Logistic.of(z);
        Ok(match *self {
            Self::CrossEntropy => cross_entropy(&margins),
            Self::Rooted(k) => AdversarialLoss::Rooted(Rooted::new(k, None)?).excess(&margins),
            Self::Bounded(k) => (cross_entropy(&margins) / -k).expm1() * -k,
        })
    }
}

/// Returns the true class's logit over all others together: `z = l_y - log sum_{j != y} exp(l_j)`, so that
/// `softmax(l)_y = sigmoid(z)`.
///
/// # Shapes
/// As [`Objective::of`].
pub fn true_class_margin(logits: &Tensor, labels: &Tensor) -> Tensor {
    let index = labels.unsqueeze(1);
    let own = logits.gather(1, &index, false).squeeze_dim(1);
    let others = logits.scatter_value(1, &index, f64::NEG_INFINITY).logsumexp(1, false);
    own - others
}
