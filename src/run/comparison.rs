//! The results of a comparison: its runs with their evaluations, read from their folders, and as `results.json` keeps them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::files::json_lines::read_json_lines;

/// How many times its best a metric must be to count as fallen apart.
pub const COLLAPSE: f64 = 2.0;

/// Whether a metric of which less is better ended as no number or [`COLLAPSE`] times as bad as it had been.
pub fn has_fallen_apart(last: f64, best: f64) -> bool {
    !last.is_finite() || is_times_as_bad(last, COLLAPSE, best)
}

/// Whether a metric of which less is better is more than so many times another value of it. The kernel distance can be 0 or less, of
/// which nothing is a multiple.
pub fn is_times_as_bad(value: f64, times: f64, level: f64) -> bool {
    level > 0.0 && value > times * level
}

/// One evaluation of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Thousands of images seen.
    pub kimg: f64,
    /// Seconds of training until then: without grids, snapshots and metrics.
    pub seconds: f64,
    /// Value of the metric; NaN, which JSON writes as null, where it was no number.
    #[serde(deserialize_with = "number_or_null")]
    pub value: f64,
}

/// One run: an arm with a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The arm, such as `rooted, k = 2`; called `loss` by comparisons of version 0.1.
    #[serde(alias = "loss")]
    pub name: String,
    /// The seed of data order, latents and augmentation; the same for all arms.
    pub seed: u64,
    /// The run's folder.
    pub folder: PathBuf,
    /// Its evaluations in order.
    pub points: Vec<Point>,
    /// The largest |dL/dlogit| of both networks.
    #[serde(default)]
    pub largest_slope: f64,
    /// Steps skipped because a gradient was not finite.
    #[serde(default)]
    pub skipped_steps: u64,
    /// Seconds of training in all.
    #[serde(default)]
    pub seconds: f64,
    /// Why it has no value at its end, where it has none.
    #[serde(default)]
    pub ended: Option<String>,
    /// Whether it fell apart: it diverged, or ended twice as bad as it had been.
    #[serde(default)]
    pub collapsed: bool,
}

impl Arm {
    /// Reads a run as far as it has come.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn read(name: &str, seed: u64, folder: &Path, metric: &str) -> Result<Self> {
        let stats = lines(&folder.join("stats.jsonl"))?;
        let number = |line: &Value, name: &str, part: &str| line[name][part].as_f64();
        let mut ends = Vec::new();
        let mut seconds = 0.0;
        for line in &stats {
            seconds += number(line, "Timing/sec_per_tick", "mean").unwrap_or(0.0);
            ends.extend(number(line, "Progress/kimg", "mean").map(|kimg| (kimg, seconds)));
        }
        let largest = |name: &str| stats.iter().filter_map(|line| number(line, name, "max")).fold(0.0, f64::max);
        let skipped = stats.iter().filter_map(Value::as_object).flatten();
        let skipped = skipped.filter(|(name, _)| name.starts_with("Progress/skipped_"));
        let points = lines(&folder.join(format!("metric-{metric}.jsonl")))?.into_iter().filter_map(|line| {
            let (kimg, value) = (line["kimg"].as_f64()?, line["results"].as_object()?.values().next()?);
            let value = value.as_f64().unwrap_or(f64::NAN);
            let until = ends.iter().rfind(|(end, _)| *end <= kimg + 1e-9).map(|end| end.1);
            Some(Point { kimg, seconds: until.filter(|_| kimg > 0.0).unwrap_or(0.0), value })
        });
        let points: Vec<Point> = points.collect();
        let (end, measured) = (ends.last().map(|end| end.0), points.last().map(|point| point.kimg));
        let is_measured = end.is_none_or(|end| measured.is_some_and(|kimg| kimg > end - 1e-9));
        let is_number = points.last().is_none_or(|point| point.value.is_finite());
        let ended = match (is_measured, is_number) {
            (false, _) => Some("its last evaluation failed (log.txt says why)".to_owned()),
            (true, false) => Some("its metric was no number at the end".to_owned()),
            (true, true) => None,
        };
        Ok(Self {
            name: name.to_owned(),
            seed,
            folder: folder.to_owned(),
            points,
            largest_slope: largest("Loss/G/slope").max(largest("Loss/D/slope")),
            skipped_steps: skipped.filter_map(|(_, summary)| summary["num"].as_u64()).sum(),
            seconds,
            ended,
            collapsed: false,
        })
    }

    /// Returns the arm and seed in words.
    pub fn words(&self) -> String {
        format!("{}, seed {}", self.name, self.seed)
    }

    /// Returns the value of the newest evaluation; NaN where there is none.
    pub fn last(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.value)
    }

    /// Returns the value at the end of training; None for a run that ended early, or has no number there.
    pub fn end(&self) -> Option<f64> {
        Some(self.last()).filter(|value| value.is_finite() && self.ended.is_none())
    }

    /// Returns the value of the first evaluation after so many thousand images or more.
    pub fn value_from(&self, kimg: f64) -> Option<f64> {
        self.points.iter().find(|point| point.kimg > kimg - 1e-9).map(|point| point.value)
    }

    /// Returns the least value; infinity where there is none.
    pub fn best(&self) -> f64 {
        self.points.iter().map(|point| point.value).fold(f64::INFINITY, f64::min)
    }

    /// Returns the value after so many images, between evaluations by a straight line; None where it did not come so far.
    pub fn value_at(&self, kimg: f64) -> Option<f64> {
        let at = self.points.iter().find(|point| (point.kimg - kimg).abs() < 1e-9).map(|point| point.value);
        at.or_else(|| {
            let around = self.points.windows(2).find(|pair| pair[0].kimg < kimg && kimg < pair[1].kimg)?;
            let share = (kimg - around[0].kimg) / (around[1].kimg - around[0].kimg);
            Some(around[0].value + share * (around[1].value - around[0].value))
        })
    }

    /// Returns the mean value over the run: the area under the curve divided by the images seen.
    pub fn mean_over_run(&self) -> f64 {
        let area: f64 = self
            .points
            .windows(2)
            .map(|pair| (pair[1].kimg - pair[0].kimg) * (pair[0].value + pair[1].value) / 2.0)
            .sum();
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) if last.kimg > first.kimg => area / (last.kimg - first.kimg),
            _ => self.last(),
        }
    }

    /// Whether it ends twice as bad as it has been, or with no number.
    pub fn has_collapsed(&self) -> bool {
        !self.points.is_empty() && has_fallen_apart(self.last(), self.best())
    }

    /// Returns the thousands of images at which the metric first is at most `level`, between evaluations by a straight
    /// line.
    pub fn kimg_to_reach(&self, level: f64) -> Option<f64> {
        let first = self.points.first().filter(|point| point.value <= level);
        let crossing = |pair: &[Point]| {
            let (a, b) = (pair[0], pair[1]);
            let share = (a.value - level) / (a.value - b.value);
            (a.value > level && b.value <= level).then_some(a.kimg + share * (b.kimg - a.kimg))
        };
        first.map(|point| point.kimg).or_else(|| self.points.windows(2).find_map(crossing))
    }
}

/// All runs of a comparison, by a metric of which less is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The metric, such as `fid2k_full`.
    pub metric: String,
    /// The measure: `FID`, or `Frechet distance, AlexNet features`.
    pub measure: String,
    /// The detector in short.
    pub detector: String,
    /// The runs, arm by arm.
    pub arms: Vec<Arm>,
}

impl Comparison {
    /// Groups the runs by arm, in order.
    pub fn by_arm(&self) -> Vec<(&str, Vec<&Arm>)> {
        let mut groups: Vec<(&str, Vec<&Arm>)> = Vec::new();
        for arm in &self.arms {
            match groups.iter_mut().find(|(name, _)| *name == arm.name) {
                Some((_, arms)) => arms.push(arm),
                None => groups.push((&arm.name, vec![arm])),
            }
        }
        groups
    }

    /// Returns the arm whose run has a folder of this name.
    pub fn arm_of(&self, folder: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.folder.file_name().is_some_and(|name| name == folder))
    }
}

fn number_or_null<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or(f64::NAN))
}

/// Reads measure and detector of a metric from a line of `metric-<name>.jsonl`.
///
/// # Errors
/// A file without lines.
pub fn measure_of(folder: &Path, metric: &str) -> Result<(String, String)> {
    let path = folder.join(format!("metric-{metric}.jsonl"));
    let line = lines(&path)?.pop().with_context(|| format!("'{}' is empty", path.display()))?;
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let sha256 = text(&line["detector"]["sha256"]).chars().take(12).collect::<String>();
    Ok((text(&line["measure"]), format!("{} (sha256 {sha256}...)", text(&line["detector"]["name"]))))
}

/// Reads the lines of a file; a run that ended early may have none.
fn lines(path: &Path) -> Result<Vec<Value>> {
    if path.exists() { read_json_lines(path) } else { Ok(Vec::new()) }
}

#[cfg(test)]
pub(crate) fn arm(name: &str, seed: u64, values: &[f64]) -> Arm {
    let points = (0..).zip(values).map(|(i, &value)| Point { kimg: f64::from(i) * 4.0, seconds: f64::from(i), value });
    Arm {
        name: name.to_owned(),
        seed,
        folder: PathBuf::from(format!("{name}-{seed}")),
        points: points.collect(),
        largest_slope: 1.0,
        skipped_steps: 0,
        seconds: 10.0,
        ended: None,
        collapsed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_reached_between_two_evaluations() {
        let arm = arm("rooted", 0, &[10.0, 6.0, 8.0, 2.0]);
        assert_eq!(arm.kimg_to_reach(7.0), Some(3.0));
        assert_eq!(arm.kimg_to_reach(5.0), Some(10.0));
        assert_eq!(arm.kimg_to_reach(11.0), Some(0.0));
        assert_eq!(arm.kimg_to_reach(1.0), None);
    }

    #[test]
    fn a_run_has_a_mean_and_values_between_its_evaluations() {
        let arm = arm("a", 0, &[10.0, 6.0, 8.0]);
        assert_eq!((arm.value_at(4.0), arm.value_at(5.0), arm.value_at(9.0)), (Some(6.0), Some(6.5), None));
        assert_eq!(arm.mean_over_run(), 7.5);
        assert!(!arm.has_collapsed());
        assert!(super::arm("b", 0, &[10.0, 3.0, 6.1]).has_collapsed());
        assert!(super::arm("b", 0, &[10.0, f64::NAN]).has_collapsed());
    }

    #[test]
    fn the_kernel_distance_may_be_zero_or_less() {
        assert!(!has_fallen_apart(-0.0003, -0.0003) && !has_fallen_apart(0.001, 0.0));
        assert!(has_fallen_apart(2.1, 1.0) && has_fallen_apart(f64::NAN, -1.0));
    }

    /// Writes a run of two ticks with these lines of its metric.
    fn run_with(metric: &[&str]) -> (tempfile::TempDir, Arm) {
        let folder = tempfile::tempdir().unwrap();
        let tick = |kimg: f64| format!("{{\"Progress/kimg\": {{\"mean\": {kimg}}}}}\n");
        std::fs::write(folder.path().join("stats.jsonl"), tick(4.0) + &tick(8.0)).unwrap();
        std::fs::write(folder.path().join("metric-fid.jsonl"), metric.join("\n")).unwrap();
        let arm = Arm::read("a", 0, folder.path(), "fid").unwrap();
        (folder, arm)
    }

    #[test]
    fn a_run_ends_where_it_was_trained_to_and_has_a_number_there() {
        let at = |kimg: f64, value: &str| format!("{{\"kimg\": {kimg}, \"results\": {{\"fid\": {value}}}}}");
        let (start, half) = (at(0.0, "9.0"), at(4.0, "3.0"));
        let (_folder, whole) = run_with(&[&start, &half, &at(8.0, "2.0")]);
        assert_eq!((whole.end(), whole.value_from(3.0), whole.value_from(8.1)), (Some(2.0), Some(3.0), None));
        // The evaluation at the end failed: the one before is not the end.
        let (_folder, failed) = run_with(&[&start, &half]);
        assert_eq!((failed.end(), failed.last()), (None, 3.0));
        assert!(failed.ended.is_some_and(|why| why.contains("last evaluation failed")) && !failed.collapsed);
        let (_folder, nan) = run_with(&[&start, &half, &at(8.0, "null")]);
        assert!(nan.end().is_none() && nan.has_collapsed() && nan.ended.is_some_and(|why| why.contains("no number")));
    }

    #[test]
    fn runs_are_grouped_by_arm_in_order() {
        let arms = vec![arm("b", 0, &[1.0]), arm("a", 0, &[1.0]), arm("b", 1, &[1.0])];
        let comparison = Comparison { metric: String::new(), measure: String::new(), detector: String::new(), arms };
        let sizes: Vec<_> = comparison.by_arm().iter().map(|(name, arms)| (*name, arms.len())).collect();
        assert_eq!(sizes, [("b", 2), ("a", 1)]);
    }

    #[test]
    fn results_come_back_from_their_file_also_where_a_value_was_no_number() {
        let arms = vec![arm("a", 0, &[10.0, f64::NAN]), arm("a", 1, &[10.0, 3.0])];
        let comparison = Comparison { metric: "fid".into(), measure: String::new(), detector: String::new(), arms };
        let again: Comparison = serde_json::from_str(&serde_json::to_string(&comparison).unwrap()).unwrap();
        assert!(again.arms[0].last().is_nan());
        assert_eq!(again.arms[1], comparison.arms[1]);
        assert_eq!(again.arm_of("a-1").unwrap().words(), "a, seed 1");
        assert!(again.arm_of("1").is_none());
        let of_old = r#"{"loss": "rooted", "seed": 3, "folder": "x/rooted-3", "points": []}"#;
        assert_eq!(serde_json::from_str::<Arm>(of_old).unwrap().words(), "rooted, seed 3");
    }
}
