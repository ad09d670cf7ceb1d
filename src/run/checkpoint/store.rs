//! Writes, finds and removes the folders of checkpoints.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::files::atomic::{fill_folder_atomically, remedy_for_write, write_json};
use crate::files::bounded::read_text;
use crate::files::checksum::FileRecord;

use super::manifest::CheckpointManifest;

const MANIFEST: &str = "checkpoint.json";
const STATE: &str = "state.safetensors";
/// The files of the modules, whose checksums are listed.
const MODULES: [&str; 2] = ["G.pt", "D.pt"];
const MODULE_LIST: &str = "networks.json";

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// One checkpoint, found but not yet read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// Images seen at the checkpoint.
    pub seen_images: u64,
    folder: PathBuf,
}

impl Checkpoints {
    /// Opens the checkpoints of the run in `run_dir`; the newest `keep` (at least 1) stay.
    pub fn in_run(run_dir: &Path, keep: usize) -> Self {
        Self { folder: run_dir.join("checkpoints"), keep: keep.max(1) }
    }

    /// Returns the folder of the modules.
    pub fn networks(&self) -> PathBuf {
        self.folder.join("networks")
    }

    /// Records the modules that are there, for [`check_networks`](Self::check_networks).
    ///
    /// # Errors
    /// A module that is missing, or a file that cannot be written.
    pub fn seal_networks(&self) -> Result<()> {
        let records = MODULES.iter().map(|name| FileRecord::from_file(&self.networks().join(name)));
        write_json(&self.networks().join(MODULE_LIST), &records.collect::<Result<Vec<_>>>()?)
    }

    /// Compares the modules with their checksums.
    ///
    /// # Errors
    /// A module is missing or damaged, or there is no list of them.
    pub fn check_networks(&self) -> Result<()> {
        let path = self.networks().join(MODULE_LIST);
        let remedy = "the run cannot go on; begin a new one from a snapshot of it";
        let attempt = || -> Result<()> {
            let records: Vec<FileRecord> =
                serde_json::from_str(&read_text(&path)?).with_context(|| format!("'{}' is damaged", path.display()))?;
            for name in MODULES {
                let record = records.iter().find(|record| record.file == name);
                let record = record.with_context(|| format!("'{}' is damaged: no '{name}' in it", path.display()))?;
                check(&self.networks().join(name), record, MODULE_LIST)?;
            }
            Ok(())
        };
        attempt().context(remedy)
    }

    /// Makes the folders for a new run.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn create(&self) -> Result<()> {
        let networks = self.networks();
        fs::create_dir_all(&networks).with_context(|| format!("cannot make the folder '{}'", networks.display()))
    }

    /// Lists all checkpoints, oldest first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        let context = || format!("cannot list the checkpoints in '{}'", self.folder.display());
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(context)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.with_context(context)?;
            if let Some(seen_images) = entry.file_name().to_str().and_then(number_of) {
                found.push(Checkpoint { seen_images, folder: entry.path() });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Writes a checkpoint: `write_state` writes the tensors to the path that it gets. Once the checkpoint is complete,
    /// older ones beyond those to keep are removed, except the first one of `best` images or more.
    ///
    /// # Errors
    /// The disk is full or the folder cannot be written; earlier checkpoints then stay as they were.
    pub fn write<T: Serialize>(
        &self,
        seen_images: u64,
        best: Option<u64>,
        record: &T,
        write_state: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let folder = self.folder.join(name_of(seen_images));
        let written = if folder.exists() {
            // An interruption right behind a checkpoint leads to the same images again, and to the same state.
            let (old, path) = Checkpoint { seen_images, folder }.read_manifest::<Value>()?;
            CheckpointManifest::new(old.state, record).write(&path)
        } else {
            fill_folder_atomically(&folder, |place| {
                let state = place.join(STATE);
                write_state(&state)?;
                CheckpointManifest::new(FileRecord::from_file(&state)?, record).write(&place.join(MANIFEST))
            })
        };
        if let Err(error) = written {
            let earlier = self.list().is_ok_and(|all| !all.is_empty());
            let context = match (earlier, remedy_for_write(&error)) {
                (true, remedy) => format!("no checkpoint was written, earlier ones are intact; {remedy} and resume"),
                (false, remedy) => format!("no checkpoint was written; {remedy} and begin again"),
            };
            return Err(error.context(context));
        }
        self.prune(seen_images, best)
    }

    /// Returns the run and the images of a checkpoint's folder, `RUN/checkpoints/000000128000`; None for another path.
    pub fn named(path: &Path) -> Option<(PathBuf, u64)> {
        let seen_images = number_of(path.file_name()?.to_str()?)?;
        let above = path.parent().filter(|above| above.file_name().is_some_and(|name| name == "checkpoints"))?;
        let run = above.parent().filter(|run| !run.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((run.to_owned(), seen_images))
    }

    /// Removes checkpoints behind `seen_images`, as when a run goes back to that place.
    ///
    /// # Errors
    /// A checkpoint cannot be removed.
    pub fn forget_after(&self, seen_images: u64) -> Result<()> {
        // Newest first, so that a kill leaves no gap.
        self.list()?
            .iter()
            .rev()
            .filter(|checkpoint| checkpoint.seen_images > seen_images)
            .try_for_each(Checkpoint::remove)
    }

    /// Removes what a process that was killed left half written or half removed.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_leftovers(&self) -> Result<()> {
        let context = || format!("cannot clean up in '{}'", self.folder.display());
        for entry in fs::read_dir(&self.folder).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name();
            let hidden = name.to_str().and_then(|name| name.strip_prefix('.')?.get(..12));
            if hidden.is_some_and(|number| number_of(number).is_some()) {
                fs::remove_dir_all(entry.path()).with_context(context)?;
            }
        }
        Ok(())
    }

    fn prune(&self, seen_images: u64, best: Option<u64>) -> Result<()> {
        let mut old = self.list()?;
        let best = best.and_then(|best| old.iter().map(|checkpoint| checkpoint.seen_images).find(|&seen| seen >= best));
        old.retain(|checkpoint| checkpoint.seen_images <= seen_images && Some(checkpoint.seen_images) != best);
        let surplus = old.len().saturating_sub(self.keep);
        old[..surplus].iter().try_for_each(Checkpoint::remove)
    }
}

impl Checkpoint {
    /// Returns the manifest's record and the path of the tensors, after comparing their file with its checksum.
    ///
    /// # Errors
    /// A file that is missing or damaged, or of another version.
    pub fn read<T: DeserializeOwned>(&self) -> Result<(T, PathBuf)> {
        let (manifest, path) = self.read_manifest::<T>()?;
        let state = path.with_file_name(STATE);
        check(&state, &manifest.state, MANIFEST)?;
        Ok((manifest.record, state))
    }

    /// Reads the manifest, and returns it with its path.
    fn read_manifest<T: DeserializeOwned>(&self) -> Result<(CheckpointManifest<T>, PathBuf)> {
        let path = self.folder.join(MANIFEST);
        let manifest = CheckpointManifest::read(&path)?;
        Ok((manifest, path))
    }

    /// Returns the folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Renames the folder before removing it, so that a half removed one does not count as a checkpoint.
    fn remove(&self) -> Result<()> {
        let context = || format!("cannot remove the old checkpoint '{}'", self.folder.display());
        let doomed = self.folder.with_file_name(format!(".{}.old", name_of(self.seen_images)));
        let _ = fs::remove_dir_all(&doomed);
        fs::rename(&self.folder, &doomed).with_context(context)?;
        fs::remove_dir_all(&doomed).with_context(context)
    }
}

/// Compares a file with its record in `manifest`.
fn check(path: &Path, expected: &FileRecord, manifest: &str) -> Result<()> {
    let found = FileRecord::from_file(path)?;
    ensure!(
        found == *expected,
        "'{}' is damaged: its sha256 is {}, '{manifest}' expects {}",
        path.display(),
        found.sha256,
        expected.sha256
    );
    Ok(())
}

fn name_of(seen_images: u64) -> String {
    format!("{seen_images:012}")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        iteration: u64,
    }

    fn write(checkpoints: &Checkpoints, seen_images: u64) -> Result<()> {
        let record = Record { iteration: seen_images / 8 };
        checkpoints.write(seen_images, None, &record, |path| Ok(fs::write(path, seen_images.to_le_bytes())?))
    }

    fn numbers(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|checkpoint| checkpoint.seen_images).collect()
    }

    fn filled() -> (tempfile::TempDir, Checkpoints) {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_run(run.path(), 2);
        checkpoints.create().unwrap();
        [8, 16, 24].into_iter().for_each(|seen_images| write(&checkpoints, seen_images).unwrap());
        (run, checkpoints)
    }

    #[test]
    fn the_newest_are_kept_and_read_back() {
        let (_run, checkpoints) = filled();
        assert_eq!(numbers(&checkpoints), [16, 24]);
        let (record, state) = checkpoints.list().unwrap()[1].read::<Record>().unwrap();
        assert_eq!(record, Record { iteration: 3 });
        assert_eq!(fs::read(state).unwrap(), 24u64.to_le_bytes());
        checkpoints.forget_after(16).unwrap();
        assert_eq!(numbers(&checkpoints), [16]);
    }

    #[test]
    fn a_checkpoints_folder_names_its_run() {
        let named = |path: &str| Checkpoints::named(Path::new(path));
        assert_eq!(named("runs/a/checkpoints/000000128000/"), Some(("runs/a".into(), 128_000)));
        assert_eq!(named("checkpoints/000000000008"), Some((".".into(), 8)));
        assert!(named("runs/000000128000").is_none() && named("runs/a/checkpoints").is_none());
    }

    #[test]
    fn the_best_one_is_kept_besides_the_newest() {
        let (_run, checkpoints) = filled();
        for seen_images in [32, 40] {
            checkpoints
                .write(seen_images, Some(16), &Record { iteration: 4 }, |path| Ok(fs::write(path, "x")?))
                .unwrap();
        }
        assert_eq!(numbers(&checkpoints), [16, 32, 40]);
    }

    #[test]
    fn the_next_one_stands_for_the_best_where_its_own_was_not_written() {
        let (_run, checkpoints) = filled();
        for seen_images in [32, 40, 48] {
            checkpoints
                .write(seen_images, Some(20), &Record { iteration: 4 }, |path| Ok(fs::write(path, "x")?))
                .unwrap();
        }
        assert_eq!(numbers(&checkpoints), [24, 40, 48]);
    }

    #[test]
    fn a_failed_write_leaves_the_earlier_ones_and_nothing_else() {
        let (run, checkpoints) = filled();
        let failed = checkpoints.write(32, None, &Record { iteration: 4 }, |path| {
            fs::write(path, "half")?;
            bail!("no space left on device")
        });
        let message = format!("{:#}", failed.unwrap_err());
        assert!(message.contains("earlier ones are intact") && message.contains("no space left"), "{message}");
        assert_eq!(numbers(&checkpoints), [16, 24]);
        assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 3);
    }

    #[test]
    fn a_changed_number_in_a_manifest_is_damage_and_another_record_of_the_same_images_is_none() {
        let (_run, checkpoints) = filled();
        let newest = || checkpoints.list().unwrap().pop().unwrap();
        let path = newest().folder().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"iteration\": 3", "\"iteration\": 4")).unwrap();
        let message = newest().read::<Record>().unwrap_err().to_string();
        assert!(message.contains("checkpoint.json' is damaged"), "{message}");
        fs::write(&path, text).unwrap();
        checkpoints.write(24, None, &Record { iteration: 5 }, |_| bail!("the state is there already")).unwrap();
        assert_eq!(newest().read::<Record>().unwrap().0, Record { iteration: 5 });
    }

    #[test]
    fn damage_is_found_and_named() {
        let (_run, checkpoints) = filled();
        let [old, new] = &checkpoints.list().unwrap()[..] else { panic!("two are kept") };
        fs::write(new.folder().join(STATE), "other").unwrap();
        let message = new.read::<Record>().unwrap_err().to_string();
        assert!(message.contains("state.safetensors' is damaged"), "{message}");
        fs::write(old.folder().join(MANIFEST), r#"{"version": 3}"#).unwrap();
        assert!(old.read::<Record>().unwrap_err().to_string().contains("format 3"));
        fs::write(old.folder().join(MANIFEST), "{").unwrap();
        assert!(old.read::<Record>().unwrap_err().to_string().contains("is damaged"));
    }
}
