//! The loop of a run: batches in, ticks, grids, snapshots and checkpoints out; from the beginning or from a checkpoint.

mod back;
mod outputs;

pub(super) use outputs::NewestOutputs;
pub use outputs::Output;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::draw::{Reals, classes_of};
use super::evaluate::{Best, Judge};
use super::journal::Journal;
use super::journal::stats::Statistics;
use super::networks::Networks;
use super::preview::Preview;
use super::provenance::{self, ParentFiles};
use super::resume::{Resumed, RunRecord};
use super::run_dir;
use super::state;
use super::step::Trainer;
use super::tick::{Clock, Report, Tick, losses_text};
use crate::config::RunConfig;
use crate::data::{Batch, Dataset, Loader, Sampler};
use crate::io::atomic::{write_atomically, write_json};
use crate::io::checkpoint::Checkpoints;
use crate::signals::{Signal, StopRequest, Stopped};
use crate::tensor::device;
use crate::tensor::gpu::Gpu;
use crate::tensor::images::from_bytes;
use crate::tensor::labels::one_hot;
use crate::tensor::seed::{Stream, derive};
use crate::ui::{Bar, duration_text, shell_command};

/// Batches that wait decoded.
const PREFETCH: usize = 3;
/// Where no terminal is, the time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// Above it, transforms leak into the generator's pictures.
const HIGH_P: f64 = 0.85;

/// Everything a run starts from.
pub struct Finetune {
    /// The settings.
    pub config: RunConfig,
    /// The loaded pair.
    pub networks: Networks,
    /// The pictures, of the pair's resolution and channels.
    pub dataset: Dataset,
    /// What was found out on the way here, for the log.
    pub remarks: Vec<String>,
    /// Every picture that was left out, for a list in the folder.
    pub bad_pictures: Vec<String>,
    /// The folder of a run that begins, where it is not to be a new one in `--outdir`.
    pub folder: Option<PathBuf>,
    /// The run that goes on, if none begins.
    pub resume: Option<Resumed>,
}

/// Trains to the end; returns the run's folder.
///
/// # Errors
/// A file that cannot be written, a picture that has gone, a network that fails, or divergence; [`Stopped`] where a
/// signal asked for it.
pub fn finetune(start: Finetune) -> Result<PathBuf> {
    let stop = StopRequest::listen()?;
    let mut run = match start.resume {
        Some(_) => Run::resume(start, stop)?,
        None => Run::begin(start, stop)?,
    };
    let outcome = run.train();
    if let Err(error) = &outcome {
        let prefix = if error.is::<Stopped>() { "" } else { "error: " };
        // It is shown by the caller; whoever reads the log later wants it too.
        run.journal.note(&format!("{prefix}{error:#}"));
    }
    outcome.map(|()| run.folder)
}

struct Run {
    clock: Clock,
    folder: PathBuf,
    journal: Journal,
    trainer: Trainer,
    statistics: Statistics,
    tick: Tick,
    preview: Preview,
    dataset: Arc<Dataset>,
    loader: Loader,
    checkpoints: Checkpoints,
    last_checkpoint: Instant,
    /// Images of the newest checkpoint.
    saved_images: u64,
    /// The best snapshot that it names.
    saved_best: Option<Best>,
    rollbacks: u64,
    judge: Option<Judge>,
    best: Option<Best>,
    /// What is still to be made for the folder.
    due: Vec<Output>,
    newest: NewestOutputs,
    parents: ParentFiles,
    provenance: Value,
    gpu: Option<Gpu>,
    stop: StopRequest,
    /// Keeps other processes away from the folder.
    _lock: run_dir::Lock,
}

impl Run {
    fn begin(start: Finetune, stop: StopRequest) -> Result<Self> {
        let clock = Clock::starting_from(Duration::ZERO);
        let Finetune { config, mut networks, dataset, remarks, bad_pictures, folder, .. } = start;
        let folder = match folder {
            Some(folder) => run_dir::create_at(&folder)?,
            None => run_dir::create(&config.outdir, dataset.name(), &config.desc)?,
        };
        let lock = run_dir::lock(&folder)?;
        let mut journal = Journal::create(&folder)?;
        for remark in &remarks {
            journal.say(None, remark)?;
        }
        list_bad_pictures(&folder, &bad_pictures, &mut journal)?;
        journal.say(None, &format!("run directory: {}", folder.display()))?;
        write_json(&folder.join("training_options.json"), config.effective())?;
        let checkpoints = Checkpoints::of(&folder, config.keep_checkpoints);
        checkpoints.create()?;
        networks.save_modules(&checkpoints.networks())?;
        checkpoints.seal_networks()?;
        let preview = preview(&config, &networks, &dataset);
        preview.save_reals(&folder.join("reals.png"), &dataset, config.seed)?;
        let tick = Tick::first(clock.elapsed());
        let parents = ParentFiles::of(&networks)?;
        let mut run =
            Self::assemble(config, networks, parents, dataset, folder, journal, preview, clock, tick, stop, lock)?;
        run.due = vec![Output::FirstGrid, Output::FirstMetrics];
        // From now on nothing is lost, however long these take.
        run.save_checkpoint()?;
        run.make_outputs(None)?;
        run.save_checkpoint()?;
        Ok(run)
    }

    fn resume(start: Finetune, stop: StopRequest) -> Result<Self> {
        let Finetune { config, networks, dataset, remarks, bad_pictures, resume, .. } = start;
        let Resumed { folder, checkpoint, record, goes_back, lock } =
            resume.context("a run that goes on has a checkpoint")?;
        run_dir::remove_leftovers(&folder)?;
        Checkpoints::of(&folder, config.keep_checkpoints).remove_leftovers()?;
        let mut journal = Journal::reopen(&folder, &record.journal)?;
        for remark in &remarks {
            journal.say(None, remark)?;
        }
        list_bad_pictures(&folder, &bad_pictures, &mut journal)?;
        let preview = preview(&config, &networks, &dataset);
        let clock = Clock::starting_from(record.total());
        let (tick, parents) = (Tick::resumed(&record.tick), record.parents);
        let mut run =
            Self::assemble(config, networks, parents, dataset, folder, journal, preview, clock, tick, stop, lock)?;
        run.go_back_to(&checkpoint)?;
        if goes_back {
            run.forget_outputs()?;
        }
        // Only now: options that do not fit must not become the run's.
        write_json(&run.folder.join("training_options.json"), run.config().effective())?;
        run.journal.say(None, &format!("resumed at {} in '{}'", run.kimg_text(), run.folder.display()))?;
        if !run.due.is_empty() {
            run.make_outputs(None)?;
            run.save_checkpoint()?;
        }
        Ok(run)
    }

    #[allow(clippy::too_many_arguments)] // The parts of a run; each is made differently by the two callers.
    fn assemble(
        config: RunConfig,
        mut networks: Networks,
        parents: ParentFiles,
        dataset: Dataset,
        folder: PathBuf,
        journal: Journal,
        preview: Preview,
        clock: Clock,
        tick: Tick,
        stop: StopRequest,
        lock: run_dir::Lock,
    ) -> Result<Self> {
        networks.set_precision(config.precision)?;
        let provenance = provenance::of_run(&config, &networks, &dataset, &parents);
        let checkpoints = Checkpoints::of(&folder, config.keep_checkpoints);
        let classes = classes_of(&dataset);
        let judge = Judge::of(&config, &dataset, &networks.g_ema, &stop)?;
        let dataset = Arc::new(dataset);
        let loader = loader(&config, &dataset, 0)?;
        let gpu = Gpu::of(networks.g.script.device);
        let trainer = Trainer::new(networks, config, classes);
        Ok(Self {
            clock,
            folder,
            journal,
            trainer,
            statistics: Statistics::default(),
            tick,
            preview,
            dataset,
            loader,
            checkpoints,
            last_checkpoint: Instant::now(),
            saved_images: 0,
            saved_best: None,
            rollbacks: 0,
            judge,
            best: None,
            due: Vec::new(),
            newest: NewestOutputs::default(),
            parents,
            provenance,
            gpu,
            stop,
            _lock: lock,
        })
    }

    /// The loop.
    fn train(&mut self) -> Result<()> {
        let bar = Bar::with_interval(self.config().total_images, "finetuning", PROGRESS_INTERVAL);
        bar.inc(self.trainer.seen_images);
        // What is due is due of these weights.
        if let Some(signal) = self.stop.received().filter(|_| !self.due.is_empty()) {
            return Err(self.stopped(signal)?.into());
        }
        while self.trainer.seen_images < self.config().total_images {
            if let Err(error) = self.iterate(&bar) {
                self.after_failure(error, &bar)?;
                continue;
            }
            let seen = self.trainer.seen_images;
            let done = seen >= self.config().total_images;
            if done || self.tick.is_over(seen, self.config().tick_images) {
                self.end_tick(&bar, done)?;
            }
            // One that comes when everything is made changes nothing.
            let signal = self.stop.received().filter(|_| !done || !self.due.is_empty());
            // Also one whose own checkpoint was left out.
            let is_best = self.best.as_ref().is_some_and(|best| best.seen_images() > self.saved_images);
            if done
                || is_best
                || signal.is_some()
                || self.last_checkpoint.elapsed() >= self.config().checkpoint_interval
            {
                let saved = self.save_checkpoint()?;
                if done && !saved {
                    let warning = "warning: the last steps were left out, so there is no checkpoint of the end";
                    self.journal.say(Some(&bar), warning)?;
                }
            }
            if let Some(signal) = signal {
                return Err(self.stopped(signal)?.into());
            }
        }
        bar.finish();
        let line = format!("done: {} in {}", self.kimg_text(), duration_text(self.clock.elapsed()));
        self.journal.say(None, &line)
    }

    fn iterate(&mut self, bar: &Bar) -> Result<()> {
        let Batch { pixels, classes } = self.loader.next()?;
        let (g, side) = (&self.trainer.networks.g, i64::from(self.dataset.resolution()));
        let (c_dim, device) = (g.c_dim(), g.script.device);
        let shape = [self.config().batch as i64, i64::from(self.dataset.channels()), side, side];
        let c = classes.map(|classes| one_hot(&classes, c_dim, device));
        let reals = Reals { images: from_bytes(&pixels, shape, device), c };
        let outcome = self.trainer.iterate(&reals, &mut self.statistics);
        for notice in self.trainer.take_notices() {
            self.journal.say(Some(bar), &notice)?;
        }
        outcome?;
        bar.inc(self.config().batch);
        Ok(())
    }

    /// The tick's line, statistics and scalars; grid and snapshot where they are due.
    fn end_tick(&mut self, bar: &Bar, done: bool) -> Result<()> {
        let report = Report {
            seen_images: self.trainer.seen_images,
            total: self.clock.elapsed(),
            augment_p: self.trainer.augment_p(),
            lr_scale: self.trainer.lr_scale,
            device: self.trainer.networks.g.script.device,
            gpu_bytes: self.gpu.as_ref().and_then(Gpu::used_bytes),
        };
        let line = report.tell(&self.tick, &mut self.statistics);
        let summaries = self.statistics.take();
        self.journal.tick(report.seen_images, &summaries)?;
        self.journal.say(Some(bar), &line)?;
        if report.augment_p > HIGH_P && self.config().augment.ada.is_some() {
            let warning = "augmentation is near its limit: the generator may show it; more pictures would help, or a higher --target";
            let p = report.augment_p;
            self.journal.say(Some(bar), &format!("warning: augment p is {p:.3}: {warning}"))?;
        }
        bar.set_message(losses_text(&summaries));
        let maintenance = Instant::now();
        if done || self.tick.is_occasion(self.config().image_ticks) {
            self.due.push(Output::Grid);
        }
        if done || self.tick.is_occasion(self.config().snapshot_ticks) {
            self.due.extend([Output::Snapshot, Output::Metrics]);
        }
        self.make_outputs(Some(bar))?;
        self.tick = self.tick.next(report.seen_images, maintenance.elapsed());
        Ok(())
    }

    /// Everything that it takes to go on. A state that is none to go back to is not written: false, and the next iteration
    /// tries again.
    fn save_checkpoint(&mut self) -> Result<bool> {
        let sound = state::is_sound(&self.trainer);
        if sound {
            let (trainer, tensors) = state::collect(&self.trainer, &self.statistics);
            let record = RunRecord {
                trainer,
                tick: self.tick.record(),
                journal: self.journal.place()?,
                rollbacks: self.rollbacks,
                best: self.best.clone(),
                due: self.due.clone(),
                newest: Some(self.newest),
                parents: self.parents.clone(),
                total_seconds: self.clock.elapsed().as_secs_f64(),
                pictures: self.dataset.fingerprint().to_owned(),
                device: device::name(self.trainer.networks.g.script.device),
                threads: tch::get_num_threads(),
            };
            let best = self.best.as_ref().map(Best::seen_images);
            self.checkpoints.write(self.trainer.seen_images, best, &record, |path| state::write(path, &tensors))?;
            self.last_checkpoint = Instant::now();
            self.saved_images = self.trainer.seen_images;
            self.saved_best = self.best.clone();
        }
        Ok(sound)
    }

    fn stopped(&self, signal: Signal) -> Result<Stopped> {
        let (kimg, resume) = (self.kimg_text(), self.resume_command());
        let newest = self.checkpoints.list()?.pop().map_or(0, |checkpoint| checkpoint.seen_images);
        let from = match newest == self.trainer.seen_images {
            true => String::new(),
            false => format!(" (from {:.1} kimg: the last steps were left out)", newest as f64 / 1000.0),
        };
        Ok(Stopped { signal, message: format!("stopped by {signal} at {kimg}; to go on{from}: {resume}") })
    }

    fn resume_command(&self) -> String {
        shell_command(["rootgan".as_ref(), "finetune".as_ref(), "--resume".as_ref(), self.folder.as_os_str()])
    }

    fn config(&self) -> &RunConfig {
        self.trainer.config()
    }

    fn kimg_text(&self) -> String {
        format!("{:.1} kimg", self.trainer.seen_images as f64 / 1000.0)
    }
}

/// Names every picture that was left out in `bad_pictures.txt`; the log has only the first of them.
fn list_bad_pictures(folder: &Path, bad_pictures: &[String], journal: &mut Journal) -> Result<()> {
    let path = folder.join("bad_pictures.txt");
    if bad_pictures.is_empty() {
        // That of an earlier attempt, before they were repaired.
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    write_atomically(&path, |file| Ok(bad_pictures.iter().try_for_each(|line| writeln!(file, "{line}"))?))?;
    journal.say(None, &format!("every unreadable picture is named in '{}'", path.display()))
}

fn preview(config: &RunConfig, networks: &Networks, dataset: &Dataset) -> Preview {
    Preview::new(config.grid, &networks.g, classes_of(dataset).as_ref(), config.seed, config.micro_batch)
}

fn loader(config: &RunConfig, dataset: &Arc<Dataset>, seen_images: u64) -> Result<Loader> {
    let order = Sampler::new(dataset.len(), config.xflip, derive(config.seed, 0, Stream::Sampler, 0));
    Loader::new(Arc::clone(dataset), order, config.batch as usize, seen_images, PREFETCH)
}
