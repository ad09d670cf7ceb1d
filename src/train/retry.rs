//! Repeats a phase with half the micro-batch or less where memory ran out, if the settings say so.

use anyhow::{Context, Result};

use super::phases::Phase;
use super::rounds::{SharedLackOfMemory, possible_micro_batches};
use super::stats::Statistics;
use super::step_guard::place;
use super::trainer::Trainer;
use crate::system::memory::lacks_memory;
use crate::tensor::caught;

impl Trainer {
    /// Does `work` until there is memory for it. Until its final step a phase changes only what networks change by
    /// themselves (`w_avg`), which is restored, so the phase can be repeated.
    pub(super) fn with_retries<T>(
        &mut self,
        phase: Phase,
        stats: &mut Statistics,
        work: impl Fn(&mut Self, &mut Statistics) -> Result<T>,
    ) -> Result<T> {
        let untrained = self.settings.shrink_micro_batch.then(|| self.networks.untrained());
        let mark = stats.mark();
        loop {
            let error = match caught(|| work(self, stats)) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            // Processes try again together or not at all.
            let lacks_memory = match self.world.size() {
                1 => lacks_memory(&format!("{error:#}")),
                _ => error.is::<SharedLackOfMemory>(),
            };
            let smaller = self.smaller_micro_batch().filter(|_| lacks_memory);
            let Some(smaller) = smaller else {
                // Earlier skipped steps may be the reason, so a notice tells of them; the error stays this one.
                if let Err(diverged) = self.look_at_steps(stats) {
                    self.guard.notices.push(format!("{diverged:#}"));
                }
                return Err(error).context(place(phase, self.iteration));
            };
            self.guard.notices.push(format!(
                "iteration {}: out of memory in {phase:?}; going on with --micro-batch {smaller} instead of {}",
                self.iteration, self.micro_batch
            ));
            self.micro_batch = smaller;
            stats.back_to(&mark);
            if let Some(untrained) = &untrained {
                untrained.put_back();
            }
        }
    }

    /// Returns the largest possible micro-batch of at most half the present one, where the settings want it.
    fn smaller_micro_batch(&self) -> Option<u64> {
        let (share, group) = (self.settings.batch / self.world.size(), self.networks.d.mbstd_group_size() as u64);
        let smaller = || possible_micro_batches(share, group, self.micro_batch / 2).next();
        self.settings.shrink_micro_batch.then(smaller).flatten()
    }
}
