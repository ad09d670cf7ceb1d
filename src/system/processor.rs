//! Names the processor.

use std::fs;

/// Returns the name of the processor, where the system tells it.
pub fn name() -> Option<String> {
    let told = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = told.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
