//! The metrics of a run over the images seen, from its `metric-<name>.jsonl`.

use serde::Serialize;
use serde_json::Value;

use super::files::Folder;
use super::tail::{Growth, Tail};
use crate::metrics::Metric;

/// The most evaluations of a metric that are kept; what a run with more adds is not shown.
const MAX_POINTS: usize = 4000;

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluated {
    /// Thousands of images seen.
    pub kimg: f64,
    /// The values in the order of [`Series::names`]; None for one that was no number.
    pub values: Vec<Option<f64>>,
}

/// A metric over the images seen.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Name of the metric, such as `fid50k_full`.
    pub metric: String,
    /// The measure in words.
    pub measure: String,
    /// Name of the detector.
    pub detector: String,
    /// Names of the values; some metrics have two.
    pub names: Vec<String>,
    /// Whether less is better.
    pub lower_is_better: bool,
    /// The evaluations in order.
    pub points: Vec<Evaluated>,
    #[serde(skip)]
    tail: Tail,
}

impl Series {
    /// Begins a series for a file, if its name is that of a metric.
    pub fn from_file_name(file: &str) -> Option<Self> {
        let metric = file.strip_prefix("metric-")?.strip_suffix(".jsonl")?;
        let lower_is_better = metric.parse::<Metric>().ok()?.formula.lower_is_better();
        Some(Self {
            metric: metric.to_owned(),
            measure: String::new(),
            detector: String::new(),
            names: Vec::new(),
            lower_is_better,
            points: Vec::new(),
            tail: Tail::default(),
        })
    }

    /// Returns the name of its file.
    pub fn file_name(&self) -> String {
        format!("metric-{}.jsonl", self.metric)
    }

    /// Reads what was added; a file that cannot be read adds nothing.
    pub fn refresh(&mut self, folder: &Folder) {
        let Ok(file) = folder.open(&self.file_name()) else { return };
        let mut tail = std::mem::take(&mut self.tail);
        let outcome = tail.read(file, |growth, line| match line {
            [] if growth == Growth::Restarted => self.points.clear(),
            [] => {}
            line => self.add(line),
        });
        // Upon an error the file is read from its beginning the next time.
        self.tail = if outcome.is_ok() { tail } else { Tail::default() };
    }

    fn add(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        // Lines that `rootgan metrics` added belong to no place of the run.
        let (Some(kimg), Some(results)) = (line["kimg"].as_f64(), line["results"].as_object()) else { return };
        if self.points.len() >= MAX_POINTS {
            return;
        }
        self.names = results.keys().cloned().collect();
        self.measure = line["measure"].as_str().unwrap_or_default().to_owned();
        self.detector = line["detector"]["name"].as_str().unwrap_or_default().to_owned();
        self.points.push(Evaluated { kimg, values: results.values().map(Value::as_f64).collect() });
    }

    /// Iterates over the first value of each evaluation; NaN where it is none.
    pub fn first_values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|point| point.values.first().copied().flatten().unwrap_or(f64::NAN))
    }

    /// Returns the best first value.
    pub fn best(&self) -> Option<f64> {
        let better = if self.lower_is_better { f64::min } else { f64::max };
        self.first_values().filter(|value| value.is_finite()).reduce(better)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_by_place_and_lines_of_other_commands_are_left_out() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(std::fs::canonicalize(place.path()).unwrap());
        let text = "{\"results\":{\"pr50k3_precision\":0.5,\"pr50k3_recall\":null},\"kimg\":4.0,\"measure\":\"m\"}\n\
                    {\"results\":{\"pr50k3_precision\":0.9}}\n{\"results\":{\"pr50k3_precision\":0.7},\"kimg\":8.0}\n{\"resu";
        std::fs::write(place.path().join("metric-pr50k3.jsonl"), text).unwrap();
        let mut series = Series::from_file_name("metric-pr50k3.jsonl").unwrap();
        series.refresh(&folder);
        assert_eq!(series.points.iter().map(|point| point.kimg).collect::<Vec<_>>(), [4.0, 8.0]);
        assert_eq!(series.points[0].values, [Some(0.5), None]);
        assert_eq!((series.lower_is_better, series.best()), (false, Some(0.7)));
        assert!(Series::from_file_name("metric-fid2k_full.jsonl").unwrap().lower_is_better);
        for name in ["metric-x.jsonl", "fid2k.jsonl", "metric-fid2k_full.json"] {
            assert!(Series::from_file_name(name).is_none(), "{name}");
        }
    }
}
