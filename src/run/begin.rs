//! Begins a run: from nothing in a new folder, or from a checkpoint.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Run;
use super::checkpoint::{Checkpoints, Keeper, Resumed};
use super::evaluator::Evaluator;
use super::feed::{classes_of, loader};
use super::folder::{self, FolderLock};
use super::journal::{Journal, Log};
use super::networks::save_modules;
use super::outputs::{Output, Outputs};
use super::preview::Preview;
use super::provenance::{self, ParentFiles};
use super::schedule::Schedule;
use super::start::Start;
use crate::config::RunSettings;
use crate::data::Dataset;
use crate::files::atomic::{write_atomically, write_json};
use crate::system::signals::StopRequest;
use crate::tensor::device;
use crate::tensor::world::World;
use crate::train::{Networks, Statistics, Trainer};

/// The parts that a new run and a resumed one make in different ways.
struct Parts {
    settings: RunSettings,
    networks: Networks,
    dataset: Dataset,
    folder: PathBuf,
    lock: FolderLock,
    journal: Journal,
    preview: Preview,
    parents: ParentFiles,
    schedule: Schedule,
    evaluator: Option<Evaluator>,
    by_torchrun: bool,
    stop: StopRequest,
    world: Rc<World>,
}

impl Run {
    /// Begins a run in a new folder, up to its first grid and metrics; `log` is there as soon as the folder is.
    pub(super) fn begin(start: Start, stop: StopRequest, log: &mut Option<Log>) -> Result<Self> {
        let schedule = Schedule::starting_from(Duration::ZERO);
        let Start { settings, launch, world, mut networks, dataset, evaluator, remarks, bad_pictures, folder, .. } =
            start;
        let by_torchrun = launch.is_some();
        let folder = match folder {
            Some(folder) => folder::create_at(&folder)?,
            None => folder::create(&settings.outdir, dataset.name(), &settings.desc)?,
        };
        let lock = folder::lock(&folder)?;
        if let Some(launch) = launch {
            launch.save(&folder)?;
        }
        let mut journal = Journal::create(&folder)?;
        *log = Some(journal.log()?);
        for remark in &remarks {
            journal.say(None, remark)?;
        }
        list_bad_pictures(&folder, &bad_pictures, &mut journal)?;
        journal.say(None, &format!("run directory: {}", folder.display()))?;
        write_json(&folder.join("training_options.json"), settings.effective())?;
        let checkpoints = Checkpoints::in_run(&folder, settings.keep_checkpoints);
        checkpoints.create()?;
        save_modules(&mut networks, &checkpoints.networks())?;
        checkpoints.seal_networks()?;
        let preview = preview(&settings, &networks, &dataset);
        preview.save_reals(&folder.join("reals.png"), &dataset, settings.train.seed)?;
        let parents = ParentFiles::hash(&networks)?;
        let mut run = Self::assemble(Parts {
            settings,
            networks,
            dataset,
            folder,
            lock,
            journal,
            preview,
            parents,
            schedule,
            evaluator,
            by_torchrun,
            stop,
            world,
        })?;
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
    pub(super) fn resume(start: Start, stop: StopRequest, log: &mut Option<Log>) -> Result<Self> {
        let Start { settings, launch, world, networks, dataset, evaluator, remarks, bad_pictures, resume, .. } = start;
        let resumed = resume.context("a run that goes on has a checkpoint")?;
        let has_new_rates = resumed.has_new_rates(&settings)?;
        let Resumed { folder, checkpoint, record, lock } = resumed;
        folder::remove_leftovers(&folder)?;
        Checkpoints::in_run(&folder, settings.keep_checkpoints).remove_leftovers()?;
        let mut journal = Journal::reopen(&folder, &record.journal)?;
        *log = Some(journal.log()?);
        for remark in &remarks {
            journal.say(None, remark)?;
        }
        list_bad_pictures(&folder, &bad_pictures, &mut journal)?;
        let preview = preview(&settings, &networks, &dataset);
        let schedule = Schedule::resumed(record.total(), &record.tick);
        let by_torchrun = launch.is_some();
        let mut run = Self::assemble(Parts {
            settings,
            networks,
            dataset,
            folder,
            lock,
            journal,
            preview,
            parents: record.parents,
            schedule,
            evaluator,
            by_torchrun,
            stop,
            world,
        })?;
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

    fn assemble(parts: Parts) -> Result<Self> {
        let Parts { settings, mut networks, dataset, folder, journal, preview, parents, world, .. } = parts;
        networks.set_precision(settings.precision)?;
        let provenance = provenance::of_run(&settings, &networks, &dataset, &parents);
        let classes = classes_of(&dataset);
        let dataset = Arc::new(dataset);
        let loader = loader(&settings, &dataset, 0, &world)?;
        Ok(Self {
            keeper: Keeper::new(&folder, settings.keep_checkpoints),
            gpu: device::gpu(networks.g.script.device),
            trainer: Trainer::in_world(networks, settings.train.clone(), classes, world),
            outputs: Outputs::new(preview, parts.evaluator, provenance, parents),
            statistics: Statistics::default(),
            folder,
            settings,
            dataset,
            loader,
            journal,
            schedule: parts.schedule,
            by_torchrun: parts.by_torchrun,
            stop: parts.stop,
            _lock: parts.lock,
        })
    }
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

fn preview(settings: &RunSettings, networks: &Networks, dataset: &Dataset) -> Preview {
    let train = &settings.train;
    Preview::new(settings.grid, &networks.g, classes_of(dataset).as_ref(), train.seed, train.micro_batch)
}
