//! What a run makes at a tick: grids, snapshots, their metrics.

use std::io::ErrorKind;

use anyhow::{Context, Result};
use serde_json::json;

use super::Run;
use crate::io::snapshot::{self, SnapshotFiles};
use crate::metrics::Outcome;
use crate::tensor::caught;
use crate::train::evaluate;
use crate::ui::Bar;

impl Run {
    pub(super) fn save_grid(&mut self) -> Result<()> {
        let path = self.folder.join(format!("fakes{:06}.png", self.trainer.seen_images / 1000));
        self.preview.save_fakes(&path, &self.trainer.networks.g_ema)
    }

    pub(super) fn save_snapshot(&mut self) -> Result<SnapshotFiles> {
        let seen_images = self.trainer.seen_images;
        let files = SnapshotFiles::at(&self.folder, seen_images / 1000);
        // Ticks below 1 kimg write to the same names: without its manifest a half-replaced snapshot does not count.
        match std::fs::remove_file(&files.manifest) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace '{}'", files.manifest.display()));
            }
            _ => {}
        }
        let mut provenance = self.provenance.clone();
        provenance["seen_images"] = json!(seen_images);
        provenance["augment_p"] = json!(self.trainer.augment_p());
        self.trainer.networks.save(&files, &provenance)?;
        files.write_manifest(seen_images, provenance)?;
        Ok(files)
    }

    /// The metrics of what the run starts from: no snapshot, and so not the best one.
    pub(super) fn measure_the_start(&mut self) -> Result<()> {
        self.outcomes(None, "the start").map(|_| ())
    }

    /// The metrics of a snapshot, which may be the best so far.
    pub(super) fn measure(&mut self, bar: &Bar, files: &SnapshotFiles) -> Result<()> {
        let kimg = self.trainer.seen_images as f64 / 1000.0;
        let name = files.manifest.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcomes = self.outcomes(Some(bar), &name)?;
        let Some(judge) = &self.judge else {
            return Ok(());
        };
        let best = judge.better(self.best.take(), &outcomes, &name, kimg);
        if let Some(best) = &best {
            evaluate::save_best(&self.folder, best)?;
        }
        self.best = best;
        Ok(())
    }

    /// All metrics of the averaged generator; none where there are none. A run does not end because one cannot be computed.
    pub(super) fn outcomes(&mut self, bar: Option<&Bar>, name: &str) -> Result<Vec<Outcome>> {
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
            Err(error) => {
                self.journal.say(bar, &format!("warning: the metrics at {kimg:.1} kimg failed: {error:#}"))?;
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn remove_old_snapshots(&self) -> Result<()> {
        let keep = self.config().keep_snapshots;
        if keep == 0 {
            return Ok(());
        }
        let all = snapshot::all(&self.folder)?;
        let best = self.best.as_ref().map(|best| self.folder.join(&best.snapshot));
        let surplus = all.len().saturating_sub(keep);
        all[..surplus].iter().filter(|files| Some(&files.manifest) != best.as_ref()).try_for_each(SnapshotFiles::remove)
    }
}
