//! Goes back to a checkpoint, when a run is resumed and when it has diverged.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::record::RunRecord;
use super::store::Checkpoint;
use super::tensors;
use crate::config::OnDivergence;
use crate::run::Run;
use crate::run::evaluator::{Best, forget_from, save_best};
use crate::run::feed::loader;
use crate::run::folder::numbered_grids;
use crate::run::numbering::Numbered;
use crate::run::outputs::NewestOutputs;
use crate::run::snapshot::{self, SnapshotFiles, SnapshotManifest};
use crate::system::ui::Bar;
use crate::train::Diverged;

impl Run {
    /// After divergence, goes back to the last good checkpoint with half the learning rates, where the settings allow
    /// it; returns any other error.
    pub(in crate::run) fn after_failure(&mut self, error: anyhow::Error, bar: &Bar) -> Result<()> {
        let where_to = self.keeper.store.list()?.pop();
        let diverged = error.is::<Diverged>();
        let context = format!("the run in '{}' stopped at {}", self.folder.display(), self.kimg_text());
        let (Some(checkpoint), true) = (where_to, diverged) else {
            return Err(error).context(context);
        };
        let place = format!("the last good checkpoint is '{}'", checkpoint.folder().display());
        let settings = &self.settings;
        if settings.on_divergence == OnDivergence::Stop || self.keeper.rollbacks >= settings.max_rollbacks {
            let resume = format!("{} --override with a lower --g-lr and --d-lr", self.resume_command());
            // It stays this kind of error: a comparison counts such runs as fallen apart.
            let text = format!("{error:#}; {place}: {resume}, or --on-divergence rollback");
            return Err(anyhow::Error::new(Diverged::new(text))).context(context);
        }
        let (seen, scale) = (self.trainer.seen_images, self.trainer.lr_scale / 2.0);
        self.keeper.rollbacks += 1;
        self.go_back_to(&checkpoint, Some(scale))?;
        bar.begin_at(self.trainer.seen_images);
        self.make_outputs(Some(bar))?;
        let line = format!(
            "diverged at {:.1} kimg ({error:#}); back to {} with the learning rates times {scale} (rollback {} of {})",
            seen as f64 / 1000.0,
            self.kimg_text(),
            self.keeper.rollbacks,
            self.settings.max_rollbacks,
        );
        self.journal.say(Some(bar), &line)?;
        // The checkpoint gets the new rates and the count, so that they outlive a kill.
        self.save_checkpoint().map(drop)
    }

    /// Puts trainer, statistics and metrics into the state of a checkpoint, with other learning rates where `lr_scale` is
    /// given, in all processes, and removes later checkpoints, grids and snapshots: they are of another course, or will be
    /// made again. Nothing in the folder changes until the state is known to fit.
    pub(in crate::run) fn go_back_to(&mut self, checkpoint: &Checkpoint, lr_scale: Option<f64>) -> Result<()> {
        let (record, path): (RunRecord, PathBuf) = checkpoint.read()?;
        self.trainer.restore(&mut self.statistics, &record.trainer, tensors::read(&path)?).with_context(|| {
            format!("cannot go on from '{}'; begin a new run from a snapshot", checkpoint.folder().display())
        })?;
        self.trainer.lr_scale = lr_scale.unwrap_or(self.trainer.lr_scale);
        self.lead()?;
        let seen_images = checkpoint.seen_images;
        // Later checkpoints go first, so that a kill in between leaves no checkpoint whose statistics are gone.
        self.keeper.store.forget_after(seen_images)?;
        self.journal.go_back_to(&record.journal)?;
        self.schedule.go_back_to(&record.tick);
        self.keeper.rollbacks = self.keeper.rollbacks.max(record.rollbacks);
        // In runs of rootgan before 2026-11-26 a snapshot of other weights may have taken the best one's name.
        let is_there = |best: &Best| {
            SnapshotManifest::read(&self.folder.join(&best.snapshot))
                .is_ok_and(|found| found.seen_images == best.seen_images())
        };
        let (best, lost) = match record.best {
            Some(best) if !is_there(&best) => (None, Some(best.snapshot)),
            best => (best, None),
        };
        self.outputs.best = best;
        if let Some(name) = lost {
            let line = format!(
                "warning: the best snapshot so far, '{name}', is gone or another's: the next one measured is the best"
            );
            self.journal.say(None, &line)?;
        }
        save_best(&self.folder, self.outputs.best.as_ref())?;
        let measured_again = record.pending.iter().any(|output| output.measures());
        forget_from(&self.folder, if measured_again { seen_images } else { seen_images + 1 })?;
        self.outputs.pending = record.pending;
        self.outputs.newest = match record.newest {
            Some(newest) => newest,
            None => self.newest_in_folder(seen_images)?,
        };
        self.forget_outputs()?;
        self.loader = loader(&self.settings, &self.dataset, self.trainer.seen_images, &self.trainer.world)?;
        self.keeper.is_at(seen_images, self.outputs.best.clone());
        Ok(())
    }

    /// Removes grids and snapshots beyond the images seen now.
    fn forget_outputs(&self) -> Result<()> {
        for files in snapshot::all(&self.folder)? {
            if images_of(&files) > self.trainer.seen_images {
                files.remove()?;
            }
        }
        let newest = self.outputs.newest.grid.map(Numbered::number);
        for (number, path) in numbered_grids(&self.folder)? {
            if newest.is_none_or(|newest| number > newest) {
                fs::remove_file(&path).with_context(|| format!("cannot remove the grid '{}'", path.display()))?;
            }
        }
        Ok(())
    }

    /// Finds the newest grid and snapshot of at most `seen_images`, which checkpoints of rootgan before 2026-11-26 do
    /// not name.
    fn newest_in_folder(&self, seen_images: u64) -> Result<NewestOutputs> {
        let snapshots = snapshot::all(&self.folder)?.into_iter();
        let snapshots = snapshots.map(|files| Numbered::found(files.number, images_of(&files)));
        let grids =
            numbered_grids(&self.folder)?.into_iter().map(|(number, _)| Numbered::found(number, number.least_images()));
        let newest = |found: &mut dyn Iterator<Item = Numbered>| {
            found.filter(|output| output.seen_images <= seen_images).max_by_key(|output| output.seen_images)
        };
        Ok(NewestOutputs { grid: newest(&mut { grids }), snapshot: newest(&mut { snapshots }) })
    }
}

/// Returns the images that a snapshot has seen, by its manifest, or by its name where that cannot be read.
fn images_of(files: &SnapshotFiles) -> u64 {
    SnapshotManifest::read(&files.manifest).map_or(files.number.least_images(), |manifest| manifest.seen_images)
}
