//! Checkpoints: everything that a run needs to go on exactly, in one folder each, whole or not at all.
//!
//! `checkpoints/000000128000/` of a run holds `state.safetensors` and `checkpoint.json`, the manifest with its checksum;
//! `checkpoints/networks/` holds the modules that the state is put into.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::io::atomic::fill_folder_atomically;
use crate::io::bounded::read_text;
use crate::io::snapshot::FileRecord;

/// The version of the format; another one is refused.
const VERSION: u64 = 1;
const MANIFEST: &str = "checkpoint.json";
const STATE: &str = "state.safetensors";

#[derive(Serialize, Deserialize)]
struct Manifest<T> {
    version: u64,
    state: FileRecord,
    #[serde(flatten)]
    record: T,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// One checkpoint, found but not yet read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// Images seen until then.
    pub seen_images: u64,
    folder: PathBuf,
}

impl Checkpoints {
    /// Those of the run in `run_dir`, of which the newest `keep` (at least 1) are kept.
    pub fn of(run_dir: &Path, keep: usize) -> Self {
        Self { folder: run_dir.join("checkpoints"), keep: keep.max(1) }
    }

    /// The folder of the modules.
    pub fn networks(&self) -> PathBuf {
        self.folder.join("networks")
    }

    /// Makes the folders for a new run.
    ///
    /// # Errors
    /// No place for them.
    pub fn create(&self) -> Result<()> {
        let networks = self.networks();
        fs::create_dir_all(&networks).with_context(|| format!("cannot make the folder '{}'", networks.display()))
    }

    /// All that are there, oldest first.
    ///
    /// # Errors
    /// A folder that cannot be listed.
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

    /// Writes one: `write_state` writes its tensors to the path that it gets. Older ones beyond those to keep are
    /// removed once it is complete.
    ///
    /// # Errors
    /// A full disk or a folder that cannot be written: earlier checkpoints are then as they were.
    pub fn write<T: Serialize>(
        &self,
        seen_images: u64,
        record: &T,
        write_state: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let folder = self.folder.join(name_of(seen_images));
        // The same images again, as after an interruption right behind a checkpoint: the state is the same.
        if !folder.exists() {
            fill_folder_atomically(&folder, |place| {
                let state = place.join(STATE);
                write_state(&state)?;
                let manifest = Manifest { version: VERSION, state: FileRecord::of(&state)?, record };
                fs::write(place.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)?;
                Ok(())
            })
            .context("no checkpoint was written; earlier ones are intact: make room and resume")?;
        }
        self.prune(seen_images)
    }

    /// Removes checkpoints behind `seen_images`, as when a run goes back to that place.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn forget_after(&self, seen_images: u64) -> Result<()> {
        self.list()?.iter().filter(|checkpoint| checkpoint.seen_images > seen_images).try_for_each(Checkpoint::remove)
    }

    /// Removes what a process that was killed left half written or half removed.
    ///
    /// # Errors
    /// It cannot be removed.
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

    fn prune(&self, seen_images: u64) -> Result<()> {
        let mut old = self.list()?;
        old.retain(|checkpoint| checkpoint.seen_images <= seen_images);
        let surplus = old.len().saturating_sub(self.keep);
        old[..surplus].iter().try_for_each(Checkpoint::remove)
    }
}

impl Checkpoint {
    /// What the manifest says and where the tensors lie, after comparing their file with its checksum.
    ///
    /// # Errors
    /// A file that is missing or damaged, or of another version.
    pub fn read<T: DeserializeOwned>(&self) -> Result<(T, PathBuf)> {
        let path = self.folder.join(MANIFEST);
        let text = read_text(&path)?;
        let broken = || format!("'{}' is damaged", path.display());
        let value: serde_json::Value = serde_json::from_str(&text).with_context(broken)?;
        if let Some(version) = value["version"].as_u64().filter(|&version| version != VERSION) {
            bail!("'{}' has format {version}, this program reads {VERSION}; use the one that wrote it", path.display());
        }
        let manifest: Manifest<T> = serde_json::from_value(value).with_context(broken)?;
        let state = self.folder.join(STATE);
        let found = FileRecord::of(&state)?;
        ensure!(
            found == manifest.state,
            "'{}' is damaged: its sha256 is {}, '{MANIFEST}' expects {}",
            state.display(),
            found.sha256,
            manifest.state.sha256
        );
        Ok((manifest.record, state))
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes its name away first, so that one that is half removed is none.
    fn remove(&self) -> Result<()> {
        let context = || format!("cannot remove the old checkpoint '{}'", self.folder.display());
        let doomed = self.folder.with_file_name(format!(".{}.old", name_of(self.seen_images)));
        let _ = fs::remove_dir_all(&doomed);
        fs::rename(&self.folder, &doomed).with_context(context)?;
        fs::remove_dir_all(&doomed).with_context(context)
    }
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
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        iteration: u64,
    }

    fn write(checkpoints: &Checkpoints, seen_images: u64) -> Result<()> {
        let record = Record { iteration: seen_images / 8 };
        checkpoints.write(seen_images, &record, |path| Ok(fs::write(path, seen_images.to_le_bytes())?))
    }

    fn numbers(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.list().unwrap().iter().map(|checkpoint| checkpoint.seen_images).collect()
    }

    fn filled() -> (tempfile::TempDir, Checkpoints) {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of(run.path(), 2);
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
    fn a_failed_write_leaves_the_earlier_ones_and_nothing_else() {
        let (run, checkpoints) = filled();
        let failed = checkpoints.write(32, &Record { iteration: 4 }, |path| {
            fs::write(path, "half")?;
            bail!("no space left on device")
        });
        let message = format!("{:#}", failed.unwrap_err());
        assert!(message.contains("earlier ones are intact") && message.contains("no space left"), "{message}");
        assert_eq!(numbers(&checkpoints), [16, 24]);
        assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 3);
    }

    #[test]
    fn damage_is_found_and_named() {
        let (_run, checkpoints) = filled();
        let [old, new] = &checkpoints.list().unwrap()[..] else { panic!("two are kept") };
        fs::write(new.folder().join(STATE), "other").unwrap();
        let message = new.read::<Record>().unwrap_err().to_string();
        assert!(message.contains("state.safetensors' is damaged"), "{message}");
        fs::write(old.folder().join(MANIFEST), r#"{"version": 2}"#).unwrap();
        assert!(old.read::<Record>().unwrap_err().to_string().contains("format 2"));
        fs::write(old.folder().join(MANIFEST), "{").unwrap();
        assert!(old.read::<Record>().unwrap_err().to_string().contains("is damaged"));
    }
}
