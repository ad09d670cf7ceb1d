//! Imports a checkpoint of another program into the cache, once per content, so that its networks can be used like those
//! of this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::network_folder::IMPORT_RECORD as RECORD;
use super::python::{self, PythonOutput};
use crate::files::atomic::{fill_folder_atomically, remove_folder_if_there, write_json};
use crate::files::bounded::read_text;
use crate::files::cache::{Cache, CachePart};
use crate::files::checksum::FileRecord;
use crate::files::lock::Lock;
use crate::system::installation::Installation;
use crate::system::signals::StopRequest;
use crate::system::ui::say;

/// The note of where the imported file was, beside the import.
const ORIGIN: &str = "source.json";

/// Folders of imports that could not be kept: they live as long as the program.
static SCRATCH: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

/// A checkpoint as networks.
#[derive(Clone, Debug)]
pub struct Import {
    /// The folder with `generator.pt` and so on.
    pub folder: PathBuf,
    /// The record of the import: format, architecture, notes.
    pub record: Value,
}

/// Imports a file, or finds its import in the cache.
///
/// # Errors
/// The file cannot be imported; a fault of the cache is only a warning.
pub fn import(file: &Path) -> Result<Import> {
    let installation = Installation::find();
    // The key needs the Python package: nothing can be imported without it, and another version would import
    // differently.
    let recipe = recipe(&installation)?;
    let source = FileRecord::from_file(file)?;
    let key = format!("{}-{recipe}", source.sha256);
    let Some(cache) = Cache::of_user() else {
        return import_into_scratch(&installation, file, "there is no folder for it (HOME is not set)");
    };
    let entry = cache.folder(CachePart::Imports).join(&key);
    if let Some(import) = there(&entry) {
        return Ok(import);
    }
    if let Err(error) = fs::create_dir_all(cache.folder(CachePart::Imports)) {
        return import_into_scratch(&installation, file, &error.to_string());
    }
    let stop = StopRequest::listen()?;
    let waiting = || say("waiting for another process that imports the same file");
    let _lock = match Lock::when_free(&entry, &stop, waiting) {
        Err(error) if stop.received().is_none() => {
            return import_into_scratch(&installation, file, &format!("{error:#}"));
        }
        lock => lock?,
    };
    // The process that held the lock may have made it.
    if let Some(import) = there(&entry) {
        return Ok(import);
    }
    // What is there is damaged.
    if let Err(error) = remove_folder_if_there(&entry) {
        return import_into_scratch(&installation, file, &format!("{error:#}"));
    }
    say(format!("importing '{}' ({:.1} MB), once", file.display(), source.bytes as f64 / 1e6));
    cache.make_room(source.bytes);
    let mut failed = None;
    let kept = fill_folder_atomically(&entry, |folder| {
        if let Err(error) = run_import(&installation, file, folder) {
            failed = Some(error);
            anyhow::bail!("not imported");
        }
        let path = std::path::absolute(file)?;
        write_json(&folder.join(ORIGIN), &json!({ "path": path, "sha256": source.sha256, "bytes": source.bytes }))
    });
    match (failed, kept) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => import_into_scratch(&installation, file, &format!("{error:#}")),
        (None, Ok(())) => there(&entry).with_context(|| format!("the import in '{}' is damaged", entry.display())),
    }
}

/// Returns the import in a folder, if one is whole there, and notes its use.
fn there(folder: &Path) -> Option<Import> {
    let record = serde_json::from_str(&read_text(&folder.join(RECORD)).ok()?).ok()?;
    Cache::touch(folder);
    Some(Import { folder: folder.to_owned(), record })
}

fn run_import(installation: &Installation, file: &Path, folder: &Path) -> Result<()> {
    let mut command = installation.python("import")?;
    // The folder is this program's to move or remove, so Python needs none of its own.
    python::run(command.arg("--in-place").arg("--out").arg(folder).arg("--").arg(file), PythonOutput::Notes)
}

/// Imports for this call alone.
fn import_into_scratch(installation: &Installation, file: &Path, why: &str) -> Result<Import> {
    say(format!(
        "warning: the import of '{}' is not kept and will be made again: {why}; XDG_CACHE_HOME chooses another place",
        file.display()
    ));
    let scratch = tempfile::Builder::new()
        .prefix("rootgan-import-")
        .tempdir()
        .context("cannot make a temporary folder for the import; TMPDIR chooses another place")?;
    run_import(installation, file, scratch.path())?;
    let import =
        there(scratch.path()).with_context(|| format!("the import in '{}' is damaged", scratch.path().display()))?;
    SCRATCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(scratch);
    Ok(import)
}

/// Returns the temporary folders of imports, which have to be removed at the end.
pub fn scratch_folders() -> Vec<PathBuf> {
    let scratch = SCRATCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    scratch.iter().map(|folder| folder.path().to_owned()).collect()
}

/// Removes the temporary folders of imports.
pub fn remove_scratch() {
    SCRATCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
}

/// Returns the file that was once imported with this checksum, if it is still where it was and the same.
pub fn file_with_sha256(sha256: &str) -> Option<PathBuf> {
    let folder = Cache::of_user()?.folder(CachePart::Imports);
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let path_of = |entry: PathBuf| {
        let origin: Value = serde_json::from_str(&read_text(&entry.join(ORIGIN)).ok()?).ok()?;
        (origin["sha256"] == sha256).then(|| PathBuf::from(origin["path"].as_str().unwrap_or_default()))
    };
    let is_same = |path: &PathBuf| crate::files::checksum::sha256(path).is_ok_and(|found| found == sha256);
    entries.filter_map(path_of).find(is_same)
}

/// Returns a part of the key that changes with the code that imports: another version would write other networks.
fn recipe(installation: &Installation) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in installation.python_sources()? {
        hasher.update(fs::read(&file).with_context(|| format!("cannot read '{}'", file.display()))?);
    }
    Ok(format!("{:x}", hasher.finalize())[..16].to_owned())
}
