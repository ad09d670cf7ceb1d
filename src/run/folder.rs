//! The folder of one run: `<outdir>/<next 5-digit number>-<data set>-<what>/`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::numbering::Number;
use crate::files::lock::{Attempt, try_lock};
use crate::files::opening::to_change_or_make;

/// Makes the next free folder; two runs that start at once get different ones.
///
/// # Errors
/// `outdir` cannot be made or written.
pub fn create(outdir: &Path, dataset: &str, what: &str) -> Result<PathBuf> {
    let refused =
        || format!("cannot make a run folder in '{}'; pass another --outdir or a shorter --desc", outdir.display());
    fs::create_dir_all(outdir).with_context(refused)?;
    let safe: String = what.chars().map(|c| if c.is_alphanumeric() || "._-+".contains(c) { c } else { '-' }).collect();
    for number in next_number(outdir).with_context(refused)?..100_000 {
        let folder = outdir.join(format!("{number:05}-{dataset}-{safe}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(refused),
        }
    }
    bail!("cannot make a run folder in '{}': it holds run 99999; pass another --outdir", outdir.display())
}

/// Makes this folder, which must not be there yet.
///
/// # Errors
/// The folder exists, or cannot be made.
pub fn create_at(folder: &Path) -> Result<PathBuf> {
    let refused = || format!("cannot make the run folder '{}'", folder.display());
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(refused)?;
    }
    fs::create_dir(folder).with_context(refused)?;
    Ok(folder.to_owned())
}

/// Checks that runs can be made in `outdir`, without making any.
///
/// # Errors
/// The folder lies in the picture folder, where the next run would train on this one's grids; or neither it nor the
/// nearest folder above it can be written.
pub fn check(outdir: &Path, data: &Path) -> Result<()> {
    let absolute = std::path::absolute(outdir)?;
    let existing = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(&absolute);
    tempfile::tempdir_in(existing)
        .with_context(|| format!("cannot make a run folder in '{}'; pass another --outdir", outdir.display()))?;
    if let (Ok(existing), Ok(data)) = (fs::canonicalize(existing), fs::canonicalize(data)) {
        ensure!(
            !existing.starts_with(&data),
            "cannot write runs to '{}': it lies in the picture folder '{}', and the next run would train on this one's \
             grids; pass an --outdir outside --data",
            outdir.display(),
            data.display()
        );
    }
    Ok(())
}

/// Holds a run's folder for this process until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code)] File);

/// Locks a run's folder against other processes.
///
/// # Errors
/// Another process has locked the folder, or it cannot be written.
pub fn lock(folder: &Path) -> Result<FolderLock> {
    let path = folder.join(".lock");
    let file = to_change_or_make(&path).with_context(|| format!("cannot write '{}'", path.display()))?;
    let attempt = try_lock(&file).with_context(|| format!("cannot lock '{}'", path.display()))?;
    ensure!(
        attempt != Attempt::Taken,
        "another process works on the run '{}'; wait for it or stop it",
        folder.display()
    );
    Ok(FolderLock(file))
}

/// Removes the halves of files that a killed process was writing, `.fakes000012.png.a1b2c3` and the like.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    let context = || format!("cannot clean up in '{}'", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name();
        let ours =
            [".network-snapshot-", ".fakes", ".reals", ".training_options", ".bad_pictures", ".best.json", ".metric-"];
        let is_file = entry.file_type().with_context(context)?.is_file();
        if is_file && ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            fs::remove_file(entry.path()).with_context(context)?;
        }
    }
    Ok(())
}

/// Lists the grids of ticks with their numbers, in the order of the images seen.
///
/// # Errors
/// The folder cannot be listed.
pub fn numbered_grids(folder: &Path) -> Result<Vec<(Number, PathBuf)>> {
    let context = || format!("cannot list the grids in '{}'", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_suffix(".png").and_then(number_of_grid);
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// Reads the number in `fakes000020`, the name of a tick's grid without its ending.
pub fn number_of_grid(name: &str) -> Option<Number> {
    name.strip_prefix("fakes")?.parse().ok()
}

/// Lists the grids of a run: that of the start, then those of ticks.
///
/// # Errors
/// The folder cannot be listed.
pub fn grids(folder: &Path) -> Result<Vec<PathBuf>> {
    let start = Some(folder.join("fakes_init.png")).filter(|path| path.is_file());
    Ok(start.into_iter().chain(numbered_grids(folder)?.into_iter().map(|(_, path)| path)).collect())
}

fn next_number(outdir: &Path) -> Result<u32> {
    let mut next = 0;
    for entry in fs::read_dir(outdir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let digits = name.split('-').next().filter(|digits| digits.len() == 5);
        if let Some(number) = digits.and_then(|digits| digits.parse::<u32>().ok()) {
            next = next.max(number + 1);
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_from_the_highest() {
        let outdir = tempfile::tempdir().unwrap();
        fs::create_dir(outdir.path().join("00041-cats-x")).unwrap();
        fs::create_dir(outdir.path().join("notes")).unwrap();
        let folder = create(outdir.path(), "cats", "rooted 2").unwrap();
        assert!(folder.ends_with("00042-cats-rooted-2"));
        assert!(create(outdir.path(), "cats", "x").unwrap().ends_with("00043-cats-x"));
    }
}
