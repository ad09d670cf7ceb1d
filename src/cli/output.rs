//! The places of a command's outputs: what is not replaced, and folders that are made for them.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::system::ui::shell_command;

/// Makes sure that nothing is at the place of an output, named by a noun as in `film`.
///
/// # Errors
/// Something is there.
pub fn refuse_existing(path: &Path, noun: &str) -> Result<()> {
    ensure!(
        std::fs::symlink_metadata(path).is_err(),
        "cannot write the {noun} '{}': something of that name is there already; remove it or pass another --out",
        path.display()
    );
    Ok(())
}

/// Makes the folder that a file is to lie in.
///
/// # Errors
/// The folder cannot be made.
pub fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), make_folder)
}

/// Makes a folder for output.
///
/// # Errors
/// The folder cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder '{}'; pass another place", folder.display()))
}

/// Returns the command line of this program as it was typed, without the folder that the program lies in.
pub fn this_command() -> String {
    let words: Vec<_> = std::iter::once("rootgan".into()).chain(std::env::args_os().skip(1)).collect();
    shell_command(words.iter().map(|word| word.as_os_str()))
}
