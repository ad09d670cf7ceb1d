//! Keeps a small JSON file with the request of a long job, so that only the same request continues it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::files::atomic::write_json;
use crate::files::bounded::read_text;

/// Writes the record of a job that begins, or compares the request with it if the job has `begun` already. The caller
/// of a job that begins holds a lock.
///
/// # Errors
/// The job has begun and its record is missing, unreadable or of another request; the first field that differs is
/// named. Or it has not begun, and a file of that name is there that is no such record.
pub fn claim(path: &Path, request: &Map<String, Value>, begun: bool) -> Result<()> {
    if !begun {
        ensure!(
            is_record_or_missing(path, request),
            "cannot write '{}': a file of that name is there, and no record of such a job; pass another place",
            path.display()
        );
        return write_json(path, request);
    }
    let name = path.display();
    let remedy = "pass another place or clear this one";
    let text = read_text(path).with_context(|| {
        format!("cannot go on: there are pictures, but not '{name}' that says what they are; {remedy}")
    })?;
    let found: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("cannot go on: '{name}' is damaged; {remedy}"))?;
    // The request goes through text too: a number must not differ by having been read from text.
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

/// Whether there is nothing at `path`, or a record of a job of the same kind, perhaps with the fields of another
/// version.
fn is_record_or_missing(path: &Path, request: &Map<String, Value>) -> bool {
    if std::fs::symlink_metadata(path).is_err() {
        return true;
    }
    let found = read_text(path).ok().and_then(|text| serde_json::from_str::<Map<String, Value>>(&text).ok());
    found.is_some_and(|found| {
        let shared = found.keys().filter(|key| request.contains_key(*key)).count();
        shared > 0 && shared * 2 >= request.len()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seed: u64) -> Map<String, Value> {
        let fields = [("seed".to_owned(), seed.into()), ("psi".to_owned(), 0.7.into())];
        fields.into_iter().collect()
    }

    #[test]
    fn a_job_that_begins_replaces_its_own_record_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.json");
        claim(&path, &request(1), false).unwrap();
        claim(&path, &request(2), false).unwrap();
        claim(&path, &request(2), true).unwrap();
        for text in ["{}", "[1]", "no JSON", r#"{"table": "users", "rows": []}"#] {
            std::fs::write(&path, text).unwrap();
            let message = claim(&path, &request(1), false).unwrap_err().to_string();
            assert!(message.contains("no record of such a job"), "{message}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
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
