//! Reads what a run's folder holds: statistics, metrics, grids, options, the end of the log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::points::{MetricPoint, TickPoint};
use super::warnings::warnings;
use crate::files::opening::to_read;
use crate::run::folder::numbered_grids;

/// Folders below a given one that are searched for runs, and most runs that are listed.
const DEPTH: usize = 3;
const MOST_RUNS: usize = 1000;
/// Most bytes of a file of lines that are read, and of the log's end.
const MOST_BYTES: u64 = 256 << 20;
const LOG_BYTES: u64 = 16 << 10;

/// A run in the list.
#[derive(Clone, Debug, Serialize)]
pub struct RunEntry {
    /// Name in addresses: digits that depend on the path alone.
    pub id: String,
    /// The folder's name, or with those above it where it lies deeper.
    pub name: String,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Lists the runs in these folders, each of which is a run or holds runs, the newest name last.
pub fn list(roots: &[PathBuf]) -> Vec<RunEntry> {
    let mut found = Vec::new();
    for root in roots {
        let walk = walkdir::WalkDir::new(root).max_depth(DEPTH).sort_by_file_name().into_iter();
        // A run holds no other runs.
        let walk = walk.filter_entry(|entry| {
            entry.file_type().is_dir()
                && (entry.depth() == 0 || entry.path().parent().is_none_or(|above| !is_run(above)))
        });
        for entry in walk {
            let Ok(entry) = entry else { continue };
            if !is_run(entry.path()) || found.len() >= MOST_RUNS {
                continue;
            }
            let folder = entry.into_path();
            let below = folder.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
            let name = below.map_or_else(|| folder.file_name().unwrap_or_default().into(), Path::to_owned);
            let id = Sha256::digest(folder.as_os_str().as_encoded_bytes());
            let id = id[..6].iter().map(|byte| format!("{byte:02x}")).collect();
            found.push(RunEntry { id, name: name.to_string_lossy().into_owned(), folder });
        }
    }
    found
}

fn is_run(folder: &Path) -> bool {
    folder.join("training_options.json").is_file() && folder.join("stats.jsonl").is_file()
}

/// A grid of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GridEntry {
    /// Name of the file.
    pub file: String,
    /// Thousands of images seen; at least, where several grids are of one thousand.
    pub kimg: f64,
}

/// What is shown of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// `running`, `done`, or `stopped` before its end.
    pub state: &'static str,
    /// Thousands of images seen and to be seen.
    pub kimg: f64,
    pub total_kimg: f64,
    /// Seconds that the rest will take at the speed of the last tick.
    pub eta_seconds: Option<f64>,
    /// Ticks from the one asked for on, and the number of all.
    pub ticks: Vec<TickPoint>,
    pub tick_count: usize,
    /// Values by metric.
    pub metrics: BTreeMap<String, Vec<MetricPoint>>,
    /// What each metric measures, in words.
    pub measures: BTreeMap<String, String>,
    pub grids: Vec<GridEntry>,
    pub options: Map<String, Value>,
    /// The end of the log.
    pub log: String,
    /// What the user should know, in plain words.
    pub warnings: Vec<String>,
}

/// Reads a run, with its ticks from number `after` on.
///
/// # Errors
/// The options cannot be read.
pub fn view(folder: &Path, after: usize) -> Result<RunView> {
    let ticks = ticks(folder);
    let options = options(folder)?;
    let (metrics, measures) = metrics(folder);
    let last = ticks.last();
    let kimg = last.map_or(0.0, |tick| tick.kimg);
    let total_kimg = options.get("kimg").and_then(Value::as_f64).unwrap_or(0.0);
    let is_running = is_locked(folder);
    let is_done = kimg >= total_kimg;
    let state = if is_running {
        "running"
    } else if is_done {
        "done"
    } else {
        "stopped"
    };
    let speed = last.and_then(|tick| tick.means.get("Timing/sec_per_kimg").copied());
    Ok(RunView {
        state,
        kimg,
        total_kimg,
        eta_seconds: speed.filter(|_| is_running).map(|speed| speed * (total_kimg - kimg).max(0.0)),
        warnings: warnings(&ticks, &metrics, &options),
        tick_count: ticks.len(),
        ticks: ticks.into_iter().skip(after).collect(),
        metrics,
        measures,
        grids: grids(folder),
        options,
        log: end_of_log(folder),
    })
}

/// Returns the whole lines of a file of JSON lines; what is still being written at its end is left out.
fn json_lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    let read = to_read(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ticks(folder: &Path) -> Vec<TickPoint> {
    let tick = |line: &Value| {
        let all = line.as_object()?;
        let mean = |name: &str| all.get(name)?.get("mean")?.as_f64();
        Some(TickPoint {
            kimg: mean("Progress/kimg")?,
            means: all.keys().filter_map(|name| Some((name.clone(), mean(name)?))).collect(),
            largest_slope: all.get("Loss/D/slope").and_then(|slope| slope.get("max")?.as_f64()),
        })
    };
    json_lines(&folder.join("stats.jsonl")).iter().filter_map(tick).collect()
}

fn metrics(folder: &Path) -> (BTreeMap<String, Vec<MetricPoint>>, BTreeMap<String, String>) {
    let (mut metrics, mut measures) = (BTreeMap::<String, Vec<MetricPoint>>::new(), BTreeMap::new());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.starts_with("metric-") && name.ends_with(".jsonl")) {
            continue;
        }
        for line in json_lines(&entry.path()) {
            let kimg = line["kimg"].as_f64().unwrap_or(0.0);
            for (name, value) in line["results"].as_object().into_iter().flatten() {
                if let Some(value) = value.as_f64() {
                    metrics.entry(name.clone()).or_default().push(MetricPoint { kimg, value });
                    measures.insert(name.clone(), line["measure"].as_str().unwrap_or(name).to_owned());
                }
            }
        }
    }
    metrics.values_mut().for_each(|points| points.sort_by(|a, b| a.kimg.total_cmp(&b.kimg)));
    (metrics, measures)
}

/// Lists the grids: that of the start, those of ticks. A link is none, since it could lead anywhere.
pub fn grids(folder: &Path) -> Vec<GridEntry> {
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let start = folder.join("fakes_init.png");
    let start = is_file(&start).then(|| GridEntry { file: "fakes_init.png".into(), kimg: 0.0 });
    let numbered = numbered_grids(folder).unwrap_or_default().into_iter().filter(|(_, path)| is_file(path));
    let ticks = numbered.filter_map(|(number, path)| {
        let file = path.file_name()?.to_string_lossy().into_owned();
        Some(GridEntry { file, kimg: number.least_images() as f64 / 1000.0 })
    });
    start.into_iter().chain(ticks).collect()
}

/// Finds a picture of a run by its name: a grid, or that of the real pictures. Any other name finds nothing.
pub fn picture(folder: &Path, name: &str) -> Option<PathBuf> {
    let known = name == "reals.png" || grids(folder).iter().any(|grid| grid.file == name);
    let path = folder.join(name);
    let is_file = || fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
    (known && is_file()).then_some(path)
}

fn options(folder: &Path) -> Result<Map<String, Value>> {
    let path = folder.join("training_options.json");
    let text = crate::files::bounded::read_text(&path)?;
    let options: Value = serde_json::from_str(&text).with_context(|| format!("'{}' is damaged", path.display()))?;
    let options = options.as_object().cloned().unwrap_or_default();
    Ok(options.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

fn end_of_log(folder: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = to_read(&folder.join("log.txt"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // The first line is cut where the log is longer.
        let from = if length > LOG_BYTES { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
        Ok(text[from..].to_owned())
    };
    read().unwrap_or_default()
}

/// Whether a process works on a run. The kernel's list of locks is read instead of trying the lock, which could get in
/// the way of a run that begins.
fn is_locked(folder: &Path) -> bool {
    let Ok(lock) = fs::metadata(folder.join(".lock")) else { return false };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = format!(":{}", lock.ino());
    locks.lines().any(|line| line.contains("FLOCK") && line.split_whitespace().any(|word| word.ends_with(&inode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("training_options.json"), r#"{"kimg": 10, "batch": 8, "from": null}"#).unwrap();
        let line = |kimg: f64| {
            format!(
                "{{\"Progress/kimg\":{{\"num\":1,\"mean\":{kimg},\"std\":0,\"max\":{kimg}}},\
                 \"Loss/D/slope\":{{\"num\":2,\"mean\":0.5,\"std\":0,\"max\":3.5}},\"timestamp\":1}}"
            )
        };
        // The last line is still being written.
        fs::write(folder.join("stats.jsonl"), format!("{}\n{}\n{{\"Progress/ki", line(0.0), line(4.0))).unwrap();
    }

    #[test]
    fn runs_are_found_in_folders_of_runs_and_by_themselves() {
        let place = tempfile::tempdir().unwrap();
        run(&place.path().join("runs/00000-a"));
        run(&place.path().join("runs/compare/k2-seed0"));
        fs::create_dir(place.path().join("runs/empty")).unwrap();
        let names = |root: PathBuf| list(&[root]).into_iter().map(|run| run.name).collect::<Vec<_>>();
        assert_eq!(names(place.path().join("runs")), ["00000-a", "compare/k2-seed0"]);
        assert_eq!(names(place.path().join("runs/00000-a")), ["00000-a"]);
        assert!(names(place.path().join("none")).is_empty());
    }

    #[test]
    fn a_line_that_is_being_written_is_left_for_later() {
        let place = tempfile::tempdir().unwrap();
        run(place.path());
        let shown = view(place.path(), 0).unwrap();
        assert_eq!((shown.ticks.len(), shown.tick_count, shown.kimg, shown.state), (2, 2, 4.0, "stopped"));
        assert_eq!(shown.ticks[1].largest_slope, Some(3.5));
        assert_eq!(view(place.path(), 1).unwrap().ticks.len(), 1);
        assert!(!shown.options.contains_key("from"));
    }

    #[test]
    fn a_run_that_is_locked_is_running() {
        let place = tempfile::tempdir().unwrap();
        run(place.path());
        let lock = crate::run::folder::lock(place.path()).unwrap();
        assert_eq!(view(place.path(), 0).unwrap().state, "running");
        drop(lock);
        assert_eq!(view(place.path(), 0).unwrap().state, "stopped");
    }

    #[test]
    fn only_grids_are_pictures_of_a_run() {
        let place = tempfile::tempdir().unwrap();
        run(place.path());
        fs::write(place.path().join("fakes000003.png"), "").unwrap();
        fs::write(place.path().join("secret.png"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.path().join("fakes000004.png")).unwrap();
        assert!(picture(place.path(), "fakes000003.png").is_some());
        for name in ["fakes000004.png", "secret.png", "../x/fakes000003.png", "fakes000003.png/", "stats.jsonl", ""] {
            assert!(picture(place.path(), name).is_none(), "{name}");
        }
    }
}
