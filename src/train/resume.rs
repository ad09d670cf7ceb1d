//! Finding what a run can go on from, and whether it is still the same run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::evaluate::Best;
use super::journal::JournalPlace;
use super::networks::NetworkFiles;
use super::provenance::ParentFiles;
use super::run::{NewestOutputs, Output};
use super::run_dir::{self, Lock};
use super::state::TrainerRecord;
use super::tick::TickRecord;
use crate::config::Options;
use crate::io::checkpoint::{Checkpoint, Checkpoints};

/// What the manifest of a checkpoint says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub(super) trainer: TrainerRecord,
    pub(super) tick: TickRecord,
    pub(super) journal: JournalPlace,
    pub(super) rollbacks: u64,
    pub(super) best: Option<Best>,
    /// What a signal kept from being made.
    pub(super) due: Vec<Output>,
    /// None in checkpoints of rootgan before 2026-11-26.
    #[serde(default)]
    pub(super) newest: Option<NewestOutputs>,
    /// Nothing in those, either.
    #[serde(default)]
    pub(super) parents: ParentFiles,
    pub(super) total_seconds: f64,
    pub(super) pictures: String,
    pub(super) device: String,
    pub(super) threads: i32,
}

impl RunRecord {
    /// How long the run has taken.
    pub(super) fn total(&self) -> Duration {
        Duration::try_from_secs_f64(self.total_seconds).unwrap_or_default()
    }

    /// Whether the run has come to its end and everything was made.
    pub fn is_complete(&self, total_images: u64) -> bool {
        self.seen_images() >= total_images && self.due.is_empty()
    }

    /// Whether the numbers can be right.
    fn is_plausible(&self, checkpoint: &Checkpoint) -> bool {
        self.seen_images() == checkpoint.seen_images && self.trainer.is_plausible() && self.journal.is_plausible()
    }

    /// Images seen until then.
    pub fn seen_images(&self) -> u64 {
        self.trainer.seen_images
    }

    /// What keeps the result from being that of an uninterrupted run, on a device and with threads as given.
    pub fn differences(&self, device: &str, threads: i32) -> Vec<String> {
        let mut lines = Vec::new();
        if self.device != device {
            lines.push(format!("the run was on {} and goes on on {device}: not bit for bit the same", self.device));
        }
        if self.threads != threads {
            lines.push(format!(
                "the run had {} threads and goes on with {threads}: not bit for bit the same (OMP_NUM_THREADS)",
                self.threads
            ));
        }
        lines
    }

    /// Whether the pictures are those that the run began with.
    ///
    /// # Errors
    /// They are not.
    pub fn check_pictures(&self, fingerprint: &str, data: &Path) -> Result<()> {
        ensure!(
            self.pictures == fingerprint,
            "cannot go on: the pictures in '{}' are not those that the run began with (other names, labels, numbers or contents); \
             bring them back, or begin a new run from a snapshot of this one",
            data.display()
        );
        Ok(())
    }
}

/// A run that goes on.
pub struct Resumed {
    /// Its folder.
    pub folder: PathBuf,
    /// Where it goes on.
    pub checkpoint: Checkpoint,
    /// What that checkpoint says.
    pub record: RunRecord,
    /// Whether it was asked for, and what came after it is given up.
    pub goes_back: bool,
    /// Keeps other processes away.
    pub lock: Lock,
}

impl Resumed {
    /// Locks the folder of a run and finds the newest whole checkpoint; a damaged one is passed over and reported. `place`
    /// is the run's folder, or one checkpoint of it to go back to.
    ///
    /// # Errors
    /// No run, a run that another process works on, or no whole checkpoint.
    pub fn open(place: &Path) -> Result<(Self, Vec<String>)> {
        let chosen = Checkpoints::named(place);
        let (folder, chosen) = match &chosen {
            Some((run, seen_images)) => (run.as_path(), Some(*seen_images)),
            None => (place, None),
        };
        ensure!(folder.is_dir(), "cannot resume '{}': no such run directory; check the path", folder.display());
        ensure!(
            folder.join("checkpoints").is_dir(),
            "cannot resume '{}': there are no checkpoints in it; pass the folder of a run, such as runs/00000-...",
            folder.display()
        );
        let lock = run_dir::lock(folder)?;
        let mut all = Checkpoints::of(folder, 1).list()?;
        ensure!(
            !all.is_empty(),
            "cannot resume '{}': it has no checkpoints, having ended before its first one; delete it and begin a new run",
            folder.display()
        );
        if let Some(chosen) = chosen {
            let there: Vec<String> = all.iter().map(|one| one.folder().display().to_string()).collect();
            all.retain(|checkpoint| checkpoint.seen_images == chosen);
            ensure!(
                !all.is_empty(),
                "cannot resume from '{}': no such checkpoint; there are '{}'",
                place.display(),
                there.join("', '")
            );
        }
        let (mut remarks, is_chosen) = (Vec::new(), chosen.is_some());
        for checkpoint in all.into_iter().rev() {
            match checkpoint.read::<RunRecord>() {
                Ok((record, _)) if !record.is_plausible(&checkpoint) => {
                    remarks
                        .push(format!("passed over: the manifest in '{}' is damaged", checkpoint.folder().display()));
                }
                Ok((record, _)) => {
                    let folder = folder.to_owned();
                    return Ok((Self { folder, checkpoint, record, goes_back: is_chosen, lock }, remarks));
                }
                Err(error) => remarks.push(format!("passed over: {error:#}")),
            }
        }
        let damage = remarks.first().map_or("", String::as_str);
        ensure!(
            !is_chosen,
            "cannot resume from '{}': {damage}; take another one, or '{}'",
            place.display(),
            folder.display()
        );
        bail!(
            "cannot resume '{}': no checkpoint in it is whole; begin a new run from a snapshot or the first networks ({})",
            folder.display(),
            damage
        );
    }

    /// The modules that the state is put into.
    ///
    /// # Errors
    /// One that is missing or damaged.
    pub fn files(&self) -> Result<NetworkFiles> {
        let checkpoints = Checkpoints::of(&self.folder, 1);
        checkpoints.check_networks().with_context(|| format!("cannot resume '{}'", self.folder.display()))?;
        let networks = checkpoints.networks();
        Ok(NetworkFiles {
            generator: networks.join("G.pt"),
            generator_raw: None,
            discriminator: networks.join("D.pt"),
            z_dim: None,
        })
    }

    /// The run's options with `given` on top. What is said about each change.
    ///
    /// # Errors
    /// A change that was not allowed by `--override`, or no options.
    pub fn options(&self, given: Options, allowed: bool) -> Result<(Options, Vec<String>)> {
        let path = self.folder.join("training_options.json");
        let recorded = Options::from_file(&path)
            .context("the run has lost its options; bring the file back, or begin a new run from a snapshot")?;
        let changes = given.changes(&recorded);
        let texts: Vec<String> = changes.iter().map(|(key, before, now)| format!("{key} {before} -> {now}")).collect();
        let fixed = ["generator", "generator_raw", "discriminator", "z_dim", "cfg", "init_p", "outdir"];
        let without_effect = changes.iter().find(|(key, ..)| fixed.contains(&key.as_str()));
        if let Some((key, ..)) = without_effect {
            bail!(
                "cannot resume with another --{}: that is for the beginning of a run; begin a new one",
                key.replace('_', "-")
            );
        }
        ensure!(
            allowed || texts.is_empty(),
            "cannot resume with other options than the run has: {}; leave them out, or pass --override to change them",
            texts.join(", ")
        );
        let lines = texts.iter().map(|text| format!("overridden: {text}")).collect();
        Ok((given.over_file(recorded), lines))
    }
}
