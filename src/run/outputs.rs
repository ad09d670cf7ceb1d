//! The outputs that a run owes to its folder, and the newest of them; `production.rs` makes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::evaluator::{Best, Evaluator};
use super::numbering::Numbered;
use super::preview::Preview;
use super::provenance::ParentFiles;

/// A file, or a group of files, that a run makes at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The preview grid of the networks that the run starts from.
    FirstGrid,
    /// The metrics of the networks that the run starts from, which are no snapshot and so never the best one.
    FirstMetrics,
    /// A preview grid.
    Grid,
    /// A snapshot of the three networks.
    Snapshot,
    /// The metrics of the newest snapshot, which may be the best so far.
    Metrics,
}

impl Output {
    /// Whether making it adds lines of metrics.
    pub(super) fn measures(self) -> bool {
        matches!(self, Self::FirstMetrics | Self::Metrics)
    }
}

/// The newest grid and snapshot, which the numbers of the next ones depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewestOutputs {
    pub grid: Option<Numbered>,
    pub snapshot: Option<Numbered>,
}

/// The tools that make outputs, and a record of what was made.
pub(super) struct Outputs {
    pub preview: Preview,
    pub evaluator: Option<Evaluator>,
    /// The record that every snapshot gets.
    pub provenance: Value,
    /// The files that the run began with.
    pub parents: ParentFiles,
    /// Outputs that are due and not made yet, in order.
    pub pending: Vec<Output>,
    pub newest: NewestOutputs,
    /// The best snapshot so far.
    pub best: Option<Best>,
}

impl Outputs {
    /// Begins with nothing made and nothing pending.
    pub fn new(preview: Preview, evaluator: Option<Evaluator>, provenance: Value, parents: ParentFiles) -> Self {
        let (pending, newest) = (Vec::new(), NewestOutputs::default());
        Self { preview, evaluator, provenance, parents, pending, newest, best: None }
    }

    /// Whether something is still to be made.
    pub fn are_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}
