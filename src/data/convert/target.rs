//! The place that a converted set goes to: a folder or zip in the layout of the StyleGAN tools. The set appears whole
//! or not at all, and every name in it is made here.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::data::passed_over::{LABEL_FILE, extension_of};
use crate::files::atomic::{fill_folder_atomically, replace_atomically};
use crate::files::lock::Lock;

/// Number of pictures in each folder.
const PER_FOLDER: usize = 1000;

/// A place that a set can be written to.
pub(super) enum Target {
    Folder(PathBuf),
    Zip(PathBuf),
}

impl Target {
    /// Checks the place. Nothing is written yet but the folders that it is to be in.
    ///
    /// # Errors
    /// Something is there already, the place lies inside `source`, its ending is another format's, or its folder cannot
    /// be made.
    pub fn check(path: &Path, source: &Path) -> Result<Self> {
        let shown = path.display();
        let ending = extension_of(path);
        ensure!(
            !["tar", "gz", "tgz", "7z", "rar", "png", "npz"].contains(&ending.as_str()),
            "cannot write '{shown}': a folder or a zip is written; pass a name that ends in .zip, or one without .{ending}"
        );
        ensure!(
            !is_inside(path, source),
            "cannot write '{shown}': it lies inside '{}', whose pictures it would join; pass a place outside",
            source.display()
        );
        let is_zip = ending == "zip";
        let found = match fs::symlink_metadata(path) {
            Err(_) => None,
            Ok(_) if is_zip || !path.is_dir() => Some("something of that name is there already"),
            Ok(_) if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) => None,
            Ok(_) => Some("the folder is there already and not empty"),
        };
        if let Some(found) = found {
            anyhow::bail!("cannot write '{shown}': {found}; remove it or pass another name");
        }
        // Where the place is a link to an empty folder, the folder is filled and the link stays.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder '{}'; pass another place", parent.display()))?;
        }
        Ok(if is_zip { Self::Zip(path) } else { Self::Folder(path) })
    }

    /// Lets `fill` put pictures and labels into a set, which appears once that has succeeded.
    ///
    /// # Errors
    /// The errors of `fill`, a place that cannot be written, or one that another process writes.
    pub fn fill(&self, fill: impl FnOnce(&mut Sink) -> Result<()>) -> Result<()> {
        let (Self::Folder(path) | Self::Zip(path)) = self;
        let _lock = Lock::on(path)?;
        // Another process may have made the zip since it was checked; a folder is checked when it gets its name.
        let is_taken = matches!(self, Self::Zip(path) if fs::symlink_metadata(path).is_ok());
        ensure!(!is_taken, "cannot write '{}': it was just made by another process; pass another name", path.display());
        match self {
            Self::Folder(path) => fill_folder_atomically(path, |place| fill(&mut Sink::Folder(place.to_owned()))),
            Self::Zip(path) => replace_atomically(path, |place| {
                let mut sink = Sink::Zip(Box::new(ZipWriter::new(BufWriter::new(File::create(place)?))));
                let filled = fill(&mut sink);
                match sink {
                    Sink::Zip(zip) if filled.is_ok() => Ok(zip.finish()?.flush()?),
                    unfinished => {
                        // Dropping the writer would complete the zip that is to be removed, and complain where it
                        // cannot.
                        std::mem::forget(unfinished);
                        filled
                    }
                }
            }),
        }
    }
}

/// A set that is being written.
pub(super) enum Sink {
    Folder(PathBuf),
    Zip(Box<ZipWriter<BufWriter<File>>>),
}

impl Sink {
    /// Writes picture `index`; pictures have to come in order.
    pub fn picture(&mut self, index: usize, png: &[u8]) -> Result<()> {
        if let Self::Folder(root) = self
            && index.is_multiple_of(PER_FOLDER)
            && let Some(folder) = root.join(picture_name(index)).parent()
        {
            fs::create_dir(folder)?;
        }
        self.file(&picture_name(index), |out| Ok(out.write_all(png)?))
    }

    /// Writes the classes of all pictures, or that there are none.
    pub fn labels(&mut self, classes: Option<&[u32]>) -> Result<()> {
        self.file(LABEL_FILE, |out| {
            let Some(classes) = classes else {
                return Ok(writeln!(out, r#"{{"labels": null}}"#)?);
            };
            write!(out, r#"{{"labels": ["#)?;
            for (index, class) in classes.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                write!(out, r#"{comma}["{}", {class}]"#, picture_name(index))?;
            }
            Ok(writeln!(out, "]}}")?)
        })
    }

    fn file(&mut self, name: &str, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        match self {
            Self::Folder(root) => {
                let mut file = BufWriter::new(File::create_new(root.join(name))?);
                write(&mut file)?;
                Ok(file.flush()?)
            }
            Self::Zip(zip) => {
                // Pictures are stored, as other tools read single ones in place; a fixed time makes equal sets equal
                // files.
                let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
                zip.start_file(name, stored.last_modified_time(DateTime::default()).unix_permissions(0o644))?;
                write(zip)
            }
        }
    }
}

/// Names a picture as the StyleGAN tools do, `00012/img00012345.png`: sorted by name, pictures are in order.
fn picture_name(index: usize) -> String {
    let digits = format!("{index:08}");
    format!("{}/img{digits}.png", &digits[..digits.len() - 3])
}

/// Whether `path`, which need not exist, is `source` or in it.
fn is_inside(path: &Path, source: &Path) -> bool {
    let Ok(source) = fs::canonicalize(source) else {
        return false;
    };
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let nearest = full.ancestors().find_map(|ancestor| fs::canonicalize(ancestor).ok());
    nearest.is_some_and(|nearest| nearest.starts_with(&source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_pictures_share_a_folder_and_names_sort_in_order() {
        assert_eq!(picture_name(0), "00000/img00000000.png");
        assert_eq!(picture_name(999), "00000/img00000999.png");
        assert_eq!(picture_name(1_000), "00001/img00001000.png");
        assert_eq!(picture_name(99_999_999), "99999/img99999999.png");
    }

    #[test]
    fn a_place_inside_is_told_from_one_beside_also_through_links() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("set");
        fs::create_dir(&source).unwrap();
        std::os::unix::fs::symlink(&source, place.path().join("link")).unwrap();
        for (path, inside) in
            [("set", true), ("set/a/b", true), ("link/a.zip", true), ("set2", false), ("a.zip", false)]
        {
            assert_eq!(is_inside(&place.path().join(path), &source), inside, "{path}");
        }
    }
}
