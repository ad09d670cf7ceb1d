//! Makes the outputs that a run owes to its folder: grids, snapshots and their metrics.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::Run;
use super::evaluator::{record, save_best};
use super::networks::save_networks;
use super::numbering::Numbered;
use super::orders::{Order, announce};
use super::outputs::Output;
use super::snapshot::{self, SnapshotFiles};
use crate::files::atomic::remove_if_there;
use crate::metrics::Outcome;
use crate::system::signals::Interrupted;
use crate::system::ui::{Bar, detail};
use crate::tensor::caught;

impl Run {
    /// Makes the pending outputs, whose time is not one of training. Upon a signal the rest stays pending: the next
    /// checkpoint lists it, and the resumed run makes it.
    pub(super) fn make_outputs(&mut self, bar: Option<&Bar>) -> Result<()> {
        let begun = Instant::now();
        let made = self.make_pending(bar);
        self.schedule.count_as_maintenance(begun.elapsed());
        made
    }

    fn make_pending(&mut self, bar: Option<&Bar>) -> Result<()> {
        while let Some(&output) = self.outputs.pending.first() {
            let begun = Instant::now();
            match self.make(output, bar) {
                Err(error) if error.is::<Interrupted>() => return Ok(()),
                made => made?,
            }
            detail(format!("{output:?} at {}: {:.2} s", self.kimg_text(), begun.elapsed().as_secs_f64()));
            self.outputs.pending.remove(0);
        }
        Ok(())
    }

    fn make(&mut self, output: Output, bar: Option<&Bar>) -> Result<()> {
        self.stop.check()?;
        match output {
            Output::FirstGrid => self.save_grid("fakes_init.png"),
            Output::FirstMetrics => self.evaluate(bar, "the start").map(drop),
            Output::Grid => {
                let grid = Numbered::after(self.outputs.newest.grid, self.trainer.seen_images);
                self.save_grid(&format!("fakes{}.png", grid.number()))?;
                self.outputs.newest.grid = Some(grid);
                Ok(())
            }
            Output::Snapshot => self.save_snapshot(),
            Output::Metrics => {
                self.evaluate_snapshot(bar)?;
                self.remove_old_snapshots()
            }
        }
    }

    fn save_grid(&mut self, name: &str) -> Result<()> {
        self.outputs.preview.save_fakes(&self.folder.join(name), &self.trainer.networks.g_ema, &self.stop)
    }

    /// Returns the number of the snapshot of the images seen now, whether it is made or not.
    fn snapshot(&self) -> Numbered {
        Numbered::after(self.outputs.newest.snapshot, self.trainer.seen_images)
    }

    fn save_snapshot(&mut self) -> Result<()> {
        let (seen_images, snapshot) = (self.trainer.seen_images, self.snapshot());
        let files = SnapshotFiles::at(&self.folder, snapshot.number());
        // A resumed run may make a snapshot again that is there already: without a manifest a half-replaced one does
        // not count.
        remove_if_there(&files.manifest)?;
        let mut provenance = self.outputs.provenance.clone();
        provenance["seen_images"] = json!(seen_images);
        provenance["augment_p"] = json!(self.trainer.augment_p());
        save_networks(&mut self.trainer.networks, &files, &provenance)?;
        files.write_manifest(seen_images, provenance)?;
        self.outputs.newest.snapshot = Some(snapshot);
        Ok(())
    }

    fn evaluate_snapshot(&mut self, bar: Option<&Bar>) -> Result<()> {
        let kimg = self.trainer.seen_images as f64 / 1000.0;
        let manifest = SnapshotFiles::at(&self.folder, self.snapshot().number()).manifest;
        let name = manifest.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcomes = self.evaluate(bar, &name)?;
        let Some(evaluator) = &self.outputs.evaluator else {
            return Ok(());
        };
        self.outputs.best = evaluator.better(self.outputs.best.take(), &outcomes, &name, kimg);
        save_best(&self.folder, self.outputs.best.as_ref())
    }

    /// Computes all metrics of the averaged generator, if there are any. A metric that fails does not end the run.
    fn evaluate(&mut self, bar: Option<&Bar>, name: &str) -> Result<Vec<Outcome>> {
        let kimg = self.trainer.seen_images as f64 / 1000.0;
        let Some(evaluator) = &mut self.outputs.evaluator else {
            return Ok(Vec::new());
        };
        let (begun, trainer, stop) = (Instant::now(), &self.trainer, &self.stop);
        let call_others = || announce(&trainer.world, Some(Order::Measure), stop).map(drop);
        let measured = caught(|| {
            let outcomes = evaluator.measure(&trainer.networks.g_ema, call_others)?;
            record(&outcomes, &self.folder, name, kimg, begun.elapsed())?;
            Ok(outcomes)
        });
        for notice in evaluator.take_notices() {
            self.journal.say(bar, &notice)?;
        }
        match measured {
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
        let keep = self.settings.keep_snapshots;
        if keep == 0 {
            return Ok(());
        }
        let all = snapshot::all(&self.folder)?;
        // The previous best stays too until a checkpoint names the new one, since the run may go back to that
        // checkpoint.
        let best = [&self.outputs.best, &self.keeper.saved_best];
        let spared: Vec<_> = best.into_iter().flatten().map(|best| self.folder.join(&best.snapshot)).collect();
        let surplus = all.len().saturating_sub(keep);
        all[..surplus].iter().filter(|files| !spared.contains(&files.manifest)).try_for_each(SnapshotFiles::remove)
    }
}
