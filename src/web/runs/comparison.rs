//! The results of `rootgan compare`, from the `results.json` in its folder.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::Folder;

/// A comparison: what was measured, and every run with its evaluations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the metric, of which less is better.
    pub metric: String,
    /// The measure in words.
    pub measure: String,
    /// The detector in short.
    pub detector: String,
    /// The runs, arm by arm.
    pub arms: Vec<Arm>,
    /// The circumstances: command, machine, date.
    #[serde(default)]
    pub setting: Vec<String>,
}

/// One run of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arm {
    /// Name of the arm, such as `rooted, k = 2`.
    #[serde(alias = "loss")]
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// The run's folder, as the command wrote it.
    pub folder: String,
    /// The evaluations.
    pub points: Vec<Point>,
    /// Why it was not trained to its end.
    #[serde(default)]
    pub ended: Option<String>,
    /// Whether it fell apart.
    #[serde(default)]
    pub collapsed: bool,
}

/// One evaluation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Thousands of images seen.
    pub kimg: f64,
    /// Seconds of training until then.
    pub seconds: f64,
    /// The value; None where it was no number.
    pub value: Option<f64>,
}

impl Comparison {
    /// Reads the results in a comparison's folder; None where there are none yet.
    pub fn read(folder: &Folder) -> Option<Self> {
        let mut results = folder.json("results.json")?;
        let setting = results["setting"].take();
        let mut comparison: Self = serde_json::from_value(results["comparison"].take()).ok()?;
        comparison.setting = match setting {
            Value::Array(lines) => lines.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        Some(comparison)
    }

    /// Returns the arm whose run has a folder of this name.
    pub fn arm_of(&self, folder: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.folder.rsplit('/').next() == Some(folder))
    }
}

impl Arm {
    /// Returns the arm and seed in words.
    pub fn words(&self) -> String {
        format!("{}, seed {}", self.name, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_comparison_are_read_and_runs_found_by_their_folders() {
        let folder = Folder::new(std::fs::canonicalize("samples/compare-cats").unwrap());
        let comparison = Comparison::read(&folder).unwrap();
        assert_eq!(comparison.arms.len(), 4);
        assert_eq!(comparison.arm_of("logistic-seed0").unwrap().words(), "logistic, seed 0");
        assert!(comparison.arm_of("seed0").is_none());
        assert!(comparison.arms[0].points.len() > 4 && !comparison.setting.is_empty());
    }
}
