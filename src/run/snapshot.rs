//! The files of one snapshot in a run directory, and the manifest with their checksums: libtorch's
//! archives have none of their own and load with flipped bytes.

use crate::files::atomic::{remove_if_there, write_json};
use crate::files::bounded::read_text;
use crate::files::checksum::{FileRecord, sha256};
use crate::run::numbering::Number;
use crate::system::ui::shell_command;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const STEM: &str = "network-snapshot-";
/// The file of a run that names its best snapshot.
pub const BEST: &str = "best.json";

/// The networks of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The moving average of the generator, which pictures are made with.
    GEma,
    /// The generator as trained.
    G,
    /// The discriminator.
    D,
}

impl Network {
    /// The three networks, in the order in which they are written.
    pub const ALL: [Network; 3] = [Network::GEma, Network::G, Network::D];

    /// The word in file names and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Network::GEma => "G_ema",
            Network::G => "G",
            Network::D => "D",
        }
    }
}

/// The paths of one snapshot: `network-snapshot-000020.G_ema.pt` and so on, or `network-snapshot-000020_512.G_ema.pt`
/// for a later one of the same thousand images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// The number in the names.
    pub number: Number,
    /// The moving average of the generator.
    pub g_ema: PathBuf,
    /// The generator as trained.
    pub g: PathBuf,
    /// The discriminator.
    pub d: PathBuf,
    /// Checksums and counters; written last, so that a snapshot with a manifest is complete.
    pub manifest: PathBuf,
}

impl SnapshotFiles {
    /// Names the files of the snapshot of this number in `run_dir`.
    pub fn at(run_dir: &Path, number: impl Into<Number>) -> Self {
        let number = number.into();
        let path = |ending: &str| run_dir.join(format!("{STEM}{number}.{ending}"));
        Self { number, g_ema: path("G_ema.pt"), g: path("G.pt"), d: path("D.pt"), manifest: path("json") }
    }

    /// Returns the path of one network.
    pub fn path_of(&self, network: Network) -> &Path {
        match network {
            Network::GEma => &self.g_ema,
            Network::G => &self.g,
            Network::D => &self.d,
        }
    }

    /// Removes the snapshot, its manifest first, so that a half removed one does not count.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for path in [&self.manifest, &self.g_ema, &self.g, &self.d] {
            remove_if_there(path).context("the old snapshot stays")?;
        }
        Ok(())
    }

    /// Completes the snapshot: call it after the three networks are saved. `extra` is stored in the manifest.
    ///
    /// # Errors
    /// A network that is not there, or a folder that cannot be written.
    pub fn write_manifest(&self, seen_images: u64, extra: serde_json::Value) -> Result<()> {
        let mut files = BTreeMap::new();
        for network in Network::ALL {
            files.insert(network.name().to_owned(), FileRecord::from_file(self.path_of(network))?);
        }
        let manifest = SnapshotManifest { kimg: seen_images as f64 / 1000.0, seen_images, files, extra };
        write_json(&self.manifest, &manifest)
    }
}

/// The content of `network-snapshot-NNNNNN.json`. Unknown keys are ignored, because newer versions may add some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    /// Images seen in training, in thousands.
    pub kimg: f64,
    /// Images seen in training.
    pub seen_images: u64,
    /// The networks by name.
    pub files: BTreeMap<String, FileRecord>,
    /// Other records of the run, such as the provenance.
    #[serde(default)]
    pub extra: serde_json::Value,
}

impl SnapshotManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// An unreadable file, or one that is no manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path).with_context(|| format!("pass {STEM}NNNNNN.json or a run directory"))?;
        serde_json::from_str(&text).with_context(|| {
            format!("'{}' is not the manifest of a snapshot; pass {STEM}NNNNNN.json or a run directory", path.display())
        })
    }

    /// Returns the path of one network of the manifest that lies at `path`.
    ///
    /// # Errors
    /// A network that the manifest does not list, or a name that leads out of its folder.
    pub fn path_of(&self, path: &Path, network: Network) -> Result<PathBuf> {
        let name = &self.record(path, network)?.file;
        let plain = Path::new(name).file_name().is_some_and(|last| last == name.as_str());
        ensure!(
            plain,
            "'{}' names '{name}', a file in the same folder is expected; it is damaged, pass another snapshot",
            path.display()
        );
        Ok(path.with_file_name(name))
    }

    /// Returns the path of one network, after comparing the file with its checksum.
    ///
    /// # Errors
    /// The errors of [`SnapshotManifest::path_of`], or a file that is missing or has changed since it was written.
    pub fn checked(&self, path: &Path, network: Network) -> Result<PathBuf> {
        let file = self.path_of(path, network)?;
        let expected = self.record(path, network)?;
        let remedy = "it is damaged or was replaced; take another snapshot or a copy of this one";
        let bytes = std::fs::metadata(&file)
            .with_context(|| {
                format!("cannot read '{}', which '{}' lists; bring it back", file.display(), path.display())
            })?
            .len();
        ensure!(
            bytes == expected.bytes,
            "cannot use '{}': it has {bytes} bytes, '{}' expects {}; {remedy}",
            file.display(),
            path.display(),
            expected.bytes
        );
        let found = sha256(&file)?;
        ensure!(
            found == expected.sha256,
            "cannot use '{}': its sha256 is {found}, '{}' expects {}; {remedy}",
            file.display(),
            path.display(),
            expected.sha256
        );
        Ok(file)
    }

    fn record(&self, path: &Path, network: Network) -> Result<&FileRecord> {
        let name = network.name();
        self.files
            .get(name)
            .with_context(|| format!("'{}' lists no network '{name}'; pass a snapshot that is whole", path.display()))
    }
}

/// Finds the snapshot that `path` means: the newest of a run directory, the one that a run's `best.json` names, or the
/// one that a manifest or any other file of a snapshot belongs to.
///
/// # Errors
/// No such path, a folder without complete snapshots, a damaged `best.json`, or a file of another name.
pub fn find(path: &Path) -> Result<SnapshotFiles> {
    if path.is_dir() {
        return newest(path)?.with_context(|| no_snapshot_in(path));
    }
    if path.file_name().is_some_and(|name| name == BEST) && path.is_file() {
        return best(path);
    }
    let number = path.file_name().and_then(|name| number_of(name.to_str()?));
    let Some(number) = number else {
        ensure!(
            path.exists(),
            "cannot find a snapshot at '{}': no such file or folder; check the path",
            path.display()
        );
        bail!(
            "'{}' is no snapshot: a run directory or a file {STEM}NNNNNN.* is expected; a TorchScript file goes to \
             --generator",
            path.display()
        );
    };
    let files = SnapshotFiles::at(path.parent().unwrap_or(Path::new("")), number);
    ensure!(
        files.manifest.is_file(),
        "cannot use the snapshot of '{}': its manifest '{}' is missing; take another snapshot, or pass a network alone \
         with --generator",
        path.display(),
        files.manifest.display()
    );
    Ok(files)
}

/// Returns the snapshot that a run's `best.json` names.
fn best(path: &Path) -> Result<SnapshotFiles> {
    /// The part of the file that is needed here; the evaluator writes more.
    #[derive(Deserialize)]
    struct Named {
        snapshot: String,
    }
    let named: Named = serde_json::from_str(&read_text(path)?)
        .with_context(|| format!("'{}' is damaged; pass a snapshot of the run instead", path.display()))?;
    ensure!(
        number_of(&named.snapshot).is_some() && !named.snapshot.contains(std::path::is_separator),
        "'{}' names '{}', which is no snapshot; pass a snapshot of the run instead",
        path.display(),
        named.snapshot
    );
    find(&path.with_file_name(named.snapshot))
}

/// Returns the complete snapshot with the highest number in a folder.
fn newest(folder: &Path) -> Result<Option<SnapshotFiles>> {
    Ok(all(folder)?.pop())
}

/// Lists all complete snapshots in a folder, by their numbers.
///
/// # Errors
/// A folder that cannot be listed.
pub fn all(folder: &Path) -> Result<Vec<SnapshotFiles>> {
    let context = || format!("cannot list the folder '{}'", folder.display());
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let name = entry.with_context(context)?.file_name();
        numbers.extend(name.to_str().filter(|name| name.ends_with(".json")).and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers.into_iter().map(|number| SnapshotFiles::at(folder, number)).collect())
}

/// Reads the number in `network-snapshot-NNNNNN.anything`.
fn number_of(name: &str) -> Option<Number> {
    name.strip_prefix(STEM)?.split_once('.')?.0.parse().ok()
}

fn no_snapshot_in(folder: &Path) -> String {
    let runs = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let run = runs.filter(|path| path.is_dir() && matches!(newest(path), Ok(Some(_)))).max();
    let is_run = folder.join("training_options.json").is_file();
    let remedy = match run {
        Some(run) => format!("did you mean the run '{}'?", run.display()),
        None if is_run => {
            let resume = shell_command(
                ["rootgan", "finetune", "--resume"].map(OsStr::new).into_iter().chain([folder.as_os_str()]),
            );
            format!("the run was stopped before its first; go on with it: {resume}")
        }
        None => "pass a run directory that has come as far as its first snapshot".to_owned(),
    };
    format!("there is no complete snapshot ({STEM}NNNNNN.json) in '{}'; {remedy}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(folder: &Path, kimg: u64) -> SnapshotFiles {
        let files = SnapshotFiles::at(folder, kimg);
        Network::ALL.iter().for_each(|&network| std::fs::write(files.path_of(network), network.name()).unwrap());
        files.write_manifest(kimg * 1000, serde_json::json!({ "tick": 3 })).unwrap();
        files
    }

    #[test]
    fn a_run_directory_means_its_highest_number_and_any_file_its_own_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (snapshot(folder.path(), 999_999), snapshot(folder.path(), 1_000_000));
        std::fs::write(SnapshotFiles::at(folder.path(), 2_000_000).g, "no manifest yet").unwrap();
        assert_eq!(find(folder.path()).unwrap(), new);
        for path in [&old.g_ema, &old.g, &old.d, &old.manifest] {
            assert_eq!(find(path).unwrap(), old);
        }
        let best = folder.path().join(BEST);
        std::fs::write(&best, r#"{"metric": "fid5k_full", "snapshot": "network-snapshot-999999.json"}"#).unwrap();
        assert_eq!(find(&best).unwrap(), old);
        for (text, words) in [
            (r#"{"snapshot": "../network-snapshot-999999.json"}"#, "is no snapshot"),
            (r#"{"snapshot": "network-snapshot-000007.json"}"#, "is missing"),
            ("{", "is damaged"),
        ] {
            std::fs::write(&best, text).unwrap();
            assert!(find(&best).unwrap_err().to_string().contains(words), "{text}");
        }
        assert!(old.d.ends_with("network-snapshot-999999.D.pt"));
    }

    #[test]
    fn a_later_snapshot_of_the_same_thousand_is_the_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let old = snapshot(folder.path(), 3);
        let later = SnapshotFiles::at(folder.path(), "000003_900".parse::<Number>().unwrap());
        Network::ALL.iter().for_each(|&network| std::fs::write(later.path_of(network), network.name()).unwrap());
        later.write_manifest(3900, serde_json::Value::Null).unwrap();
        assert_eq!(all(folder.path()).unwrap(), [old.clone(), later.clone()]);
        assert_eq!(find(folder.path()).unwrap(), later);
        assert_eq!(find(&later.d).unwrap(), later);
        assert_eq!(find(&old.d).unwrap(), old);
        snapshot(folder.path(), 4);
        assert_eq!(find(folder.path()).unwrap().number, 4.into());
    }

    #[test]
    fn a_manifest_reads_back_and_finds_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let files = snapshot(folder.path(), 20);
        let manifest = SnapshotManifest::read(&files.manifest).unwrap();
        assert_eq!((manifest.kimg, manifest.seen_images), (20.0, 20_000));
        assert_eq!(manifest.extra["tick"], 3);
        assert_eq!(manifest.checked(&files.manifest, Network::GEma).unwrap(), files.g_ema);
        // printf D | sha256sum
        let of_d = "3f39d5c348e5b79d06e842c114e6cc571583bbf44e4b0ebfda1a01ec05745d43";
        assert_eq!(manifest.files["D"].sha256, of_d);
    }

    #[test]
    fn a_changed_file_is_named_with_both_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let files = snapshot(folder.path(), 20);
        std::fs::write(&files.d, "X").unwrap();
        let manifest = SnapshotManifest::read(&files.manifest).unwrap();
        let message = manifest.checked(&files.manifest, Network::D).unwrap_err().to_string();
        assert!(message.contains("snapshot-000020.D.pt") && message.contains("3f39d5c3"), "{message}");
        assert!(message.contains(&sha256(&files.d).unwrap()), "{message}");
    }

    #[test]
    fn a_manifest_cannot_lead_out_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = snapshot(folder.path(), 20);
        let mut manifest = SnapshotManifest::read(&files.manifest).unwrap();
        manifest.files.get_mut("G").unwrap().file = "../G.pt".into();
        assert!(manifest.path_of(&files.manifest, Network::G).is_err());
    }

    #[test]
    fn the_folder_above_the_runs_points_to_the_newest_run() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("00001-cats")).unwrap();
        snapshot(&folder.path().join("00001-cats"), 0);
        let message = find(folder.path()).unwrap_err().to_string();
        assert!(message.contains("00001-cats'?"), "{message}");
    }
}
