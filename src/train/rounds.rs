//! Sums a phase over the micro-batches of a batch, which are computed one after the other in a process, and side by
//! side in several.
//!
//! Every process computes `batch / processes` images, in the same order as one process would: process r has the
//! micro-batches r M to (r + 1) M - 1 of the batch, where M is their number in a process. What a micro-batch draws
//! depends on its place in the batch alone, and whatever a phase changes besides the weights (`w_avg`, `pl_mean`) is moved
//! by the mean over all micro-batches, so that N processes do the same as one, up to the rounding of sums.

use anyhow::{Context, Result, anyhow};
use tch::Tensor;

use super::drift::{Drift, PhaseGradient};
use super::trainer::Trainer;
use crate::system::memory::lacks_memory;
use crate::tensor::caught;

/// One micro-batch of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Its place among those of this process.
    pub in_process: u64,
    /// Its place in the batch.
    pub in_batch: u64,
}

/// Lists the micro-batches of at most `most` images that a process's share of a batch can be computed in, the largest
/// first: each divides the share, and consists of whole groups of the discriminator's minibatch standard deviation or is
/// no larger than one.
pub fn possible_micro_batches(share: u64, mbstd_group_size: u64, most: u64) -> impl Iterator<Item = u64> {
    let is_possible =
        move |&micro: &u64| share.is_multiple_of(micro) && micro.is_multiple_of(mbstd_group_size.clamp(1, micro));
    (1..=most.min(share)).rev().filter(is_possible)
}

/// A lack of memory that every process knows of, so that all try again with smaller micro-batches.
#[derive(Debug)]
pub(super) struct SharedLackOfMemory(String);

impl std::fmt::Display for SharedLackOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SharedLackOfMemory {}

impl Trainer {
    /// Returns the number of micro-batches in a batch, over all processes.
    pub(super) fn rounds(&self) -> u64 {
        self.settings.batch / self.micro_batch
    }

    /// Returns the number of micro-batches of this process.
    pub(super) fn rounds_in_process(&self) -> u64 {
        self.rounds() / self.world.size()
    }

    /// Sums the gradients of this process's micro-batches.
    pub(super) fn sum_over_rounds(&self, mut gradient: impl FnMut(Round) -> Result<Tensor>) -> Result<PhaseGradient> {
        let mut drift = (self.rounds() > 1).then(|| self.networks.drift());
        let mut sum = None;
        for in_process in 0..self.rounds_in_process() {
            let in_batch = self.world.rank() * self.rounds_in_process() + in_process;
            add(&mut sum, gradient(Round { in_process, in_batch })?);
            drift.iter_mut().for_each(Drift::take_back);
        }
        Ok(PhaseGradient { gradient: sum.context("a batch has at least one micro-batch")?, drift })
    }

    /// Computes this process's part of a phase, and sums it over all processes: all of them succeed, or all fail.
    ///
    /// # Errors
    /// The errors of `part`, in any process.
    pub(super) fn sum_over_processes<T>(
        &self,
        part: impl FnOnce() -> Result<(PhaseGradient, T)>,
    ) -> Result<(Tensor, T)> {
        let (PhaseGradient { gradient, drift }, result) = self.agreed(caught(part))?;
        self.world.sum_(&gradient)?;
        if let Some(drift) = drift {
            let sum = drift.sum();
            self.world.sum_(&sum)?;
            drift.apply(&sum, self.rounds());
        }
        Ok((gradient, result))
    }

    /// Averages one value per micro-batch, [rounds in this process], over all of the batch -> scalar.
    pub(super) fn mean_over_rounds(&self, values: &Tensor) -> Result<Tensor> {
        if self.rounds() == 1 {
            return Ok(values.squeeze());
        }
        let sum = values.sum(values.kind());
        self.world.sum_(&sum)?;
        Ok(sum / self.rounds() as f64)
    }

    /// Returns the outcome of this process's part of a phase where all succeeded, an error where any failed.
    fn agreed<T>(&self, part: Result<T>) -> Result<T> {
        if self.world.size() == 1 {
            return part;
        }
        let lack = part.as_ref().err().is_some_and(|error| lacks_memory(&format!("{error:#}")));
        let failures = Tensor::from_slice(&[i64::from(lack), i64::from(part.is_err() && !lack)]);
        self.world.sum_(&failures)?;
        let [lacking, failing] = [0, 1].map(|at| failures.int64_value(&[at]));
        match (part, lacking, failing) {
            (part, 0, 0) => part,
            (Err(error), _, 0) => Err(SharedLackOfMemory(format!("{error:#}")).into()),
            (Ok(_), _, 0) => Err(SharedLackOfMemory("another process is out of memory".to_owned()).into()),
            (Err(error), ..) if !lack => Err(error),
            _ => Err(anyhow!("another process failed, and says why")),
        }
    }
}

/// Adds a term to a sum, which may have none yet.
pub(super) fn add(sum: &mut Option<Tensor>, term: Tensor) {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.g_add_(&term),
        None => term,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_divide_the_share_and_consist_of_whole_groups() {
        let of = |share, group, most| possible_micro_batches(share, group, most).collect::<Vec<_>>();
        assert_eq!(of(12, 4, 12), [12, 4, 3, 2, 1]);
        assert_eq!(of(12, 4, 6), [4, 3, 2, 1]);
        assert_eq!(of(12, 1, 8), [6, 4, 3, 2, 1]);
        assert_eq!(of(32, 8, 16), [16, 8, 4, 2, 1]);
        assert!(of(12, 4, 0).is_empty());
    }
}
