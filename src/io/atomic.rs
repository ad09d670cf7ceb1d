//! Files that appear whole or not at all: written beside their place, flushed to disk, then renamed.
//!
//! A run that is killed in the middle leaves the old file, and at worst a hidden `.name.*` beside it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// Writes the file at `path`, replacing one that is there only once `write` has succeeded.
///
/// The writer that `write` gets is buffered. The file gets the permissions of an ordinary new file.
///
/// # Errors
/// The folder is missing or cannot be written, the disk is full, or `write` failed; the old file is
/// then untouched and nothing new is left.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let file = written(path, write)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(path)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// The same without waiting for the disk, for files by the ten thousand.
///
/// A process that is killed leaves whole files only. A power cut, though, may leave empty files, cut
/// ones or none where this call had succeeded: whatever goes on with them must check them first.
///
/// # Errors
/// As [`write_atomically`]; a disk that fails later is not noticed.
pub fn write_unsynced(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        written(path, write)?.persist(path)?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// The same for writers that open the file themselves: `write` gets the path to write to, which lies
/// in the same folder and has the same extension.
///
/// # Errors
/// As [`write_atomically`]; also if `write` removed the file.
pub fn replace_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let place = beside(path)?.into_temp_path();
        write(&place)?;
        File::open(&place).and_then(|file| file.sync_all())?;
        place.persist(path)?;
        sync_folder(path)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// A temporary file in the folder of `path` with everything that `write` writes.
fn written(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<NamedTempFile> {
    let mut buffered = BufWriter::new(beside(path)?);
    write(&mut buffered)?;
    Ok(buffered.into_inner().map_err(|e| e.into_error())?)
}

/// An empty temporary file in the folder of `path`, removed when dropped.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let name = path.file_name().context("the path names no file")?;
    ensure!(!path.is_dir(), "a folder of that name is in the way; remove it or pass another name");
    let folder = folder_of(path);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut suffix = OsString::new();
    if let Some(extension) = path.extension() {
        suffix.push(".");
        suffix.push(extension);
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(&suffix);
    // tempfile's own files are private (0600); the system takes the umask off this.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder).with_context(|| {
        format!(
            "no file can be made in the folder '{}'; check that it exists, is writable and has room",
            folder.display()
        )
    })
}

/// Makes the rename itself survive a power cut.
fn sync_folder(path: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder_of(path))?.sync_all()?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
