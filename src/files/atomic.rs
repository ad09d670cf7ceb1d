//! Writes files and folders that appear whole or not at all: they are written beside their place, flushed to disk, then
//! renamed.
//!
//! [`write_in_place`] alone writes into the place itself, for the pictures of a dump.
//!
//! A process that is killed in the middle leaves the old file, and at worst a hidden `.name.partial-*` beside it, which
//! [`remove_leftovers`] finds.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;

/// Writes the file at `path`, replacing one that is there only once `write` has succeeded.
///
/// The writer that `write` gets is buffered. The file gets the permissions of an ordinary new file.
///
/// # Errors
/// The folder is missing or cannot be written, the disk is full, or `write` failed; the old file is then untouched and
/// nothing new is left.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let file = written(path, write)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(path)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Writes a value as indented JSON with a newline at the end, whole or not at all.
///
/// # Errors
/// The errors of [`write_atomically`], or a value that cannot be JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        writeln!(file)?;
        Ok(())
    })
}

/// Writes a file in place and without waiting for the disk, which suits files by the ten thousand.
///
/// A process that is killed, or a power cut, may leave an empty file or a cut one: whatever goes on with such files
/// must check them first.
///
/// # Errors
/// The file cannot be written; it is then removed.
pub fn write_in_place(path: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || {
        let mut file = File::create(path)?;
        file.write_all(bytes).inspect_err(|_| {
            // A file that was cut because the disk is full must not pass for a picture.
            let _ = std::fs::remove_file(path);
        })
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Does what [`write_atomically`] does, for writers that open the file themselves: `write` gets the path to write to,
/// which lies in the same folder and has the same extension.
///
/// # Errors
/// The errors of [`write_atomically`], or `write` removed the file.
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

/// Makes a folder of many files that appears whole or not at all: `fill` gets an empty folder beside `path`, which is
/// then renamed.
///
/// An empty folder may be at `path` already, and is replaced.
///
/// # Errors
/// Something else is at `path`, its folder is missing or cannot be written, the disk is full, or `fill` failed; nothing
/// new is left then.
pub fn fill_folder_atomically(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let (prefix, folder) = (partial_prefix(path)?, folder_of(path));
        let place = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder).with_context(|| no_place_in(folder))?;
        fill(place.path())?;
        sync_file_system(place.path())?;
        // The system refuses to replace a folder that is not empty.
        std::fs::rename(place.path(), path)?;
        let _ = place.keep();
        sync_folder(path)
    };
    attempt().with_context(|| format!("cannot write '{}'", path.display()))
}

/// Returns the remedy for a write that failed with this error, which goes before "and ..." in a message.
pub fn remedy_for_write(error: &anyhow::Error) -> &'static str {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "make room",
        Some(ErrorKind::FileTooLarge) => "allow larger files (ulimit -f)",
        _ => "mend that",
    }
}

/// Removes a file that may have gone already.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<()> {
    gone(std::fs::remove_file(path)).with_context(|| format!("cannot remove '{}'", path.display()))
}

/// Removes a folder with all that is in it, which may have gone already.
///
/// # Errors
/// The folder is there and cannot be removed.
pub fn remove_folder_if_there(path: &Path) -> Result<()> {
    gone(std::fs::remove_dir_all(path)).with_context(|| format!("cannot remove the folder '{}'", path.display()))
}

/// Takes it for a success that there was nothing to remove.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Removes the partial files of `path` that killed processes left. Call it only where no other process can be writing
/// `path`.
///
/// # Errors
/// A partial file cannot be removed, or the folder cannot be read.
pub fn remove_leftovers(path: &Path) -> Result<()> {
    let context = || format!("cannot clean up beside '{}'", path.display());
    let prefix = partial_prefix(path)?;
    for entry in std::fs::read_dir(folder_of(path)).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        // After the prefix come tempfile's six random letters, and for a file its extension.
        let random =
            name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes()).map(|rest| rest.split_at_checked(6));
        let Some(Some((letters, ending))) = random else { continue };
        if letters.iter().all(u8::is_ascii_alphanumeric) && (ending.is_empty() || ending.starts_with(b".")) {
            match entry.file_type().with_context(context)?.is_dir() {
                true => std::fs::remove_dir_all(entry.path()).with_context(context)?,
                false => std::fs::remove_file(entry.path()).with_context(context)?,
            }
        }
    }
    Ok(())
}

/// Returns the path of `.name.what` in the folder of `path`.
///
/// # Errors
/// The path names no file.
pub fn hidden_beside(path: &Path, what: &str) -> Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name().context("the path names no file")?);
    name.push(".");
    name.push(what);
    Ok(folder_of(path).join(name))
}

/// Makes a temporary file in the folder of `path` with everything that `write` writes.
fn written(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<NamedTempFile> {
    let mut buffered = BufWriter::new(beside(path)?);
    write(&mut buffered)?;
    Ok(buffered.into_inner().map_err(|e| e.into_error())?)
}

/// Makes an empty temporary file in the folder of `path`, which is removed when dropped.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let prefix = partial_prefix(path)?;
    ensure!(!path.is_dir(), "a folder of that name is in the way; remove it or pass another name");
    let folder = folder_of(path);
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
    builder.tempfile_in(folder).with_context(|| no_place_in(folder))
}

/// Returns `.name.partial-`, the beginning of a name that random letters follow.
fn partial_prefix(path: &Path) -> Result<OsString> {
    Ok(hidden_beside(path, "partial-")?.file_name().unwrap_or_default().to_owned())
}

fn no_place_in(folder: &Path) -> String {
    format!("no file can be made in the folder '{}'; check that it exists, is writable and has room", folder.display())
}

/// Flushes everything on the disk of `folder`: one call serves files by the million.
fn sync_file_system(folder: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let folder = File::open(folder)?;
    // SAFETY: the descriptor is open as long as `folder` is.
    let status = unsafe { libc::syncfs(folder.as_raw_fd()) };
    ensure!(status == 0, std::io::Error::last_os_error());
    Ok(())
}

/// Flushes the folder of `path`, so that the rename itself survives a power cut.
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
