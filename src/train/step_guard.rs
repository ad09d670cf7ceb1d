//! Steps that are skipped because a gradient is not finite, from the device's decision to the end of a run.
//!
//! `Adam::step` (`optimizer.rs`) decides on the device: a gradient with a value whose square is not finite changes
//! nothing. [`StepGuard`] keeps the outcome of each step and reads all of them once an iteration (and around a phase
//! that is timed), since reading makes the host wait. A skipped step is counted in the statistics as
//! `Progress/skipped_PHASE`, and told in a notice that names the loss or the first parameter. No checkpoint is written
//! while the newest step of a phase was skipped (`state.rs`), so every checkpoint is good to go back to. After
//! `--max-bad-steps` skipped steps of one phase in a row the error is [`Diverged`]: the run stops, or goes back
//! (`run/checkpoint/rollback.rs`).

use std::fmt;

use anyhow::Result;
use tch::{Kind, Tensor};

use super::phases::Phase;
use super::stats::Statistics;
use crate::model::FlatParameters;
use crate::tensor::finite::{all_finite, first_non_finite};
use crate::tensor::images::bytes;

/// Counts skipped steps, and keeps the steps that nobody has looked at yet.
#[derive(Default)]
pub(super) struct StepGuard {
    /// Each phase has its own count, because good steps of the discriminator say nothing of the generator.
    pub(super) skipped_in_a_row: [u64; 4],
    /// Lines for the user, which the loop around the trainer collects.
    pub(super) notices: Vec<String>,
    unseen: Vec<Step>,
}

/// One step of an optimiser.
struct Step {
    phase: Phase,
    /// Whether the step was taken, a scalar on the device.
    taken: Tensor,
    /// The gradient [total], kept until the look: it names the parameter whose gradient was not finite.
    gradient: Tensor,
}

impl StepGuard {
    /// Keeps the outcome of a step, `taken` on the device, for [`look`](Self::look).
    pub(super) fn add(&mut self, phase: Phase, taken: Tensor, gradient: Tensor) {
        self.unseen.push(Step { phase, taken, gradient });
    }

    /// Looks at the steps since the last call, which waits for the device; `flat` gives the parameters of a phase, `rounds`
    /// is the number of its micro-batches. Skipped steps are counted, and told by a notice.
    ///
    /// # Errors
    /// [`Diverged`] after `most_in_a_row` skipped steps of a phase.
    pub(super) fn look<'a>(
        &mut self,
        iteration: u64,
        most_in_a_row: u64,
        flat: impl Fn(Phase) -> &'a FlatParameters,
        rounds: u64,
        stats: &mut Statistics,
    ) -> Result<()> {
        let unseen = std::mem::take(&mut self.unseen);
        for (Step { phase, gradient, .. }, taken) in unseen.iter().zip(were_taken(&unseen)) {
            let in_a_row = &mut self.skipped_in_a_row[*phase as usize];
            if taken {
                *in_a_row = 0;
                continue;
            }
            *in_a_row += 1;
            stats.report_number(&format!("Progress/skipped_{phase:?}"), 1.0);
            let is_finite = |loss: &str| stats.last(loss, rounds as usize).iter().all(all_finite);
            let what = match phase.loss_names().iter().find(|loss| !is_finite(loss)) {
                Some(loss) => format!("the loss of {phase:?} ({loss}) is not finite"),
                None => {
                    let name = flat(*phase).name_at(first_overflow(gradient)).unwrap_or_default();
                    format!("the gradient of {phase:?} or its square is not finite, first in '{name}'")
                }
            };
            if *in_a_row >= most_in_a_row {
                let remedy = "lower --g-lr and --d-lr, a higher --r1-gamma or a --root-slope-cap help";
                let text = format!("{what}; {in_a_row} steps in a row were skipped; {remedy}");
                return Err(anyhow::Error::new(Diverged(text)).context(place(*phase, iteration)));
            }
            self.notices.push(format!("iteration {iteration}: {what}; step skipped ({in_a_row} in a row)"));
        }
        Ok(())
    }

    /// Forgets steps that belong to a course that was given up.
    pub(super) fn forget(&mut self, skipped_in_a_row: [u64; 4]) {
        self.skipped_in_a_row = skipped_in_a_row;
        self.unseen.clear();
    }
}

/// Returns the place of the first value whose square is not finite.
fn first_overflow(gradient: &Tensor) -> i64 {
    first_non_finite(&gradient.square()).int64_value(&[])
}

/// Names the place in training for an error.
pub(super) fn place(phase: Phase, iteration: u64) -> String {
    format!("phase {phase:?} of iteration {iteration}")
}

/// Reads which steps were taken, in one copy from the device.
fn were_taken(steps: &[Step]) -> Vec<bool> {
    if steps.is_empty() {
        return Vec::new();
    }
    let taken: Vec<&Tensor> = steps.iter().map(|step| &step.taken).collect();
    bytes(&Tensor::stack(&taken, 0).to_kind(Kind::Uint8)).into_iter().map(|byte| byte == 1).collect()
}

/// The error of too many steps in a row without a finite gradient.
#[derive(Debug)]
pub struct Diverged(String);

impl Diverged {
    /// Makes the error with these words.
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Diverged {}
