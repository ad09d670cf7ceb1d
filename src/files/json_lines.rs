//! Reads files of one JSON value a line that grow while a run goes on.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::bounded::read_long_text;

/// Reads the lines of a file. The last one is left out where it has no line break and is no JSON: a run is writing it, or was killed
/// when it did.
///
/// # Errors
/// The file cannot be read, or a line is no JSON.
pub fn read_json_lines(path: &Path) -> Result<Vec<Value>> {
    let text = read_long_text(path)?;
    let mut values = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("'{}' is damaged: line {} is no JSON", path.display(), number + 1));
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_last_line_may_be_incomplete() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("stats.jsonl");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_json_lines(&path).map(|values| values.len()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read(""), Ok(0));
        assert_eq!(read("{\"a\": 1}\n{\"a\": 2}"), Ok(2));
        assert_eq!(read("{\"a\": 1}\n{\"a\": "), Ok(1));
        assert!(read("{\"a\": \n{\"a\": 2}\n").unwrap_err().contains("line 1 is no JSON"));
        assert!(read("{\"a\": 1}\n{\"a\": \n").unwrap_err().contains("line 2 is no JSON"));
    }
}
