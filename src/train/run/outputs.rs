//! What a run makes at a tick: grids, snapshots, their metrics.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Run;
use crate::io::atomic::remove_if_there;
use crate::io::numbering::Numbered;
use crate::io::snapshot::{self, SnapshotFiles};
use crate::metrics::Outcome;
use crate::signals::Interrupted;
use crate::tensor::caught;
use crate::train::evaluate;
use crate::ui::Bar;

/// What a run owes to its folder, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The grid of what it starts from.
    FirstGrid,
    /// Metrics of that: it is no snapshot, and so not the best one.
    FirstMetrics,
    /// A grid.
    Grid,
    /// The three networks.
    Snapshot,
    /// The metrics of that snapshot, which may be the best so far.
    Metrics,
}

/// The newest grid and snapshot, which the numbers of the next ones depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::train) struct NewestOutputs {
    pub grid: Option<Numbered>,
    pub snapshot: Option<Numbered>,
}

impl Output {
    /// Whether lines of metrics come of it.
    pub(super) fn measures(self) -> bool {
        matches!(self, Self::FirstMetrics | Self::Metrics)
    }
}

impl Run {
    /// Makes what is due. Upon a signal the rest stays due, for the next checkpoint to hold: it is made when the run goes
    /// on.
    pub(super) fn make_outputs(&mut self, bar: Option<&Bar>) -> Result<()> {
        while let Some(&output) = self.due.first() {
            match self.make(output, bar) {
                Err(error) if error.is::<Interrupted>() => return Ok(()),
                made => made?,
            }
            self.due.remove(0);
        }
        Ok(())
    }

    fn make(&mut self, output: Output, bar: Option<&Bar>) -> Result<()> {
        self.stop.check()?;
        match output {
            Output::FirstGrid => self.save_grid("fakes_init.png"),
            Output::FirstMetrics => self.outcomes(bar, "the start").map(drop),
            Output::Grid => {
                let grid = Numbered::after(self.newest.grid, self.trainer.seen_images);
                self.save_grid(&format!("fakes{}.png", grid.number()))?;
                self.newest.grid = Some(grid);
                Ok(())
            }
            Output::Snapshot => self.save_snapshot(),
            Output::Metrics => {
                self.measure(bar)?;
                self.remove_old_snapshots()
            }
        }
    }

    fn save_grid(&mut self, name: &str) -> Result<()> {
        self.preview.save_fakes(&self.folder.join(name), &self.trainer.networks.g_ema, &self.stop)
    }

    /// The snapshot of the images seen now, made or not.
    fn snapshot(&self) -> Numbered {
        Numbered::after(self.newest.snapshot, self.trainer.seen_images)
    }

    fn save_snapshot(&mut self) -> Result<()> {
        let (seen_images, snapshot) = (self.trainer.seen_images, self.snapshot());
        let files = SnapshotFiles::at(&self.folder, snapshot.number());
        // A resumed run makes one again that is there already: without its manifest a half-replaced one does not count.
        remove_if_there(&files.manifest)?;
        let mut provenance = self.provenance.clone();
        provenance["seen_images"] = json!(seen_images);
        provenance["augment_p"] = json!(self.trainer.augment_p());
        self.trainer.networks.save(&files, &provenance)?;
        files.write_manifest(seen_images, provenance)?;
        self.newest.snapshot = Some(snapshot);
        Ok(())
    }

    fn measure(&mut self, bar: Option<&Bar>) -> Result<()> {
        let kimg = self.trainer.seen_images as f64 / 1000.0;
        let manifest = SnapshotFiles::at(&self.folder, self.snapshot().number()).manifest;
        let name = manifest.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcomes = self.outcomes(bar, &name)?;
        let Some(judge) = &self.judge else {
            return Ok(());
        };
        let best = judge.better(self.best.take(), &outcomes, &name, kimg);
        self.best = best;
        evaluate::save_best(&self.folder, self.best.as_ref())
    }

    /// All metrics of the averaged generator; none where there are none. A run does not end because one cannot be computed.
    fn outcomes(&mut self, bar: Option<&Bar>, name: &str) -> Result<Vec<Outcome>> {
        let kimg = self.trainer.seen_images as f64 / 1000.0;
        let Some(judge) = &mut self.judge else {
            return Ok(Vec::new());
        };
        let g_ema = &self.trainer.networks.g_ema;
        match caught(|| judge.measure(g_ema, &self.folder, name, kimg)) {
            Ok(outcomes) => {
                for outcome in &outcomes {
                    for line in outcome.warnings.iter().chain(&outcome.lines()) {
                        self.journal.say(bar, line)?;
                    }
                }
                Ok(outcomes)
            }
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) => {
                self.journal.say(bar, &format!("warning: the metrics at {kimg:.1} kimg failed: {error:#}"))?;
                Ok(Vec::new())
            }
        }
    }

    fn remove_old_snapshots(&self) -> Result<()> {
        let keep = self.config().keep_snapshots;
        if keep == 0 {
            return Ok(());
        }
        let all = snapshot::all(&self.folder)?;
        // Also the one before, until a checkpoint names the new one: the run may go back to where that was none.
        let spared: Vec<_> =
            [&self.best, &self.saved_best].into_iter().flatten().map(|best| self.folder.join(&best.snapshot)).collect();
        let surplus = all.len().saturating_sub(keep);
        all[..surplus].iter().filter(|files| !spared.contains(&files.manifest)).try_for_each(SnapshotFiles::remove)
    }
}
