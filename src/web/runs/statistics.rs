//! The statistics of a run as columns over its ticks. The lines of a long run are merged in pairs, so that any run takes the
//! same memory and the same time to draw.

use std::collections::BTreeMap;

use serde_json::Value;

/// The most rows that are kept: more than a plot has pixels.
pub const MAX_ROWS: usize = 4000;
/// The most columns; a run has about forty.
const MAX_COLUMNS: usize = 200;
/// The column that the others are drawn over: thousands of images seen.
pub const KIMG: &str = "Progress/kimg";

/// Rows of a run's `stats.jsonl` as columns of equal length, NaN where a tick has no value.
#[derive(Clone, Debug, Default)]
pub struct StatisticsColumns {
    columns: BTreeMap<String, Vec<f64>>,
    /// Number of ticks in each row.
    ticks: Vec<f64>,
    rows: usize,
    /// Changes when earlier rows did.
    pub generation: u64,
    /// Time of the last row, in seconds since 1970.
    pub last_time: Option<f64>,
}

/// How the values of several ticks make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merging {
    Mean,
    Max,
    /// The number of values in all.
    Num,
}

/// Slopes are looked at for their largest value, skipped steps for their number, everything else for its mean.
fn merging_of(name: &str) -> Merging {
    match name {
        _ if name.ends_with("/slope") => Merging::Max,
        _ if name.starts_with("Progress/skipped_") => Merging::Num,
        _ => Merging::Mean,
    }
}

impl StatisticsColumns {
    /// Forgets all rows.
    pub fn restart(&mut self) {
        *self = Self { generation: self.generation + 1, ..Self::default() };
    }

    /// Adds a line of `stats.jsonl`; one that is no statistics is passed over.
    pub fn add(&mut self, line: &[u8]) {
        let Ok(Value::Object(line)) = serde_json::from_slice::<Value>(line) else { return };
        if line.get(KIMG).and_then(|kimg| kimg["mean"].as_f64()).is_none() {
            return;
        }
        self.last_time = line.get("timestamp").and_then(Value::as_f64).or(self.last_time);
        for (name, summary) in &line {
            let value = match merging_of(name) {
                Merging::Mean => &summary["mean"],
                Merging::Max => &summary["max"],
                Merging::Num => &summary["num"],
            };
            if !self.columns.contains_key(name) && (self.columns.len() >= MAX_COLUMNS || !summary.is_object()) {
                continue;
            }
            let column = self.columns.entry(name.clone()).or_default();
            column.resize(self.rows, f64::NAN);
            column.push(value.as_f64().unwrap_or(f64::NAN));
        }
        self.rows += 1;
        self.ticks.push(1.0);
        if self.rows > MAX_ROWS {
            self.merge_pairs();
        }
    }

    /// Returns the same in `rows` rows at most.
    pub fn within(&self, rows: usize) -> Self {
        let mut thinned = self.clone();
        while thinned.rows > rows.max(1) {
            thinned.merge_pairs();
        }
        thinned
    }

    /// Makes one row of every two.
    fn merge_pairs(&mut self) {
        for (name, column) in &mut self.columns {
            column.resize(self.rows, f64::NAN);
            let merge = |pair: &[f64]| match (name.as_str(), merging_of(name)) {
                (KIMG, _) => pair[pair.len() - 1],
                (_, Merging::Max) => pair.iter().copied().fold(f64::NAN, f64::max),
                (_, merging) => {
                    let there: Vec<f64> = pair.iter().copied().filter(|value| !value.is_nan()).collect();
                    let sum: f64 = there.iter().sum();
                    match merging {
                        _ if there.is_empty() => f64::NAN,
                        Merging::Num => sum,
                        _ => sum / there.len() as f64,
                    }
                }
            };
            *column = column.chunks(2).map(merge).collect();
        }
        self.ticks = self.ticks.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.rows = self.rows.div_ceil(2);
        self.generation += 1;
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the last value of a column that is a number.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.columns.get(name)?.iter().rev().copied().find(|value| value.is_finite())
    }

    /// Returns the last values of a column, NaN left out, of `rows` rows at most.
    pub fn recent(&self, name: &str, rows: usize) -> Vec<f64> {
        let first = self.rows.saturating_sub(rows);
        let column = self.columns.get(name).and_then(|column| column.get(first..)).unwrap_or_default();
        column.iter().copied().filter(|value| !value.is_nan()).collect()
    }

    /// Returns the sum of a column over the ticks of the last rows, of which each value is the mean in its row.
    pub fn total(&self, name: &str, rows: usize) -> f64 {
        let first = self.rows.saturating_sub(rows);
        let Some(column) = self.columns.get(name) else { return 0.0 };
        let products = column.iter().zip(&self.ticks).skip(first).map(|(value, ticks)| value * ticks);
        products.filter(|product| !product.is_nan()).sum()
    }

    /// Iterates over the columns from row `first` on, filled up to the number of rows, rounded for a plot.
    pub fn columns_from(&self, first: usize) -> impl Iterator<Item = (&str, Vec<Option<f64>>)> {
        let first = first.min(self.rows);
        self.columns.iter().map(move |(name, column)| {
            let value = |row: usize| column.get(row).copied().filter(|value| value.is_finite()).map(rounded);
            (name.as_str(), (first..self.rows).map(value).collect())
        })
    }
}

/// Rounds to six digits, which are more than a plot shows.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(kimg: f64, loss: f64) -> Vec<u8> {
        let part = |value: f64| json!({ "num": 2, "mean": value, "std": 0.0, "max": 2.0 * value });
        json!({ KIMG: part(kimg), "Loss/G/loss": part(loss), "Loss/G/slope": part(loss), "timestamp": 7.5 })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn slopes_are_maxima_and_the_rest_means_and_null_is_no_number() {
        let mut statistics = StatisticsColumns::default();
        statistics.add(&line(1.0, 3.0));
        statistics.add(br#"{"Progress/kimg": {"mean": 2.0}, "Loss/G/loss": {"mean": null}, "new": {"mean": 5.0}}"#);
        statistics.add(b"no JSON");
        statistics.add(b"{}");
        assert_eq!((statistics.rows(), statistics.last_time), (2, Some(7.5)));
        let columns: BTreeMap<&str, Vec<Option<f64>>> = statistics.columns_from(0).collect();
        assert_eq!(columns["Loss/G/loss"], [Some(3.0), None]);
        assert_eq!(columns["Loss/G/slope"], [Some(6.0), None]);
        assert_eq!(columns["new"], [None, Some(5.0)]);
        assert!(!columns.contains_key("timestamp"));
        assert_eq!(statistics.last("Loss/G/loss"), Some(3.0));
        assert_eq!(statistics.columns_from(1).next().unwrap().1.len(), 1);
    }

    #[test]
    fn a_run_of_any_length_is_bounded_and_keeps_its_course() {
        let mut statistics = StatisticsColumns::default();
        for row in 0..3 * MAX_ROWS {
            statistics.add(&line(row as f64, if row == 5000 { 1e6 } else { 1.0 }));
        }
        assert!(statistics.rows() <= MAX_ROWS && statistics.generation > 0, "{}", statistics.rows());
        let columns: BTreeMap<&str, Vec<Option<f64>>> = statistics.columns_from(0).collect();
        assert!(columns[KIMG].is_sorted() && columns[KIMG].last().unwrap().unwrap() == (3 * MAX_ROWS - 1) as f64);
        // The one large slope is still there.
        assert_eq!(columns["Loss/G/slope"].iter().flatten().copied().fold(0.0, f64::max), 2e6);
    }

    #[test]
    fn numbers_are_rounded_to_what_a_plot_shows() {
        assert_eq!(rounded(1.234_567_891), 1.234_57);
        assert_eq!(rounded(-1.234_567_891e-20), -1.234_57e-20);
        assert_eq!(rounded(0.0), 0.0);
    }
}
