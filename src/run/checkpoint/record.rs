//! The record of a run in a checkpoint: its counters, and what a resumed run compares.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::store::Checkpoint;
use crate::run::evaluator::Best;
use crate::run::journal::JournalPlace;
use crate::run::outputs::{NewestOutputs, Output};
use crate::run::provenance::ParentFiles;
use crate::run::schedule::TickRecord;
use crate::train::state::TrainerRecord;

/// The record in the manifest of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub(in crate::run) trainer: TrainerRecord,
    pub(in crate::run) tick: TickRecord,
    pub(in crate::run) journal: JournalPlace,
    pub(in crate::run) rollbacks: u64,
    pub(in crate::run) best: Option<Best>,
    /// Outputs still to be made when the run goes on.
    #[serde(rename = "due")]
    pub(in crate::run) pending: Vec<Output>,
    /// None in checkpoints of rootgan before 2026-11-26.
    #[serde(default)]
    pub(in crate::run) newest: Option<NewestOutputs>,
    /// Empty in checkpoints before 2026-11-26.
    #[serde(default)]
    pub(in crate::run) parents: ParentFiles,
    pub(in crate::run) total_seconds: f64,
    pub(in crate::run) pictures: String,
    pub(in crate::run) device: String,
    /// The GPU's model; None on the CPU, where the driver does not say, and in checkpoints of rootgan before
    /// 2026-11-27.
    #[serde(default)]
    pub(in crate::run) gpu: Option<String>,
    pub(in crate::run) threads: i32,
    /// The processes that trained together; 1 in checkpoints of rootgan before 2026-11-28.
    #[serde(default = "one")]
    pub(in crate::run) processes: u64,
}

fn one() -> u64 {
    1
}

impl RunRecord {
    /// Returns how long the run has taken.
    pub(in crate::run) fn total(&self) -> Duration {
        Duration::try_from_secs_f64(self.total_seconds).unwrap_or_default()
    }

    /// Whether the run has come to its end and made all its outputs.
    pub fn is_complete(&self, total_images: u64) -> bool {
        self.seen_images() >= total_images && self.pending.is_empty()
    }

    /// Whether the numbers can be those of this checkpoint.
    pub(super) fn is_plausible(&self, checkpoint: &Checkpoint) -> bool {
        self.seen_images() == checkpoint.seen_images && self.trainer.is_plausible() && self.journal.is_plausible()
    }

    /// Returns the images seen at the checkpoint.
    pub fn seen_images(&self) -> u64 {
        self.trainer.seen_images
    }

    /// Lists reasons why a run resumed on this device with these threads and processes will differ from an uninterrupted one; `gpu`
    /// is the GPU's [`Gpu::description`](crate::system::gpu::Gpu::description).
    pub fn differences(&self, device: &str, gpu: Option<&str>, threads: i32, processes: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if self.device != device {
            lines.push(format!("the run was on {} and goes on on {device}: not bit for bit the same", self.device));
        }
        if let (Some(before), Some(now)) = (self.gpu.as_deref(), gpu.filter(|now| self.gpu.as_deref() != Some(now))) {
            lines.push(format!("the run was on an {before} and goes on on an {now}: the same but for rounding"));
        }
        if self.threads != threads {
            lines.push(format!(
                "the run had {} threads and goes on with {threads}: not bit for bit the same (OMP_NUM_THREADS)",
                self.threads
            ));
        }
        if self.processes != processes {
            let noun = if self.processes == 1 { "process" } else { "processes" };
            lines.push(format!(
                "the run had {} {noun} and goes on with {processes}: with the same micro-batch the same but for rounding",
                self.processes
            ));
        }
        lines
    }

    /// Checks that the pictures are those that the run began with.
    ///
    /// # Errors
    /// The pictures differ from those the run began with.
    pub fn check_pictures(&self, fingerprint: &str, data: &Path) -> Result<()> {
        ensure!(
            self.pictures == fingerprint,
            "cannot go on: the pictures in '{}' are not those that the run began with (other names, labels, numbers or contents); \
             bring them back, or begin a new run from a snapshot of this one",
            data.display()
        );
        Ok(())
    }
}
