//! A folder of networks, as import, new and export write it: what is in it belongs together, so all of it is replaced, and
//! only when that is asked for. `python/rootgan/network_folder.py` does the same in Python.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::files::atomic::remove_if_there;

/// The generator that makes pictures.
pub const GENERATOR: &str = "generator.pt";
/// The generator as trained, where it is another.
pub const GENERATOR_RAW: &str = "generator_raw.pt";
/// The discriminator.
pub const DISCRIMINATOR: &str = "discriminator.pt";
/// The record of an import, which is written last.
pub const IMPORT_RECORD: &str = "import.json";
/// The record of an export, which is written last.
pub const EXPORT_RECORD: &str = "export.json";
/// Everything that goes when the networks of a folder are replaced; the records first, so that none is beside networks of
/// another origin.
const NAMES: [&str; 5] = [IMPORT_RECORD, EXPORT_RECORD, GENERATOR, DISCRIMINATOR, GENERATOR_RAW];

/// Returns what would be replaced in a folder.
///
/// # Errors
/// There is something, and `force` is not given.
pub fn refuse_present(folder: &Path, force: bool) -> Result<Vec<PathBuf>> {
    let present: Vec<PathBuf> = NAMES.iter().map(|name| folder.join(name)).filter(|path| path.exists()).collect();
    if let Some(path) = present.first() {
        ensure!(
            force,
            "cannot export to '{}': it is there already; pass another --out, or --force to replace the networks there",
            path.display()
        );
    }
    Ok(present)
}

/// Lets `write` fill a scratch folder, then replaces the networks and records of `folder` by the files there. The record of the
/// new networks is the caller's to write afterwards.
///
/// The scratch is inside `folder`, which may be a mount point or a link: files beside it could lie in another file system, and
/// would not come over by being renamed.
///
/// # Errors
/// `write` fails, or the folder cannot be written; nothing is lost then, unless files that were written cannot be renamed.
pub fn replace_networks(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let context = || format!("cannot write to '{}'", folder.display());
    let scratch = tempfile::Builder::new().prefix(".networks.partial-").tempdir_in(folder).with_context(context)?;
    write(scratch.path())?;
    NAMES.iter().try_for_each(|name| remove_if_there(&folder.join(name)))?;
    for entry in std::fs::read_dir(scratch.path()).with_context(context)? {
        let entry = entry.with_context(context)?;
        std::fs::rename(entry.path(), folder.join(entry.file_name())).with_context(context)?;
    }
    Ok(())
}
