//! The files of a run folder that may be read, each opened by its own name in the folder: no name comes from a client, and
//! no link is followed.

use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::run::folder::number_of_grid;

/// The largest JSON file that is read: options and results.
const MAX_JSON_BYTES: u64 = 8 << 20;

/// A folder as it was found: reading through it fails once its path leads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// Takes a folder by its canonical path.
    pub fn new(canonical: PathBuf) -> Self {
        Self(canonical)
    }

    /// Returns its canonical path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a regular file that lies in the folder itself.
    ///
    /// # Errors
    /// There is no such file, it is a link or no regular file, or the folder's path leads elsewhere now.
    pub fn open(&self, name: &str) -> Result<File> {
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if !is_name || std::fs::canonicalize(&self.0)? != self.0 {
            return Err(Error::other("the folder has been moved"));
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.0.join(name))?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Error::other("it is no regular file")),
        }
    }

    /// Reads a JSON file; None where there is none, or where it is damaged.
    pub fn json(&self, name: &str) -> Option<Value> {
        let mut text = Vec::new();
        self.open(name).ok()?.take(MAX_JSON_BYTES).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Lists the names of the regular files in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// A picture grid of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// Name without its ending: `reals`, `fakes_init` or `fakes000020`.
    pub name: String,
    /// Thousands of images seen; None for the grid of real pictures.
    pub kimg: Option<f64>,
}

impl Grid {
    /// Recognises the file name of a grid.
    pub fn from_file_name(file: &str) -> Option<Self> {
        let name = file.strip_suffix(".png")?;
        let kimg = match name {
            "reals" => None,
            "fakes_init" => Some(0.0),
            _ => Some(number_of_grid(name)?.least_images() as f64 / 1000.0),
        };
        Some(Self { name: name.to_owned(), kimg })
    }

    /// Returns the name of its file.
    pub fn file_name(&self) -> String {
        format!("{}.png", self.name)
    }
}

/// Finds the grids among the files of a run, in the order in which they were made; the real pictures come first.
pub fn grids(names: &[String]) -> Vec<Grid> {
    let mut grids: Vec<Grid> = names.iter().filter_map(|name| Grid::from_file_name(name)).collect();
    let place = |grid: &Grid| (grid.kimg.unwrap_or(-1.0), grid.name != "fakes_init");
    grids.sort_by(|a, b| place(a).partial_cmp(&place(b)).expect("numbers in names are finite"));
    grids
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogPart {
    /// Byte at which the text begins.
    pub from: u64,
    /// Byte at which the next part begins.
    pub next: u64,
    /// The text; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Reads `most` bytes of a log from byte `from` on, or its end where `from` is None or beyond it; whole lines, if any.
///
/// # Errors
/// The file cannot be read.
pub fn log_part(mut file: File, from: Option<u64>, most: u64) -> Result<LogPart> {
    let length = file.metadata()?.len();
    let mut start = from.filter(|from| *from <= length).unwrap_or(length.saturating_sub(most));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    if from != Some(start) && start > 0 {
        // The first line is cut.
        let whole = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.drain(..whole);
        start += whole as u64;
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
    bytes.truncate(end);
    Ok(LogPart { from: start, next: start + bytes.len() as u64, text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// A short description of a file by which a change is noticed: inode, length and time.
pub fn version(file: &File) -> Option<(u64, u64, i64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()))
}

/// Returns the last line of a text file that is not empty.
pub fn last_line(file: &File) -> Option<String> {
    const END_BYTES: u64 = 4096;
    let length = file.metadata().ok()?.len();
    let mut bytes = vec![0; length.min(END_BYTES) as usize];
    file.read_exact_at(&mut bytes, length.saturating_sub(END_BYTES)).ok()?;
    String::from_utf8_lossy(&bytes).lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let canonical = std::fs::canonicalize(place.path()).unwrap().join("run");
        std::fs::create_dir(&canonical).unwrap();
        (place, Folder::new(canonical))
    }

    #[test]
    fn nothing_outside_of_the_folder_is_opened() {
        let (place, folder) = folder();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        std::fs::write(folder.path().join("own"), "own").unwrap();
        symlink(place.path().join("secret"), folder.path().join("link")).unwrap();
        assert!(folder.open("own").is_ok());
        for name in ["link", "../secret", "..", ".", "", "/etc/passwd", "own\0", "missing"] {
            assert!(folder.open(name).is_err(), "{name}");
        }
        // The folder itself becomes a link.
        std::fs::rename(folder.path(), place.path().join("moved")).unwrap();
        symlink(place.path().join("moved"), folder.path()).unwrap();
        assert!(folder.open("own").is_err());
    }

    #[test]
    fn grids_come_in_the_order_of_their_making() {
        let names =
            ["fakes000001.png", "fakes000000_204.png", "fakes000000.png", "fakes_init.png", "reals.png", "fakes1.png"];
        let grids = grids(&names.map(str::to_owned));
        let found: Vec<&str> = grids.iter().map(|grid| &*grid.name).collect();
        assert_eq!(found, ["reals", "fakes_init", "fakes000000", "fakes000000_204", "fakes000001"]);
        assert_eq!((grids[0].kimg, grids[3].kimg), (None, Some(0.204)));
    }

    #[test]
    fn a_log_is_read_in_parts_that_join() {
        let (_place, folder) = folder();
        std::fs::write(folder.path().join("log.txt"), "first\nsecond\nthird\nhal").unwrap();
        let part = |from, most| log_part(folder.open("log.txt").unwrap(), from, most).unwrap();
        assert_eq!(part(None, 1000), LogPart { from: 0, next: 19, text: "first\nsecond\nthird\n".into() });
        assert_eq!(part(None, 14).text, "third\n");
        assert_eq!(part(Some(6), 8), LogPart { from: 6, next: 13, text: "second\n".into() });
        assert_eq!(part(Some(9999), 1000).from, 0);
        assert_eq!(last_line(&folder.open("log.txt").unwrap()).as_deref(), Some("hal"));
    }
}
