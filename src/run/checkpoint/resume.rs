//! Finds the checkpoint that a run goes on from, and the run's options.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tch::Device;

use super::record::RunRecord;
use super::store::{Checkpoint, Checkpoints};
use crate::config::{Options, RunSettings};
use crate::data::Dataset;
use crate::run::folder::{self, FolderLock};
use crate::run::networks::NetworkFiles;
use crate::tensor::device;

/// The options that matter only when a run begins.
const ONLY_AT_THE_START: [&str; 10] = [
    "generator",
    "generator_raw",
    "discriminator",
    "z_dim",
    "cfg",
    "init_p",
    "outdir",
    "subset",
    "subset_seed",
    "desc",
];

/// A run that goes on.
pub struct Resumed {
    /// Its folder.
    pub folder: PathBuf,
    /// The checkpoint where it goes on.
    pub checkpoint: Checkpoint,
    /// The record of that checkpoint.
    pub record: RunRecord,
    /// The lock that keeps other processes away.
    pub lock: FolderLock,
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
        ensure!(
            !folder.join("checkpoints").is_symlink(),
            "cannot resume '{}': its 'checkpoints' is a link, and nothing is written through links; put the folder itself there",
            folder.display()
        );
        let lock = folder::lock(folder)?;
        let mut all = Checkpoints::in_run(folder, 1).list()?;
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
                    return Ok((Self { folder, checkpoint, record, lock }, remarks));
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

    /// Checks that the run can go on with these settings and pictures. Returns reasons why its result will differ from
    /// that of an uninterrupted run on this device.
    ///
    /// # Errors
    /// Other pictures, or a run that is complete.
    pub fn check(
        &self,
        settings: &RunSettings,
        dataset: &Dataset,
        device: Device,
        processes: u64,
    ) -> Result<Vec<String>> {
        self.record.check_pictures(dataset.fingerprint(), &settings.data)?;
        ensure!(
            !self.record.is_complete(settings.total_images),
            "the run in '{}' is complete with {} images; to train it longer, pass --override --kimg with more",
            self.folder.display(),
            self.record.seen_images()
        );
        let gpu = device::gpu(device).and_then(|gpu| gpu.description());
        let mut lines =
            self.record.differences(&device::name(device), gpu.as_deref(), tch::get_num_threads(), processes);
        if device.is_cuda() && !settings.arithmetic.deterministic {
            lines.push(
                "on a GPU a resumed run is the same but for rounding; --deterministic makes runs exact".to_owned(),
            );
        }
        Ok(lines)
    }

    /// Returns the modules that the state is put into.
    ///
    /// # Errors
    /// A module is missing or damaged.
    pub fn files(&self) -> Result<NetworkFiles> {
        let checkpoints = Checkpoints::in_run(&self.folder, 1);
        checkpoints.check_networks().with_context(|| format!("cannot resume '{}'", self.folder.display()))?;
        let networks = checkpoints.networks();
        Ok(NetworkFiles {
            generator: networks.join("G.pt"),
            generator_raw: None,
            discriminator: networks.join("D.pt"),
            z_dim: None,
        })
    }

    /// Lists the values that follow from an option which was given anew; `options` are those of the run with what was given,
    /// before their defaults are filled in.
    ///
    /// # Errors
    /// The run has lost its options.
    pub fn derived_anew(&self, options: &Options, settings: &RunSettings) -> Result<Vec<String>> {
        let recorded = self.recorded_options()?;
        let given = options.changes(&recorded);
        let is_given = |key: &String| given.iter().any(|(other, ..)| other == key);
        let changes = settings.effective().changes(&recorded).into_iter();
        // An option that the run's version did not have has no value there.
        let derived = changes.filter(|(key, before, _)| !is_given(key) && !before.is_null());
        Ok(derived.map(|(key, before, now)| format!("follows from that: {key} {before} -> {now}")).collect())
    }

    /// Whether the settings have other learning rates than the run had so far.
    ///
    /// # Errors
    /// The run has lost its options.
    pub fn has_new_rates(&self, settings: &RunSettings) -> Result<bool> {
        let (recorded, now) = (self.recorded_options()?, settings.effective());
        Ok((recorded.g_lr, recorded.d_lr) != (now.g_lr, now.d_lr))
    }

    /// Reads the options that the run has had so far.
    fn recorded_options(&self) -> Result<Options> {
        Options::from_file(&self.folder.join("training_options.json"))
            .context("the run has lost its options; bring the file back, or begin a new run from a snapshot")
    }

    /// Returns the run's options with `given` on top, and a line about each change.
    ///
    /// # Errors
    /// A change without `--override`, or a run without options.
    pub fn options(&self, given: Options, allowed: bool) -> Result<(Options, Vec<String>)> {
        let recorded = self.recorded_options()?;
        let changes = given.changes(&recorded);
        let texts: Vec<String> = changes.iter().map(|(key, before, now)| format!("{key} {before} -> {now}")).collect();
        let without_effect = changes.iter().find(|(key, ..)| ONLY_AT_THE_START.contains(&key.as_str()));
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
