//! A finetune run with its folder: the loop around [`Trainer::iterate`], and its outputs: log, statistics, grids,
//! snapshots, metrics, checkpoints.

mod begin;
pub mod checkpoint;
pub mod comparison;
pub mod evaluator;
mod feed;
pub mod folder;
mod follower;
pub mod journal;
pub mod launch;
pub mod networks;
pub mod numbering;
mod orders;
mod outputs;
mod preview;
mod production;
mod provenance;
mod schedule;
pub mod snapshot;
mod start;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use self::checkpoint::Keeper;
use self::feed::reals_of;
use self::folder::FolderLock;
use self::journal::{Journal, Log};
use self::orders::{Order, announce};
use self::outputs::Outputs;
use self::schedule::{Schedule, TickReport, losses_text};
use crate::config::RunSettings;
use crate::data::{Dataset, Loader};
use crate::system::gpu::Gpu;
use crate::system::panics::take_place;
use crate::system::signals::{Signal, StopRequest, Stopped};
use crate::system::ui::{Bar, duration_text, shell_command};
use crate::tensor::{panic_line, panic_place};
use crate::train::{Diverged, Statistics, Trainer};

pub use self::follower::follow;
pub use self::start::Start;

/// The time between two lines of progress, where there is no terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// The p above which transforms leak into the generator's pictures.
pub const HIGH_P: f64 = 0.85;

/// Trains to the end; returns the run's folder.
///
/// # Errors
/// A file that cannot be written, a picture that has gone, a network that fails, or divergence; [`Stopped`] where a
/// signal asked for it.
pub fn finetune(start: Start) -> Result<PathBuf> {
    let stop = StopRequest::listen()?;
    let mut log: Option<Log> = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut run = match start.resume {
            Some(_) => Run::resume(start, stop, &mut log)?,
            None => Run::begin(start, stop, &mut log)?,
        };
        run.train_and_end().map(|()| run.folder)
    }));
    // The caller shows the error; the log keeps it for whoever reads it later.
    let mut note = |line: &str| log.iter_mut().for_each(|log| log.note(line));
    match outcome {
        Ok(outcome) => {
            if let Err(error) = &outcome {
                let prefix = if error.is::<Stopped>() { "" } else { "error: " };
                note(&format!("{prefix}{error:#}"));
                if let Some(place) = panic_place(error) {
                    note(&place.describe());
                }
            }
            outcome
        }
        Err(panic) => {
            note(&format!("error: {}", panic_line(&*panic)));
            if let Some(place) = take_place() {
                note(&place.describe());
            }
            resume_unwind(panic)
        }
    }
}

/// A run between its start and its end.
struct Run {
    folder: PathBuf,
    settings: RunSettings,
    trainer: Trainer,
    dataset: Arc<Dataset>,
    loader: Loader,
    statistics: Statistics,
    journal: Journal,
    schedule: Schedule,
    outputs: Outputs,
    keeper: Keeper,
    gpu: Option<Gpu>,
    /// Whether torchrun has started the processes.
    by_torchrun: bool,
    stop: StopRequest,
    /// Keeps other processes away from the folder.
    _lock: FolderLock,
}

impl Run {
    /// Trains, and lets the other processes end too, where all are in step.
    fn train_and_end(&mut self) -> Result<()> {
        let outcome = self.train();
        let in_step = outcome.as_ref().map_or_else(|error| error.is::<Stopped>() || error.is::<Diverged>(), |()| true);
        if in_step {
            self.announce(Order::End)?;
        }
        outcome
    }

    /// Trains tick by tick until all images are seen, a signal comes, or something fails.
    fn train(&mut self) -> Result<()> {
        let bar = Bar::with_interval(self.settings.total_images, "finetuning", PROGRESS_INTERVAL);
        bar.begin_at(self.trainer.seen_images);
        // Pending outputs belong to the current weights, so stop before training changes them.
        if let Some(signal) = self.stop.received().filter(|_| self.outputs.are_pending()) {
            return Err(self.stopped(signal)?.into());
        }
        while self.trainer.seen_images < self.settings.total_images {
            if let Err(error) = self.iterate(&bar) {
                self.after_failure(error, &bar)?;
                continue;
            }
            let seen_images = self.trainer.seen_images;
            let done = seen_images >= self.settings.total_images;
            if done || self.schedule.tick_is_over(seen_images, self.settings.tick_images) {
                self.end_tick(&bar, done)?;
            }
            // A signal that comes when everything is made changes nothing.
            let signal = self.stop.received().filter(|_| !done || self.outputs.are_pending());
            if done || signal.is_some() || self.checkpoint_is_due() {
                let saved = self.save_checkpoint()?;
                if done && !saved {
                    let warning = "warning: the last steps were skipped, so there is no checkpoint of the end";
                    self.journal.say(Some(&bar), warning)?;
                }
            }
            if let Some(signal) = signal {
                return Err(self.stopped(signal)?.into());
            }
        }
        bar.finish();
        let line = format!("done: {} in {}", self.kimg_text(), duration_text(self.schedule.elapsed()));
        self.journal.say(None, &line)
    }

    /// Trains on the next batch of pictures.
    fn iterate(&mut self, bar: &Bar) -> Result<()> {
        self.announce(Order::Iterate)?;
        let reals = reals_of(&self.loader.next()?, &self.trainer, &self.dataset);
        let outcome = self.trainer.iterate(&reals, &mut self.statistics);
        for notice in self.trainer.take_notices() {
            self.journal.say(Some(bar), &notice)?;
        }
        outcome?;
        bar.inc(self.settings.train.batch);
        Ok(())
    }

    /// Writes the tick's line, statistics and scalars, and makes the outputs that are due.
    fn end_tick(&mut self, bar: &Bar, done: bool) -> Result<()> {
        let report = TickReport {
            seen_images: self.trainer.seen_images,
            augment_p: self.trainer.augment_p(),
            lr_scale: self.trainer.lr_scale,
            device: self.trainer.networks.g.script.device,
            gpu_bytes: self.gpu.as_ref().and_then(Gpu::used_bytes),
        };
        self.gather_from_all()?;
        let line = self.schedule.tell(&report, &mut self.statistics);
        let summaries = self.statistics.take();
        self.journal.tick(report.seen_images, &summaries)?;
        self.journal.say(Some(bar), &line)?;
        if report.augment_p > HIGH_P && self.settings.train.augment.ada.is_some() {
            let warning = "augmentation is near its limit: the generator may show it; more pictures would help, or a higher --target";
            let p = report.augment_p;
            self.journal.say(Some(bar), &format!("warning: augment p is {p:.3}: {warning}"))?;
        }
        bar.set_message(losses_text(&summaries));
        let due = self.schedule.outputs_of_tick(&self.settings, done);
        self.outputs.pending.extend(due);
        self.schedule.next_tick(report.seen_images);
        self.make_outputs(Some(bar))
    }

    /// Has the other processes take part in the next step, and learns of the signals that came to them.
    fn announce(&self, order: Order) -> Result<()> {
        announce(&self.trainer.world, Some(order), &self.stop).map(drop)
    }

    /// Gives the state of this process to the others.
    fn lead(&mut self) -> Result<()> {
        self.announce(Order::Follow)?;
        self.trainer.follow_first(&mut self.statistics)
    }

    /// Collects the statistics of all processes, and makes sure that they have the same weights still.
    fn gather_from_all(&mut self) -> Result<()> {
        let world = Rc::clone(&self.trainer.world);
        if world.size() == 1 {
            return Ok(());
        }
        self.announce(Order::Gather)?;
        self.trainer.gather(&mut self.statistics)?;
        let all = world.gather(&self.trainer.fingerprint())?;
        let differs = all.iter().position(|one| *one != all[0]);
        match differs {
            Some(rank) => bail!(
                "process {rank} has other weights than process 0 at {}: no result of this run can be trusted since the last \
                 checkpoint; resume it, and please report it where that happens again",
                self.kimg_text()
            ),
            None => Ok(()),
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        // A best snapshot is a reason too, where its own checkpoint was left out.
        let best = self.outputs.best.as_ref().is_some_and(|best| best.seen_images() > self.keeper.saved_images);
        best || self.keeper.last.elapsed() >= self.settings.checkpoint_interval
    }

    fn stopped(&self, signal: Signal) -> Result<Stopped> {
        let (kimg, resume) = (self.kimg_text(), self.resume_command());
        let newest = self.keeper.store.list()?.pop().map_or(0, |checkpoint| checkpoint.seen_images);
        let from = match newest == self.trainer.seen_images {
            true => String::new(),
            false => format!(" (from {:.1} kimg: the last steps were skipped)", newest as f64 / 1000.0),
        };
        Ok(Stopped { signal, message: format!("stopped by {signal} at {kimg}; to go on{from}: {resume}") })
    }

    /// Returns the command that goes on with the run, in as many processes as there are.
    fn resume_command(&self) -> String {
        let words = ["rootgan".as_ref(), "finetune".as_ref(), "--resume".as_ref(), self.folder.as_os_str()];
        match self.trainer.world.size() {
            1 => shell_command(words),
            _ if self.by_torchrun => format!("the same torchrun command with {}", shell_command(words)),
            size => {
                let size = size.to_string();
                shell_command(words.into_iter().chain(["--processes".as_ref(), size.as_ref()]))
            }
        }
    }

    fn kimg_text(&self) -> String {
        format!("{:.1} kimg", self.trainer.seen_images as f64 / 1000.0)
    }
}
