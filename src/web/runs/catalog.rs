//! Finds runs in the folders that are served, also those that begin later. Runs are known by names that the catalog gives;
//! a client never names a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use walkdir::WalkDir;

use super::files::Folder;
use super::locks::Locks;
use super::results::ComparisonResults;
use super::run::WatchedRun;

/// How deep runs are looked for: a folder of comparisons, a comparison, a data set, a run.
const DEPTH: usize = 4;
/// The most runs that are shown.
const MAX_RUNS: usize = 2000;
/// Time between two looks for new runs, and between two looks into all of them.
const SCAN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);
/// Files of which a run has at least one.
const SIGNS: [&str; 2] = ["training_options.json", "stats.jsonl"];

/// The runs in some folders.
pub struct Catalog {
    places: Vec<PathBuf>,
    found: Mutex<FoundRuns>,
}

#[derive(Default)]
struct FoundRuns {
    /// By the order in which they are shown.
    runs: BTreeMap<(String, PathBuf), Arc<WatchedRun>>,
    scanned: Option<Instant>,
    looked: Option<Instant>,
}

impl Catalog {
    /// Takes folders that are runs or hold some.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn new(places: &[PathBuf]) -> Result<Self> {
        let canonical = |place: &PathBuf| {
            let shown = place.display();
            let path = std::fs::canonicalize(place)
                .with_context(|| format!("cannot serve '{shown}'; pass run folders or a folder that holds some"))?;
            ensure!(path.is_dir(), "cannot serve '{shown}': it is a file; pass a run's folder");
            Ok(path)
        };
        Ok(Self { places: places.iter().map(canonical).collect::<Result<_>>()?, found: Mutex::default() })
    }

    /// Returns all runs as they are now, in order.
    pub fn runs(&self) -> Vec<Arc<WatchedRun>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.scanned.is_none_or(|at| at.elapsed() >= SCAN) {
            self.scan(&mut found);
            found.scanned = Some(Instant::now());
        }
        if found.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            let locks = Locks::read();
            found.runs.values().for_each(|run| run.refresh(&locks));
            found.looked = Some(Instant::now());
        }
        found.runs.values().cloned().collect()
    }

    /// Returns the run of this name, as it is now.
    pub fn find(&self, id: &str) -> Option<Arc<WatchedRun>> {
        self.runs().into_iter().find(|run| run.id == id)
    }

    fn scan(&self, found: &mut FoundRuns) {
        let mut runs = BTreeMap::new();
        for place in &self.places {
            for (folder, group) in runs_in(place, self.places.len() > 1) {
                if runs.len() >= MAX_RUNS {
                    break;
                }
                let key = (group.clone(), folder.clone());
                let known = found.runs.get(&key).cloned();
                runs.insert(key, known.unwrap_or_else(|| Arc::new(WatchedRun::new(folder, group))));
            }
        }
        name_arms(&runs);
        found.runs = runs;
    }
}

/// Lists the runs in a folder, which may be one itself, with the folders that they lie in as seen from it.
fn runs_in(place: &Path, by_place: bool) -> Vec<(PathBuf, String)> {
    let is_run =
        |folder: &Path| SIGNS.iter().any(|name| folder.join(name).symlink_metadata().is_ok_and(|it| it.is_file()));
    if is_run(place) {
        return vec![(place.to_owned(), String::new())];
    }
    let mut runs = Vec::new();
    let mut walk = WalkDir::new(place).follow_links(false).max_depth(DEPTH).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_dir() {
            continue;
        }
        let is_hidden = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
        if is_run(entry.path()) {
            let above = entry.path().parent().unwrap_or(place);
            let inside = above.strip_prefix(place).unwrap_or(Path::new(""));
            let base = if by_place { place.file_name().map(PathBuf::from).unwrap_or_default() } else { PathBuf::new() };
            runs.push((entry.path().to_owned(), base.join(inside).to_string_lossy().trim_end_matches('/').to_owned()));
        }
        if is_hidden || is_run(entry.path()) {
            walk.skip_current_dir();
        }
    }
    runs
}

/// Gives runs of comparisons the names of their arms.
fn name_arms(runs: &BTreeMap<(String, PathBuf), Arc<WatchedRun>>) {
    let mut comparisons: BTreeMap<&Path, Option<ComparisonResults>> = BTreeMap::new();
    for ((_, folder), run) in runs {
        let Some(above) = folder.parent() else { continue };
        let results =
            comparisons.entry(above).or_insert_with(|| ComparisonResults::read(&Folder::new(above.to_owned())));
        run.set_arm(results.as_ref().and_then(|it| it.comparison.arm_of(&run.name())));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn make_run(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("training_options.json"), "{\"kimg\": 4}").unwrap();
    }

    #[test]
    fn runs_are_found_in_folders_and_comparisons_and_not_behind_links() {
        let place = tempfile::tempdir().unwrap();
        let (served, outside) = (place.path().join("runs"), place.path().join("outside/00009-x"));
        make_run(&served.join("00000-cats"));
        make_run(&served.join("compared/set/rooted2-seed0"));
        make_run(&served.join("00000-cats/inside"));
        make_run(&served.join(".trash/00001-cats"));
        make_run(&outside);
        symlink(&outside, served.join("00002-link")).unwrap();
        let catalog = Catalog::new(std::slice::from_ref(&served)).unwrap();
        let summaries: Vec<_> = catalog.runs().iter().map(|run| run.summary()).collect();
        let found: Vec<(&str, &str)> = summaries.iter().map(|run| (&*run.group, &*run.name)).collect();
        assert_eq!(found, [("", "00000-cats"), ("compared/set", "rooted2-seed0")]);
        assert_eq!(summaries[0].total_kimg, Some(4.0));
        let ids: Vec<String> = catalog.runs().iter().map(|run| run.id.clone()).collect();
        assert!(catalog.find(&ids[1]).is_some() && catalog.find("../outside").is_none());
    }

    #[test]
    fn a_run_can_be_served_itself_and_a_missing_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        make_run(&place.path().join("run"));
        let catalog = Catalog::new(&[place.path().join("run")]).unwrap();
        assert_eq!(catalog.runs()[0].summary().name, "run");
        let error = Catalog::new(&["/nowhere/runs".into()]).err().unwrap();
        assert!(format!("{error:#}").contains("cannot serve '/nowhere/runs'; pass run folders"), "{error:#}");
    }
}
