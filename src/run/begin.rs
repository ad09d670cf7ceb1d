//! Begins a run: from nothing in a new folder, or from a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Run;
use super::checkpoint::{Checkpoints, Keeper, Resumed};
use super::feed::{classes_of, loader};
use super::folder::{self, FolderLock};
use super::journal::{Journal, Log};
use super::networks::save_modules;
use super::outputs::{Output, Outputs};
use super::preview::Preview;
use super::provenance::{self, ParentFiles};
use super::schedule::Schedule;
use super::start::Start;
use crate::files::atomic::{write_atomically, write_json};
use crate::system::signals::StopRequest;
use crate::tensor::device;
use crate::train::{Statistics, Trainer};

/// The parts that a new run and a resumed one make in different ways.
struct Parts {
    folder: PathBuf,
    lock: FolderLock,
    journal: Journal,
    preview: Preview,
    parents: ParentFiles,
    schedule: Schedule,
}

impl Run {
    /// Begins a run in a new folder, up to its first grid and metrics; `log` is there as soon as the folder is.
    pub(super) fn begin(mut start: Start, stop: StopRequest, log: &mut Option<Log>) -> Result<Self> {
        let schedule = Schedule::starting_from(Duration::ZERO);
        let folder = match &start.folder {
            Some(folder) => folder::create_at(folder)?,
            None => folder::create(&start.settings.outdir, start.dataset.name(), &start.settings.desc)?,
        };
        let lock = folder::lock(&folder)?;
        if let Some(launch) = &start.launch {
            launch.save(&folder)?;
        }
        let mut journal = Journal::create(&folder)?;
        *log = Some(journal.log()?);
        tell_of(&start, &folder, &mut journal)?;
        journal.say(None, &format!("run directory: {}", folder.display()))?;
        write_json(&folder.join("training_options.json"), start.settings.effective())?;
        let checkpoints = Checkpoints::in_run(&folder, start.settings.keep_checkpoints);
        checkpoints.create()?;
        save_modules(&mut start.networks, &checkpoints.networks())?;
        checkpoints.seal_networks()?;
        let preview = preview(&start);
        preview.save_reals(&folder.join("reals.png"), &start.dataset, start.settings.train.seed)?;
        let parents = ParentFiles::hash(&start.networks)?;
        let parts = Parts { folder, lock, journal, preview, parents, schedule };
        let mut run = Self::assemble(start, parts, stop)?;
        run.lead()?;
        run.schedule.begin_first_tick();
        run.outputs.pending = vec![Output::FirstGrid, Output::FirstMetrics];
        // Once the checkpoint is there nothing is lost, however long these take.
        run.save_checkpoint()?;
        run.make_outputs(None)?;
        run.save_checkpoint()?;
        Ok(run)
    }

    /// Goes on from a checkpoint; `log` is there as soon as the journal is open.
    pub(super) fn resume(mut start: Start, stop: StopRequest, log: &mut Option<Log>) -> Result<Self> {
        let resumed = start.resume.take().context("a run that goes on has a checkpoint")?;
        let has_new_rates = resumed.has_new_rates(&start.settings)?;
        let Resumed { folder, checkpoint, record, lock } = resumed;
        folder::remove_leftovers(&folder)?;
        Checkpoints::in_run(&folder, start.settings.keep_checkpoints).remove_leftovers()?;
        let mut journal = Journal::reopen(&folder, &record.journal)?;
        *log = Some(journal.log()?);
        tell_of(&start, &folder, &mut journal)?;
        let (preview, schedule) = (preview(&start), Schedule::resumed(record.total(), &record.tick));
        let parts = Parts { folder, lock, journal, preview, parents: record.parents, schedule };
        let mut run = Self::assemble(start, parts, stop)?;
        run.go_back_to(&checkpoint, has_new_rates.then_some(1.0))?;
        // The options are written only now, so that options that do not fit never become the run's.
        write_json(&run.folder.join("training_options.json"), run.settings.effective())?;
        run.journal.say(None, &format!("resumed at {} in '{}'", run.kimg_text(), run.folder.display()))?;
        run.tell_of_rates(has_new_rates, record.trainer.lr_scale)?;
        if run.outputs.are_pending() {
            run.make_outputs(None)?;
            run.save_checkpoint()?;
        }
        Ok(run)
    }

    /// Says that rollbacks have lowered the learning rates; where the user has given new ones, these hold as they are, and
    /// rollbacks are counted anew.
    fn tell_of_rates(&mut self, are_new: bool, scale: f64) -> Result<()> {
        if scale >= 1.0 {
            return Ok(());
        }
        if !are_new {
            let rollbacks = self.keeper.rollbacks;
            return self.journal.say(None, &format!("learning rates times {scale} since rollback {rollbacks}"));
        }
        self.keeper.rollbacks = 0;
        self.journal.say(None, "the new learning rates hold as they are, and rollbacks are counted anew")?;
        // Otherwise a kill would bring the factor back, for rates that it was not made for.
        self.save_checkpoint().map(drop)
    }

    fn assemble(start: Start, parts: Parts, stop: StopRequest) -> Result<Self> {
        let Start { settings, launch, world, mut networks, dataset, evaluator, .. } = start;
        let Parts { folder, lock, journal, preview, parents, schedule } = parts;
        networks.set_precision(settings.precision)?;
        let provenance = provenance::of_run(&settings, &networks, &dataset, &parents);
        let classes = classes_of(&dataset);
        let dataset = Arc::new(dataset);
        let loader = loader(&settings, &dataset, 0, &world)?;
        Ok(Self {
            keeper: Keeper::new(&folder, settings.keep_checkpoints),
            gpu: device::gpu(networks.g.script.device),
            trainer: Trainer::in_world(networks, settings.train.clone(), classes, world),
            outputs: Outputs::new(preview, evaluator, provenance, parents),
            statistics: Statistics::default(),
            folder,
            settings,
            dataset,
            loader,
            journal,
            schedule,
            by_torchrun: launch.is_some(),
            stop,
            _lock: lock,
        })
    }
}

/// Tells the terminal and the log of options and pictures.
fn tell_of(start: &Start, folder: &Path, journal: &mut Journal) -> Result<()> {
    start.remarks.iter().try_for_each(|remark| journal.say(None, remark))?;
    list_bad_pictures(folder, &start.bad_pictures, journal)
}

/// Names every picture that was left out in `bad_pictures.txt`; the log has only the first of them.
fn list_bad_pictures(folder: &Path, bad_pictures: &[String], journal: &mut Journal) -> Result<()> {
    let path = folder.join("bad_pictures.txt");
    if bad_pictures.is_empty() {
        // The list may be left from an earlier attempt, before the pictures were repaired.
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    write_atomically(&path, |file| Ok(bad_pictures.iter().try_for_each(|line| writeln!(file, "{line}"))?))?;
    journal.say(None, &format!("every unreadable picture is named in '{}'", path.display()))
}

fn preview(start: &Start) -> Preview {
    let (settings, classes) = (&start.settings, classes_of(&start.dataset));
    let train = &settings.train;
    Preview::new(settings.grid, &start.networks.g, classes.as_ref(), train.seed, train.micro_batch)
}
