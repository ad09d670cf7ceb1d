//! Reads a zip from several threads at once, each entry within bounds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use zip::ZipArchive;
use zip::result::ZipError;

use super::decode::read_bounded;
use crate::files::opening::to_read;

/// Number of entries that no data set exceeds; the list of more would take gigabytes.
const MAX_ENTRIES: usize = 20_000_000;

/// An open zip. Its names are those that the archive claims: they are used for looking up, never as places to write.
pub(super) struct PictureZip {
    path: PathBuf,
    archive: ZipArchive<SharedFile>,
    /// Place of each file in the archive, by its plain name.
    entries: BTreeMap<String, usize>,
}

impl PictureZip {
    /// Opens a zip and reads its list of entries.
    ///
    /// # Errors
    /// No file, no zip, or one with too many entries.
    pub fn open(path: &Path) -> Result<Self> {
        let context = || format!("cannot open '{}' as a zip; pass a folder of pictures or a whole zip", path.display());
        let file = to_read(path).with_context(context)?;
        let length = file.metadata().with_context(context)?.len();
        let shared = SharedFile { file: Arc::new(file), position: 0, length };
        let archive = ZipArchive::new(shared).with_context(context)?;
        ensure!(
            archive.len() <= MAX_ENTRIES,
            "cannot use '{}': it has {} entries, more than {MAX_ENTRIES}; split it",
            path.display(),
            archive.len()
        );
        let mut entries = BTreeMap::new();
        for (index, name) in archive.file_names().enumerate() {
            let name = plain_name(name);
            if !name.ends_with('/') {
                entries.entry(name).or_insert(index);
            }
        }
        Ok(Self { path: path.to_owned(), archive, entries })
    }

    /// Lists the names of all files in the zip with `/` between folders. A name that comes twice is listed once.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Reads the content of one file, of at most `limit` bytes, whatever size the archive claims.
    ///
    /// # Errors
    /// No such entry, a method of compression that is not supported, damage, or too much content.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        // The copy shares the list of entries and has a position of its own, so that threads do not disturb each other.
        let mut archive = self.archive.clone();
        let index = *self.entries.get(name).with_context(|| format!("it is not in '{}'", self.path.display()))?;
        let entry = archive.by_index(index).map_err(|error| {
            let remedy = match error {
                ZipError::UnsupportedArchive(_) => "; make the zip anew, stored or deflated and without a password",
                _ => "",
            };
            anyhow!(error).context(format!("cannot read it in '{}'{remedy}", self.path.display()))
        })?;
        read_bounded(entry, limit)
    }
}

/// Brings a name to `/` between its parts, as some archivers of Windows write `\` there, and removes `./` in front.
fn plain_name(name: &str) -> String {
    let name = name.replace('\\', "/");
    let mut rest = name.as_str();
    while let Some(shorter) = rest.strip_prefix("./") {
        rest = shorter;
    }
    rest.to_owned()
}

/// An open file that its copies share, each with a position of its own.
#[derive(Clone)]
struct SharedFile {
    file: Arc<File>,
    position: u64,
    length: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::other("a place before the beginning of the file"))?;
        Ok(self.position)
    }
}
