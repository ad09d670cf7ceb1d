//! One run as its folder shows it, read again as it grows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::files::{self, Folder, Grid};
use super::locks::Locks;
use super::metrics::Series;
use super::statistics::{KIMG, StatisticsColumns};
use super::tail::{Growth, Tail};
use super::warnings::{self, Warning};
use crate::run::comparison::Arm;

/// Ticks from which the speed is taken.
const SPEED_TICKS: usize = 10;
/// Seconds in which a run without a lock that this machine knows of, and without an end, must have written to count as
/// training; at least so many, and at least two ticks.
const FRESH_SECONDS: f64 = 30.0;

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A process works on it.
    Training,
    /// It has seen all its images.
    Finished,
    /// A signal stopped it.
    Stopped,
    /// An error ended it.
    Failed,
    /// Its process is gone without a word.
    #[default]
    Interrupted,
}

/// What a page shows of a run besides its curves.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunSummary {
    /// Name of the folder.
    pub name: String,
    /// The folder above it, as seen from the folder that is served; empty for none.
    pub group: String,
    /// The arm and seed of a comparison.
    pub arm: Option<String>,
    /// Why the comparison takes it to have no value at its end.
    pub arm_ended: Option<String>,
    /// Whether it goes on.
    pub state: State,
    /// The last words of its log, where it did not end by itself.
    pub last_words: Option<String>,
    /// Thousands of images seen.
    pub kimg: f64,
    /// Thousands of images that it is to see.
    pub total_kimg: Option<f64>,
    /// Time of the last tick, in seconds since 1970.
    pub last_time: Option<f64>,
    /// Seconds for a thousand images, with grids and metrics, over the last ticks.
    pub sec_per_kimg: Option<f64>,
    /// Time at which it will be finished.
    pub end_time: Option<f64>,
    /// What is wrong with it.
    pub warnings: Vec<Warning>,
    /// The metrics over the images seen.
    pub metrics: Vec<Series>,
    /// The grids.
    pub grids: Vec<Grid>,
    /// The options in effect that have a value.
    pub options: Map<String, Value>,
    /// Rows of statistics.
    pub rows: usize,
    /// The generation of the statistics.
    pub generation: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
}

/// A run folder and what was read of it.
pub struct WatchedRun {
    /// The name in addresses, which says nothing about the path.
    pub id: String,
    /// Its folder.
    pub folder: Folder,
    group: String,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    tail: Tail,
    statistics: StatisticsColumns,
    summary: RunSummary,
    seen: Option<SeenVersions>,
}

/// What tells whether something has changed.
type Version = Option<(u64, u64, i64)>;

#[derive(PartialEq)]
struct SeenVersions {
    files: [Version; 3],
    metrics: Vec<Version>,
    folder: Option<SystemTime>,
    state: State,
}

/// Returns a name for addresses that a path always has, and that says nothing about it.
pub fn id_of(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl WatchedRun {
    /// Takes a folder, by its canonical path, that lies in `group` among the served ones.
    pub fn new(folder: PathBuf, group: String) -> Self {
        Self { id: id_of(&folder), folder: Folder::new(folder), group, read: Mutex::default() }
    }

    /// Returns its name among all runs that are served: that of its folder, below the folders that it lies in.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.name() } else { format!("{}/{}", self.group, self.name()) }
    }

    /// Reads what has changed; a file that is missing adds nothing.
    pub fn refresh(&self, locks: &Locks) {
        let mut read = self.lock();
        let open = |name: &str| self.folder.open(name).ok();
        let (stats, log, options) = (open("stats.jsonl"), open("log.txt"), open("training_options.json"));
        let version = |file: &Option<File>| file.as_ref().and_then(files::version);
        let state = self.state(&read.summary, locks, log.as_ref());
        let metrics = |known: &[Series]| known.iter().map(|series| version(&open(&series.file_name()))).collect();
        let seen = SeenVersions {
            files: [version(&stats), version(&log), version(&options)],
            metrics: metrics(&read.summary.metrics),
            folder: std::fs::metadata(self.folder.path()).and_then(|folder| folder.modified()).ok(),
            state: state.0,
        };
        if read.seen.as_ref() == Some(&seen) {
            return;
        }
        if let Some(file) = stats {
            read.read_statistics(file);
        }
        let names = self.folder.names();
        read.read_metrics(&self.folder, &names);
        read.summary.grids = files::grids(&names);
        read.summary.log_bytes = log.as_ref().and_then(files::version).map_or(0, |version| version.1);
        if let Some(Value::Object(options)) = self.folder.json("training_options.json") {
            read.summary.options = options.into_iter().filter(|(_, value)| !value.is_null()).collect();
        }
        read.summary.name = self.name();
        read.summary.group = self.group.clone();
        read.summarise();
        // What is known now may say more of the state: whether all images are seen, for example.
        let (state, last_words) = self.state(&read.summary, locks, log.as_ref());
        (read.summary.state, read.summary.last_words) = (state, last_words);
        read.summary.end_time = read.end_time();
        // Metric files that came with this reading count from now on.
        read.seen = Some(SeenVersions { metrics: metrics(&read.summary.metrics), state, ..seen });
    }

    /// Returns the name of the folder.
    pub fn name(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Says which arm of a comparison it is.
    pub fn set_arm(&self, arm: Option<&Arm>) {
        let mut read = self.lock();
        read.summary.arm = arm.map(Arm::words);
        read.summary.arm_ended = arm.and_then(|arm| arm.ended.clone());
    }

    /// Returns everything but the curves.
    pub fn summary(&self) -> RunSummary {
        self.lock().summary.clone()
    }

    /// Returns the curves from row `after` on if they go on from what the client has, else all of them.
    pub fn curves(&self, generation: u64, after: usize) -> Value {
        let read = self.lock();
        let goes_on = generation == read.statistics.generation && after <= read.statistics.rows();
        curves_of(&read.statistics, if goes_on { after } else { 0 })
    }

    /// Returns all curves in so many rows at most.
    pub fn curves_within(&self, rows: usize) -> Value {
        curves_of(&self.lock().statistics.within(rows), 0)
    }

    /// Decides whether the run goes on, and finds the last words of one that was ended.
    fn state(&self, known: &RunSummary, locks: &Locks, log: Option<&File>) -> (State, Option<String>) {
        if self.folder.open(".lock").is_ok_and(|file| locks.hold(&file)) {
            return (State::Training, None);
        }
        let last = log.and_then(files::last_line).unwrap_or_default();
        let is_complete = known.total_kimg.is_some_and(|total| known.kimg > 0.0 && known.kimg + 1e-6 >= total);
        if is_complete || last.starts_with("done: ") {
            return (State::Finished, None);
        }
        if last.starts_with("stopped by ") {
            return (State::Stopped, Some(last));
        }
        if last.starts_with("error: ") {
            return (State::Failed, Some(last));
        }
        let written = log.and_then(|log| log.metadata().ok()?.modified().ok());
        let age = written.and_then(|time| time.elapsed().ok()).map_or(f64::INFINITY, |age| age.as_secs_f64());
        if age < seconds_of_two_ticks(known).max(FRESH_SECONDS) {
            (State::Training, None)
        } else {
            (State::Interrupted, None)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how long two ticks take, or 0 where it is not known.
fn seconds_of_two_ticks(known: &RunSummary) -> f64 {
    let tick_kimg = known.options.get("tick_kimg").and_then(Value::as_f64);
    known.sec_per_kimg.zip(tick_kimg).map_or(0.0, |(seconds, kimg)| 2.0 * seconds * kimg)
}

impl Read {
    fn read_statistics(&mut self, file: File) {
        let statistics = &mut self.statistics;
        let outcome = self.tail.read(file, |growth, line| match line {
            [] if growth == Growth::Restarted => statistics.restart(),
            [] => {}
            line => statistics.add(line),
        });
        if outcome.is_err() {
            // Read again from its beginning the next time.
            self.tail = Tail::default();
        }
    }

    fn read_metrics(&mut self, folder: &Folder, names: &[String]) {
        let series = &mut self.summary.metrics;
        for found in names.iter().filter_map(|name| Series::from_file_name(name)) {
            if series.iter().all(|known| known.metric != found.metric) {
                series.push(found);
            }
        }
        series.iter_mut().for_each(|series| series.refresh(folder));
    }

    fn summarise(&mut self) {
        let (statistics, summary) = (&self.statistics, &mut self.summary);
        summary.kimg = statistics.last(KIMG).unwrap_or(0.0);
        summary.total_kimg = summary.options.get("kimg").and_then(Value::as_f64);
        summary.last_time = statistics.last_time;
        summary.rows = statistics.rows();
        summary.generation = statistics.generation;
        summary.warnings = warnings::of_run(statistics, &summary.metrics);
        let kimg = statistics.recent(KIMG, SPEED_TICKS + 1);
        let time = |name: &str| statistics.total(name, kimg.len().saturating_sub(1));
        summary.sec_per_kimg = kimg
            .first()
            .zip(kimg.last())
            .filter(|(first, last)| last > first)
            .map(|(first, last)| (time("Timing/sec_per_tick") + time("Timing/maintenance_sec")) / (last - first));
        // The metric that the run is judged by comes first: the first one of its options that has values.
        let listed = summary.options.get("metrics").and_then(Value::as_str).unwrap_or_default();
        let order: Vec<&str> = listed.split(',').map(str::trim).collect();
        summary.metrics.sort_by_key(|series| {
            let place = order.iter().position(|name| *name == series.metric).unwrap_or(order.len());
            (series.points.is_empty(), place)
        });
    }

    /// Returns when a run that goes on will have seen all its images.
    fn end_time(&self) -> Option<f64> {
        let summary = &self.summary;
        let left = (summary.total_kimg? - summary.kimg).max(0.0);
        (summary.state == State::Training).then_some(summary.last_time? + left * summary.sec_per_kimg?)
    }
}

fn curves_of(statistics: &StatisticsColumns, first: usize) -> Value {
    let columns: Map<String, Value> =
        statistics.columns_from(first).map(|(name, values)| (name.to_owned(), json!(values))).collect();
    json!({ "generation": statistics.generation, "first": first, "rows": statistics.rows(), "columns": columns })
}

/// Returns the seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn write_run(folder: &Path, last_line: &str, kimgs: &[f64]) {
        std::fs::write(folder.join("training_options.json"), r#"{"kimg": 10.0, "tick_kimg": 1.0, "p": null}"#).unwrap();
        std::fs::write(folder.join("log.txt"), format!("begun\n{last_line}\n")).unwrap();
        let line = |kimg: &f64| {
            let mean = |value: f64| json!({ "mean": value });
            let line = json!({
                "Progress/kimg": mean(*kimg), "Timing/sec_per_tick": mean(9.0), "Timing/maintenance_sec": mean(1.0),
                "timestamp": 1000.0 + 10.0 * kimg,
            });
            format!("{line}\n")
        };
        std::fs::write(folder.join("stats.jsonl"), kimgs.iter().map(line).collect::<String>()).unwrap();
    }

    fn age(folder: &Path) {
        let log = File::options().write(true).open(folder.join("log.txt")).unwrap();
        log.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }

    fn summary(folder: &Path) -> RunSummary {
        let run = WatchedRun::new(std::fs::canonicalize(folder).unwrap(), String::new());
        run.refresh(&Locks::read());
        run.summary()
    }

    #[test]
    fn the_state_is_that_of_the_lock_or_else_of_the_last_words() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let state = |last: &str, kimgs: &[f64]| {
            write_run(folder, last, kimgs);
            age(folder);
            let summary = summary(folder);
            (summary.state, summary.last_words)
        };
        assert_eq!(state("tick 1", &[1.0]), (State::Interrupted, None));
        assert_eq!(state("tick 9", &[1.0, 10.0]), (State::Finished, None));
        let words = "stopped by SIGINT at 1.0 kimg";
        assert_eq!(state(words, &[1.0]), (State::Stopped, Some(words.to_owned())));
        assert_eq!(state("error: the disk is full", &[1.0]).0, State::Failed);
        let lock = crate::run::folder::lock(folder).unwrap();
        assert_eq!(state("error: the disk is full", &[1.0]), (State::Training, None), "it was resumed");
        drop(lock);
        write_run(folder, "tick 1", &[1.0]);
        assert_eq!(summary(folder).state, State::Training, "a process elsewhere has just written");
    }

    #[test]
    fn the_end_is_told_from_the_last_ticks_with_all_that_they_took() {
        let place = tempfile::tempdir().unwrap();
        write_run(place.path(), "tick 3", &[1.0, 2.0, 3.0, 4.0]);
        let summary = summary(place.path());
        assert_eq!((summary.kimg, summary.total_kimg, summary.sec_per_kimg), (4.0, Some(10.0), Some(10.0)));
        assert_eq!(summary.end_time, Some(1040.0 + 60.0));
        assert!(!summary.options.contains_key("p"), "an option without a value is not in effect");
    }

    #[test]
    fn the_speed_stays_when_ticks_were_merged() {
        let place = tempfile::tempdir().unwrap();
        let kimgs: Vec<f64> = (1..=super::super::statistics::MAX_ROWS + 3).map(|tick| tick as f64).collect();
        write_run(place.path(), "tick 4003", &kimgs);
        assert_eq!(summary(place.path()).sec_per_kimg, Some(10.0));
    }

    #[test]
    fn the_metric_of_a_run_is_the_first_of_its_options_that_has_values() {
        let place = tempfile::tempdir().unwrap();
        write_run(place.path(), "tick 4", &[4.0]);
        let options = r#"{"metrics": "kid2k_full,fid2k_full"}"#;
        std::fs::write(place.path().join("training_options.json"), options).unwrap();
        let write = |metric: &str, line: &str| {
            std::fs::write(place.path().join(format!("metric-{metric}.jsonl")), format!("{line}\n")).unwrap();
        };
        let first = || summary(place.path()).metrics[0].metric.clone();
        // What `rootgan metrics` measured of the run afterwards has no place in it.
        write("dc2k5", r#"{"results": {"dc2k5_density": 1.0}}"#);
        write("fid2k_full", r#"{"kimg": 4.0, "results": {"fid2k_full": 3.5}}"#);
        assert_eq!(first(), "fid2k_full");
        write("kid2k_full", r#"{"kimg": 4.0, "results": {"kid2k_full": 0.5}}"#);
        assert_eq!(first(), "kid2k_full");
    }

    #[test]
    fn a_folder_with_little_in_it_is_a_run_too() {
        let place = tempfile::tempdir().unwrap();
        let empty = summary(place.path());
        assert_eq!((empty.rows, empty.kimg, empty.grids.len(), empty.log_bytes), (0, 0.0, 0, 0));
        std::fs::write(place.path().join("stats.jsonl"), "{\"Progress/kimg\": {\"mean\": 1.0}}\n{\"Progr").unwrap();
        std::fs::write(place.path().join("training_options.json"), "{damaged").unwrap();
        let damaged = summary(place.path());
        assert_eq!((damaged.rows, damaged.options.len()), (1, 0));
    }
}
