//! A small JSON file that says what a long job was asked for, so that it is only continued by the
//! same request.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::io::atomic::write_json;
use crate::io::bounded::read_text;

/// Writes the record of a job that begins, or compares it if the job has `begun` already.
///
/// # Errors
/// The job has begun and its record is missing, unreadable or of another request: the first field
/// that differs is named.
pub fn claim(path: &Path, request: &Map<String, Value>, begun: bool) -> Result<()> {
    if !begun {
        return write_json(path, request);
    }
    let name = path.display();
    let remedy = "pass another place or clear this one";
    let text = read_text(path).with_context(|| {
        format!("cannot go on: there are pictures, but not '{name}' that says what they are; {remedy}")
    })?;
    let found: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("cannot go on: '{name}' is damaged; {remedy}"))?;
    // A number must not differ by having been read from text.
    let request: Map<String, Value> = serde_json::from_str(&serde_json::to_string(request)?)?;
    let differing = request.keys().chain(found.keys()).find(|&key| request.get(key) != found.get(key));
    if let Some(key) = differing {
        let shown = |map: &Map<String, Value>| map.get(key).unwrap_or(&Value::Null).to_string();
        bail!(
            "cannot go on: '{name}' says {key} {}, this call asks for {key} {}; repeat the first call's options, or {remedy}",
            shown(&found),
            shown(&request)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seed: u64) -> Map<String, Value> {
        let fields = [("seed".to_owned(), seed.into()), ("psi".to_owned(), 0.7.into())];
        fields.into_iter().collect()
    }

    #[test]
    fn only_the_same_request_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        assert!(claim(&path, &request(1), true).is_err());
        claim(&path, &request(1), false).unwrap();
        claim(&path, &request(1), true).unwrap();
        let message = claim(&path, &request(2), true).unwrap_err().to_string();
        assert!(message.contains("says seed 1") && message.contains("asks for seed 2"), "{message}");
    }
}
