//! What tests read of a run's folder, and wait for in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rootgan::run::checkpoint::Checkpoints;
use serde_json::Value;

/// The images seen at each checkpoint.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let there = Checkpoints::in_run(run, 1).list().unwrap_or_default();
    there.iter().map(|checkpoint| checkpoint.seen_images).collect()
}

/// Waits for a run to have a checkpoint at or behind `seen_images`.
pub fn wait_for(child: &mut Child, seen_images: u64, find_run: impl Fn() -> Option<PathBuf>) {
    let begun = Instant::now();
    loop {
        let newest = find_run().and_then(|run| checkpoints(&run).last().copied());
        if newest.is_some_and(|newest| newest >= seen_images) {
            return;
        }
        assert!(
            child.try_wait().expect("the child can be asked").is_none(),
            "the run ended before {seen_images} images"
        );
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint at {seen_images} images");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lines of statistics without what differs from one second or machine to the next.
pub fn statistics(run: &Path) -> Vec<BTreeMap<String, Value>> {
    let text = fs::read_to_string(run.join("stats.jsonl")).expect("the run has statistics");
    let is_result = |name: &str| !name.starts_with("Timing/") && !name.starts_with("Resources/") && name != "timestamp";
    let line = |line: &str| {
        let all: BTreeMap<String, Value> = serde_json::from_str(line).expect("a line is JSON");
        all.into_iter().filter(|(name, _)| is_result(name)).collect()
    };
    text.lines().map(line).collect()
}
