//! Finds the pictures under a folder, in an order that is the same on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

use super::passed_over::{PassedOver, extension_of, is_passed_over};

/// Extensions (in any case) by which files are taken for pictures; what they really hold shows when decoding.
pub const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "tif", "tiff", "gif"];

/// Lists every picture under `root` at any depth: paths below `root`, sorted by their bytes; and what was passed over.
///
/// Links are followed, once where they form a loop. Hidden files and folders (`.name`, which covers the `._name` of
/// macOS) and the thumbnails of photo programs are passed over. A dangling link that is named like a picture is listed,
/// so that decoding can name it.
///
/// # Errors
/// `root` is no folder, holds no picture, or a folder in it cannot be read.
pub fn list_images(root: &Path) -> Result<(Vec<PathBuf>, PassedOver)> {
    let mut pictures = Vec::new();
    let mut passed_over = PassedOver::default();
    let mut walk = WalkDir::new(root).follow_links(true).into_iter();
    while let Some(entry) = walk.next() {
        if let Some(entry) = entry.as_ref().ok().filter(|entry| entry.depth() > 0 && is_passed_over(entry.file_name()))
        {
            if entry.file_type().is_dir() {
                passed_over.add_folder(entry.file_name());
                walk.skip_current_dir();
            } else {
                passed_over.add_hidden_file();
            }
            continue;
        }
        let (path, is_file) = match entry {
            Ok(entry) if entry.file_type().is_dir() => continue,
            Ok(entry) => (entry.path().to_owned(), entry.file_type().is_file()),
            Err(error) if error.loop_ancestor().is_some() => {
                let name = error.path().and_then(Path::file_name).unwrap_or_default();
                passed_over.add_folder(name);
                continue;
            }
            Err(error) => match dangling_link(&error) {
                // The locks of Emacs, `.#name`, are such links.
                Some(path) if path.file_name().is_some_and(is_passed_over) => {
                    passed_over.add_hidden_file();
                    continue;
                }
                Some(path) => (path, true),
                None => {
                    let action = format!("cannot list the pictures in '{}'", root.display());
                    let remedy = "make every folder in it readable or move it away";
                    return Err(error).context(format!("{action}; {remedy}"));
                }
            },
        };
        if !is_file {
            passed_over.add_special_file();
            continue;
        }
        let name = path.strip_prefix(root).map_or_else(|_| path.clone(), Path::to_owned);
        if EXTENSIONS.contains(&extension_of(&path).as_str()) {
            pictures.push(name);
        } else {
            passed_over.add(&name);
        }
    }
    if pictures.is_empty() {
        bail!(
            "no pictures in '{}': looked for {} at any depth and found {}; pass the folder that holds the pictures",
            root.display(),
            EXTENSIONS.join(", "),
            passed_over.describe()
        );
    }
    pictures.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok((pictures, passed_over))
}

/// Returns the link, if the walk failed only because what it points to is gone.
fn dangling_link(error: &walkdir::Error) -> Option<PathBuf> {
    let path = error.path()?;
    fs::symlink_metadata(path).ok()?.is_symlink().then(|| path.to_owned())
}
