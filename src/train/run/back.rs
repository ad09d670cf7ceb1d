//! Going back to a checkpoint: when a run is resumed, and when it has diverged.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::{Run, loader};
use crate::config::OnDivergence;
use crate::io::checkpoint::Checkpoint;
use crate::io::snapshot::{self, Manifest};
use crate::train::outcomes::Diverged;
use crate::train::resume::RunRecord;
use crate::train::tick::Tick;
use crate::train::{evaluate, state};
use crate::ui::Bar;

impl Run {
    /// Goes back to the last good checkpoint with half the learning rates, if that is wanted and may help.
    pub(super) fn after_failure(&mut self, error: anyhow::Error, bar: &Bar) -> Result<()> {
        let where_to = self.checkpoints.list()?.pop();
        let diverged = error.is::<Diverged>();
        let context = format!("the run in '{}' stopped at {}", self.folder.display(), self.kimg_text());
        let (Some(checkpoint), true) = (where_to, diverged) else {
            return Err(error).context(context);
        };
        let place = format!("the last good checkpoint is '{}'", checkpoint.folder().display());
        let config = self.config();
        if config.on_divergence == OnDivergence::Stop || self.rollbacks >= config.max_rollbacks {
            let resume = format!("{} --override with a lower --g-lr and --d-lr", self.resume_command());
            return Err(anyhow!("{error:#}; {place}: {resume}, or --on-divergence rollback")).context(context);
        }
        let (seen, scale) = (self.trainer.seen_images, self.trainer.lr_scale / 2.0);
        self.rollbacks += 1;
        self.go_back_to(&checkpoint)?;
        self.trainer.lr_scale = scale;
        self.forget_outputs()?;
        self.make_outputs(Some(bar))?;
        let line = format!(
            "diverged at {:.1} kimg ({error:#}); back to {} with the learning rates times {scale} (rollback {} of {})",
            seen as f64 / 1000.0,
            self.kimg_text(),
            self.rollbacks,
            self.config().max_rollbacks,
        );
        self.journal.say(Some(bar), &line)?;
        // The checkpoint gets the new rates and the count, so that they outlive a kill.
        self.save_checkpoint().map(drop)
    }

    /// Puts everything into the state of a checkpoint, and statistics, metrics and later checkpoints with it. Until the state
    /// is known to fit, nothing in the folder changes.
    pub(super) fn go_back_to(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (record, path): (RunRecord, PathBuf) = checkpoint.read()?;
        state::restore(&mut self.trainer, &mut self.statistics, &record.trainer, state::read(&path)?).with_context(
            || format!("cannot go on from '{}'; begin a new run from a snapshot", checkpoint.folder().display()),
        )?;
        let seen_images = checkpoint.seen_images;
        // First, so that a kill in between leaves no checkpoint whose statistics are gone.
        self.checkpoints.forget_after(seen_images)?;
        self.journal.go_back_to(&record.journal)?;
        self.tick = Tick::resumed(&record.tick);
        self.rollbacks = self.rollbacks.max(record.rollbacks);
        // A better one may have taken its place meanwhile.
        self.best = record.best.filter(|best| self.folder.join(&best.snapshot).is_file());
        evaluate::save_best(&self.folder, self.best.as_ref())?;
        let measured_again = record.due.iter().any(|output| output.measures());
        evaluate::forget_from(&self.folder, if measured_again { seen_images } else { seen_images + 1 })?;
        self.due = record.due;
        self.loader = loader(self.config(), &self.dataset, self.trainer.seen_images)?;
        self.last_checkpoint = Instant::now();
        self.saved_images = seen_images;
        self.saved_best = self.best.clone();
        Ok(())
    }

    /// Removes grids and snapshots of a course that was given up, beyond the images seen now.
    pub(super) fn forget_outputs(&self) -> Result<()> {
        let seen_images = self.trainer.seen_images;
        for files in snapshot::all(&self.folder)? {
            // One without a readable manifest goes by its name.
            let of = Manifest::read(&files.manifest).map_or(files.kimg * 1000, |manifest| manifest.seen_images);
            if of > seen_images {
                files.remove()?;
            }
        }
        let context = || format!("cannot clean up in '{}'", self.folder.display());
        for entry in fs::read_dir(&self.folder).with_context(context)? {
            let path = entry.with_context(context)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let number = name.strip_prefix("fakes").and_then(|name| name.strip_suffix(".png")?.parse::<u64>().ok());
            if number.is_some_and(|number| number > seen_images / 1000) {
                fs::remove_file(&path).with_context(context)?;
            }
        }
        Ok(())
    }
}
