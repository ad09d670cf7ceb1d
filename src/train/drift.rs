//! What networks change by themselves in a phase, `w_avg` above all, averaged over its micro-batches.

use tch::Tensor;

use crate::tensor::no_grad;

/// The gradient of a phase, summed over micro-batches, and what the networks changed by themselves meanwhile.
pub(super) struct PhaseGradient {
    pub gradient: Tensor,
    /// None where there is one micro-batch, whose change stays as it is.
    pub drift: Option<Drift>,
}

/// The change of `w_avg` and the like over the micro-batches of a phase: (tensor, its value before the phase, sum of the
/// changes).
pub(super) struct Drift(Vec<(Tensor, Tensor, Tensor)>);

impl Drift {
    /// Starts to watch these tensors, of any shapes.
    pub(super) fn new(tensors: Vec<Tensor>) -> Self {
        Self(tensors.into_iter().map(|tensor| (tensor.shallow_clone(), tensor.copy(), tensor.zeros_like())).collect())
    }

    /// Adds the change since the last call to the sum, and takes it back, so that each micro-batch starts from the same
    /// values.
    pub(super) fn take_back(&mut self) {
        no_grad(|| {
            for (tensor, before, sum) in &mut self.0 {
                let change = &*tensor - &*before;
                *sum += change;
                tensor.copy_(before);
            }
        });
    }

    /// Returns the sums of the changes in one tensor, [total].
    pub(super) fn sum(&self) -> Tensor {
        let flat: Vec<Tensor> = self.0.iter().map(|(_, _, sum)| sum.flatten(0, -1)).collect();
        if flat.is_empty() { Tensor::zeros([0i64], tch::kind::FLOAT_CPU) } else { Tensor::cat(&flat, 0) }
    }

    /// Moves the tensors by the mean change of `count` micro-batches, whose sum over all processes is `sum` [total].
    pub(super) fn apply(self, sum: &Tensor, count: u64) {
        let mut at = 0;
        no_grad(|| {
            for (mut tensor, before, _) in self.0 {
                let length = before.numel() as i64;
                let change = sum.narrow(0, at, length).view_as(&before) / count as f64;
                tensor.copy_(&(before + change));
                at += length;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_move_by_the_mean_of_the_changes_that_each_began_from_the_same_values() {
        let (vector, scalar) = (Tensor::from_slice(&[1f64, 2.0]), Tensor::from(10.0));
        let mut drift = Drift::new(vec![vector.shallow_clone(), scalar.shallow_clone()]);
        for change in [1.0, 3.0, 8.0] {
            let _ = vector.shallow_clone().g_add_(&Tensor::from_slice(&[change, -change]));
            let _ = scalar.shallow_clone().g_add_(&Tensor::from(2.0 * change));
            drift.take_back();
            assert_eq!((&vector, scalar.double_value(&[])), (&Tensor::from_slice(&[1f64, 2.0]), 10.0));
        }
        let sum = drift.sum();
        assert_eq!(sum, Tensor::from_slice(&[12f64, -12.0, 24.0]));
        // Another process has moved nothing in as many micro-batches.
        drift.apply(&sum, 6);
        assert_eq!((vector, scalar.double_value(&[])), (Tensor::from_slice(&[3f64, 0.0]), 14.0));
    }
}
