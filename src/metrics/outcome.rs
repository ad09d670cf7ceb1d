//! The result of a metric, with everything that is needed to read it, and its line in `metric-<name>.jsonl`.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::detector::DetectorId;
use super::feature_set::PictureForm;
use crate::files::opening::to_append_or_make;
use crate::system::ui::duration_text;

/// The numbers of one metric and how they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The name that was asked for, such as `fid50k_full`.
    pub metric: String,
    /// The measure: `FID`, or `Frechet distance, AlexNet features`.
    pub measure: String,
    /// The values by name.
    pub values: Vec<(String, f64)>,
    /// The detector whose features were compared.
    pub detector: DetectorId,
    /// The size and making of the pictures that the detector got.
    pub pictures: PictureForm,
    /// Number of fakes, or of pairs of them for the path length.
    pub fakes: usize,
    /// Number of real pictures; None for a metric that compares with none.
    pub reals: Option<usize>,
    /// Warnings about the values.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// Formats the values for the terminal.
    pub fn lines(&self) -> Vec<String> {
        let numbers = self.reals.map_or_else(String::new, |reals| format!(", {reals} reals"));
        let remark = format!(
            "{}; detector {}; pictures {}x{side} ({}); {} fakes{numbers}",
            self.measure,
            self.detector.in_short(),
            self.pictures.side,
            self.pictures.rule,
            self.fakes,
            side = self.pictures.side
        );
        self.values.iter().map(|(name, value)| format!("{name:<24} {value:<12.6} {remark}")).collect()
    }

    /// Returns the line of `metric-<name>.jsonl`, with the keys of other StyleGAN tools first. `judged` names what was
    /// measured.
    pub fn record(&self, judged: &str, time: Duration) -> Value {
        let results: Map<String, Value> =
            self.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        json!({
            "results": results,
            "metric": self.metric,
            "total_time": time.as_secs_f64(),
            "total_time_str": duration_text(time),
            "snapshot_pkl": judged,
            "timestamp": now,
            "measure": self.measure,
            "detector": self.detector,
            "pictures": self.pictures,
            "num_fakes": self.fakes,
            "num_reals": self.reals,
            "warnings": self.warnings,
        })
    }
}

/// Appends a line to `metric-<name>.jsonl` in a folder.
///
/// # Errors
/// A file that cannot be written.
pub fn append(folder: &Path, metric: &str, record: &Value) -> Result<()> {
    let path = folder.join(format!("metric-{metric}.jsonl"));
    let attempt = || -> std::io::Result<()> {
        let mut file = to_append_or_make(&path)?;
        // Writes the line in one piece, so that those of two writers do not mix.
        file.write_all(format!("{record}\n").as_bytes())
    };
    attempt().with_context(|| format!("cannot write '{}'; pass another --outdir", path.display()))
}
