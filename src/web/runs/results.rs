//! The `results.json` in the folder of a comparison.

use serde::Deserialize;

use super::files::Folder;
use crate::run::comparison::Comparison;

/// A comparison and its circumstances.
#[derive(Debug, Deserialize)]
pub struct ComparisonResults {
    /// What was measured, and every run with its evaluations.
    pub comparison: Comparison,
    /// The circumstances: command, machine, date.
    #[serde(default)]
    pub setting: Vec<String>,
}

impl ComparisonResults {
    /// Reads the results in a comparison's folder; None where there are none yet.
    pub fn read(folder: &Folder) -> Option<Self> {
        serde_json::from_value(folder.json("results.json")?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_comparison_are_read_and_runs_found_by_their_folders() {
        let folder = Folder::new(std::fs::canonicalize("samples/compare-cats").unwrap());
        let results = ComparisonResults::read(&folder).unwrap();
        assert_eq!(results.comparison.arms.len(), 4);
        assert_eq!(results.comparison.arm_of("logistic-seed0").unwrap().words(), "logistic, seed 0");
        assert!(results.comparison.arm_of("seed0").is_none());
        assert!(results.comparison.arms[0].points.len() > 4 && !results.setting.is_empty());
    }
}
