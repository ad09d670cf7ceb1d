//! Measures how long a phase takes. A GPU works on its own: to time a phase, the host waits until everything before is
//! done, and again at its end.

use std::time::Instant;

use anyhow::Result;

use super::phases::Phase;
use super::stats::Statistics;
use super::trainer::Trainer;
use crate::tensor::device;

impl Trainer {
    /// Does `work`, and reports its time in every [`timed_every`](Self::timed_every)-th iteration.
    pub(super) fn timed<T>(
        &mut self,
        phase: Phase,
        stats: &mut Statistics,
        work: impl FnOnce(&mut Self, &mut Statistics) -> Result<T>,
    ) -> Result<T> {
        if !self.is_timed(phase) {
            return work(self, stats);
        }
        // Errors raised here belong to earlier phases, and are reported as theirs.
        self.finish(stats)?;
        let begun = Instant::now();
        let result = work(self, stats)?;
        self.finish(stats)?;
        stats.report_number(&format!("Timing/{phase:?}"), begun.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Whether this call of the phase is one to be timed.
    fn is_timed(&self, phase: Phase) -> bool {
        let interval = match phase {
            Phase::Gmain | Phase::Dmain => 1,
            Phase::Greg => self.settings.path_length.interval,
            Phase::Dreg => self.settings.r1.interval,
        };
        self.iteration.is_multiple_of(spacing(self.timed_every, interval))
    }

    /// Waits until the device has done its work, and counts the skipped steps.
    fn finish(&mut self, stats: &mut Statistics) -> Result<()> {
        self.look_at_steps(stats)?;
        device::synchronize(self.networks.g.script.device);
        Ok(())
    }
}

/// Returns the iterations between two timed calls of a phase that runs every `interval`: at least `timed_every` of
/// them.
fn spacing(timed_every: u64, interval: u64) -> u64 {
    timed_every.div_ceil(interval.max(1)).saturating_mul(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_runs_seldom_is_timed_when_it_runs() {
        for (timed_every, interval, expected) in
            [(1, 1, 1), (1, 4, 4), (16, 1, 16), (16, 4, 16), (16, 16, 16), (16, 3, 18), (16, 24, 24), (16, 0, 0)]
        {
            assert_eq!(spacing(timed_every, interval), expected, "{timed_every} {interval}");
        }
        assert_eq!(spacing(u64::MAX, 3), u64::MAX);
    }
}
