//! The journal of a run, for people to read: the log, a line of statistics a tick, scalars for TensorBoard.

mod tensorboard;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::tensorboard::EventFile;
use crate::files::opening;
use crate::system::ui::{Bar, harmless, say};
use crate::train::stats::Summary;

/// The lengths of the journal's files at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPlace {
    stats_bytes: u64,
    events: String,
    events_bytes: u64,
    #[serde(default)]
    steps: Steps,
}

/// The unit of the steps in an event file, the same from the first to the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Steps {
    /// Whole thousands of images, in runs that rootgan before 2026-11-26 began: several ticks can have one step.
    #[default]
    Kimg,
    /// Images, which are distinct for every tick.
    Images,
}

impl JournalPlace {
    /// Whether the events are a file of the run's folder.
    pub(super) fn is_plausible(&self) -> bool {
        Path::new(&self.events).file_name().is_some_and(|name| name == self.events.as_str())
    }
}

/// The open `log.txt` of a run.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Keeps a line in the log only; an error of writing is ignored.
    pub fn note(&mut self, line: &str) {
        let _ = self.write(line);
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.0, "{}", harmless(line))
    }
}

/// The open log, statistics and event file of a run.
pub struct Journal {
    log: Log,
    stats: File,
    events: EventFile,
    steps: Steps,
}

impl Journal {
    /// Creates `log.txt`, `stats.jsonl` and the event file in a run's folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let create = |name: &str| -> Result<File> {
            let path = folder.join(name);
            opening::new_to_append(&path).with_context(|| format!("cannot write '{}'", path.display()))
        };
        let (log, stats, events) = (create("log.txt")?, create("stats.jsonl")?, EventFile::create(folder)?);
        Ok(Self { log: Log(log), stats, events, steps: Steps::Images })
    }

    /// Opens the journal of a run again, to go on at its end; `place` names the event file.
    ///
    /// # Errors
    /// A file is missing or cannot be written.
    pub fn reopen(folder: &Path, place: &JournalPlace) -> Result<Self> {
        let append = |name: &str| -> Result<File> {
            let path = folder.join(name);
            opening::to_append(&path).with_context(|| {
                format!(
                    "cannot go on with '{}'; bring it back, or make it an empty file to go on without",
                    path.display()
                )
            })
        };
        let events = EventFile::from_open(append(&place.events)?, place.events.clone())?;
        Ok(Self { log: Log(append("log.txt")?), stats: append("stats.jsonl")?, events, steps: place.steps })
    }

    /// Cuts off what was written after `place`, except in the log.
    ///
    /// # Errors
    /// A file cannot be changed.
    pub fn go_back_to(&mut self, place: &JournalPlace) -> Result<()> {
        self.events.cut(place.events_bytes)?;
        let length = self.stats.metadata().context("cannot go on with stats.jsonl")?.len();
        if length < place.stats_bytes {
            self.say(None, "warning: stats.jsonl is shorter than the run left it: some of its lines are lost")?;
        } else {
            self.stats.set_len(place.stats_bytes).context("cannot cut stats.jsonl")?;
        }
        Ok(())
    }

    /// Returns the present lengths, for a checkpoint.
    ///
    /// # Errors
    /// The length of a file cannot be read.
    pub fn place(&self) -> Result<JournalPlace> {
        let (events, events_bytes) = self.events.place()?;
        Ok(JournalPlace { stats_bytes: self.stats.metadata()?.len(), events, events_bytes, steps: self.steps })
    }

    /// Shows a line (above the bar, where there is one) and keeps it in the log.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn say(&mut self, bar: Option<&Bar>, line: &str) -> Result<()> {
        match bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
        self.log.write(line).context("cannot write log.txt; is the disk full?")
    }

    /// Returns the log once more, for what is noted when the journal is gone.
    ///
    /// # Errors
    /// The process has too many open files.
    pub fn log(&self) -> Result<Log> {
        Ok(Log(self.log.0.try_clone().context("cannot open log.txt once more")?))
    }

    /// Adds one line to `stats.jsonl` and the means to TensorBoard, whose steps are images.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn tick(&mut self, seen_images: u64, summaries: &BTreeMap<String, Summary>) -> Result<()> {
        let mut line: Map<String, Value> =
            summaries.iter().map(|(name, summary)| (name.clone(), json!(summary))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        line.insert("timestamp".to_owned(), json!(now));
        // serde_json writes numbers that are not finite as null, so the line is always valid JSON.
        writeln!(self.stats, "{}", Value::Object(line)).context("cannot write stats.jsonl; is the disk full?")?;
        let means = summaries.iter().map(|(name, summary)| (name.as_str(), summary.mean));
        let step = match self.steps {
            Steps::Kimg => seen_images / 1000,
            Steps::Images => seen_images,
        };
        self.events.scalars(step as i64, means)
    }
}
