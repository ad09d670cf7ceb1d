//! Finds the pictures under a folder, in an order that is the same on every machine.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

/// Files with these extensions (in any case) are pictures; what they really hold shows when decoding.
pub const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "gif"];

/// Every picture under `root` at any depth: paths below `root`, sorted by their bytes.
///
/// Links are followed, once where they form a loop. Hidden files and folders (`.name`, which covers
/// the `._name` of macOS) and `__MACOSX` are passed over. A dangling link that is named like a
/// picture is listed, so that decoding can name it.
///
/// # Errors
/// `root` is no folder, holds no picture, or a folder in it cannot be read.
pub fn list_images(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    let mut others = BTreeMap::<String, usize>::new();
    let walk = WalkDir::new(root).follow_links(true);
    for entry in walk.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name())) {
        let (path, is_file) = match entry {
            Ok(entry) => (entry.path().to_owned(), entry.file_type().is_file()),
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => match dangling_link(&error) {
                // Such as the locks of Emacs, `.#name`.
                Some(path) if path.file_name().is_some_and(is_hidden) => continue,
                Some(path) => (path, true),
                None => {
                    let action = format!("cannot list the pictures in '{}'", root.display());
                    let remedy = "make every folder in it readable or move it away";
                    return Err(error).context(format!("{action}; {remedy}"));
                }
            },
        };
        if !is_file {
            continue;
        }
        let extension = extension_of(&path);
        if EXTENSIONS.contains(&extension.as_str()) {
            pictures.push(path.strip_prefix(root).map_or_else(|_| path.clone(), Path::to_owned));
        } else {
            *others.entry(extension).or_default() += 1;
        }
    }
    if pictures.is_empty() {
        bail!(
            "no pictures in '{}': looked for {} at any depth and found {}; pass the folder that holds the pictures",
            root.display(),
            EXTENSIONS.join(", "),
            describe(&others)
        );
    }
    pictures.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(pictures)
}

/// Names of hidden files and of what macOS adds to archives.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
}

/// The link, if the walk failed only because what it points to is gone.
fn dangling_link(error: &walkdir::Error) -> Option<PathBuf> {
    let path = error.path()?;
    fs::symlink_metadata(path).ok()?.is_symlink().then(|| path.to_owned())
}

/// In lower case; empty if there is none.
pub(super) fn extension_of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// `12 other files (9 txt, 3 without extension)`, the five most frequent kinds first.
pub(super) fn describe(others: &BTreeMap<String, usize>) -> String {
    if others.is_empty() {
        return "no files at all".to_owned();
    }
    let mut kinds: Vec<_> = others.iter().collect();
    kinds.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
    let named = kinds.iter().take(5).map(|(extension, count)| match extension.as_str() {
        "" => format!("{count} without extension"),
        extension => format!("{count} {extension}"),
    });
    let total: usize = others.values().sum();
    let files = if total == 1 { "file" } else { "files" };
    format!("{total} other {files} ({})", named.collect::<Vec<_>>().join(", "))
}
