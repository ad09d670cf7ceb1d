//! Records of where weights come from, kept small: a parent is named by the SHA-256 of its record, and the records of
//! all ancestors are kept once each, the nearest first, as far as they fit.
//!
//! ```json
//! {"source": "finetuned by rootgan", "parents": {"generator": {"sha256": "<the file's>", "record": "<id>"}},
//!  "ancestors": {"<id>": {"source": "random initialisation"}}, "ancestors_left_out": 2}
//! ```
//!
//! An id is the SHA-256 of the record without its ancestors, as JSON without spaces, with sorted keys and with floats as
//! Python spells them. rootgan before 2026-11-26 put whole records below `parents`, twice as much with every finetuning; such records are read as
//! well. `python/rootgan/checkpoints/ancestry.py` does the same in Python.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Number, Value, json};
use sha2::{Digest, Sha256};

/// The source that `rootgan new` records for a pair with random weights (`python/rootgan/networks/pair.py`).
pub const RANDOM_SOURCE: &str = "random initialisation";
/// The key of the records of ancestors, which are listed by their ids.
pub const ANCESTORS: &str = "ancestors";
/// The key of the number of ancestors that are named and whose records are not there.
pub const LEFT_OUT: &str = "ancestors_left_out";
/// The key of the id of a parent's record.
const RECORD: &str = "record";
/// The most records of ancestors that are kept.
const MOST_RECORDS: usize = 64;
/// The most bytes that the kept records have as JSON, all together.
const MOST_BYTES: usize = 64 << 10;
/// A parent that is no record, such as a text, is kept in its place up to this many bytes.
const MOST_BYTES_IN_PLACE: usize = 1 << 10;

type Record = Map<String, Value>;

/// The longest record that is read: those of earlier versions had megabytes.
const MOST_TEXT_BYTES: usize = 64 << 20;

/// Reads what a network says of where it comes from. A text that is no JSON, such as a credit, becomes the source of a
/// record.
pub fn parsed(text: &str) -> Value {
    if text.len() > MOST_TEXT_BYTES {
        return json!({ "source": format!("a record of {} bytes, too long to be read", text.len()) });
    }
    match serde_json::from_str(text) {
        Ok(record) => flattened(record),
        Err(_) if text.trim().is_empty() => json!({}),
        Err(_) => json!({ "source": text }),
    }
}

/// Returns the record with its parents named by ids and its ancestors beside them, whatever form they come in.
pub fn flattened(record: Value) -> Value {
    let Value::Object(mut own) = record else { return record };
    let mut pool = Pool::default();
    pool.take_from(&mut own);
    pool.give_to(&mut own);
    Value::Object(own)
}

/// The records of ancestors that were found, by their ids.
#[derive(Default)]
struct Pool(HashMap<String, Record>);

impl Pool {
    /// Takes the ancestors out of a record, and puts their ids in the places of parents.
    fn take_from(&mut self, record: &mut Record) {
        if let Some(Value::Object(ancestors)) = record.shift_remove(ANCESTORS) {
            for (id, ancestor) in ancestors {
                if let Value::Object(mut ancestor) = ancestor {
                    self.take_from(&mut ancestor);
                    self.0.entry(id).or_insert(ancestor);
                }
            }
        }
        record.shift_remove(LEFT_OUT);
        parents_of(record).into_iter().for_each(|parent| self.name(parent));
    }

    /// Puts a parent's id in its place and its record into the pool, unless it is named already, or is short and no
    /// record.
    fn name(&mut self, parent: &mut Value) {
        let in_place = match &*parent {
            Value::Object(record) => record.keys().all(|key| key == RECORD || key == "sha256"),
            other => other.to_string().len() <= MOST_BYTES_IN_PLACE,
        };
        if in_place {
            return;
        }
        let mut record = match parent.take() {
            Value::Object(record) => record,
            other => Record::from_iter([("said".to_owned(), other)]),
        };
        self.take_from(&mut record);
        let id = id_of(&record);
        *parent = json!({ RECORD: id });
        self.0.entry(id).or_insert(record);
    }

    /// Puts the nearest ancestors that fit into the record, and the number of those that do not.
    fn give_to(mut self, own: &mut Record) {
        let mut waiting: VecDeque<String> = ids_of_parents(own).into();
        let (mut met, mut bytes, mut left_out) = (HashSet::new(), 0, 0);
        let mut kept = Record::new();
        while let Some(id) = waiting.pop_front() {
            if !met.insert(id.clone()) {
                continue;
            }
            let fitting = self
                .0
                .remove(&id)
                .map(Value::Object)
                .filter(|record| kept.len() < MOST_RECORDS && bytes + record.to_string().len() <= MOST_BYTES);
            match fitting {
                Some(mut record) => {
                    bytes += record.to_string().len();
                    waiting.extend(record.as_object_mut().map(ids_of_parents).unwrap_or_default());
                    kept.insert(id, record);
                }
                None => left_out += 1,
            }
        }
        if !kept.is_empty() {
            own.insert(ANCESTORS.to_owned(), kept.into());
        }
        if left_out > 0 {
            own.insert(LEFT_OUT.to_owned(), left_out.into());
        }
    }
}

/// Returns the places of a record that name parents: `parents` of a finetuning or an import, `parent` of a pair that
/// was made again.
fn parents_of(record: &mut Record) -> Vec<&mut Value> {
    let mut places = Vec::new();
    for (key, value) in record {
        match (key.as_str(), value) {
            ("parents", Value::Object(parents)) => places.extend(parents.values_mut()),
            ("parent", parent) => places.push(parent),
            _ => {}
        }
    }
    places
}

fn ids_of_parents(record: &mut Record) -> Vec<String> {
    parents_of(record).into_iter().filter_map(|parent| parent[RECORD].as_str().map(str::to_owned)).collect()
}

fn id_of(record: &Record) -> String {
    let mut text = String::new();
    write_sorted(&Value::Object(record.clone()), &mut text);
    format!("{:x}", Sha256::digest(text))
}

fn write_sorted(value: &Value, text: &mut String) {
    let list = |text: &mut String, ends: [char; 2], items: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        text.push(ends[0]);
        for (index, (key, item)) in items.enumerate() {
            if index > 0 {
                text.push(',');
            }
            if let Some(key) = key {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
            }
            write_sorted(item, text);
        }
        text.push(ends[1]);
    };
    match value {
        Value::Object(record) => {
            let mut entries: Vec<_> = record.iter().map(|(key, item)| (Some(key), item)).collect();
            entries.sort_by_key(|(key, _)| *key);
            list(text, ['{', '}'], &mut entries.into_iter());
        }
        Value::Array(items) => list(text, ['[', ']'], &mut items.iter().map(|item| (None, item))),
        Value::Number(number) => text.push_str(&spelled(number)),
        other => text.push_str(&other.to_string()),
    }
}

/// Spells a number as Python does, so that both give one record the same id: 1e-05 and 1e+16.
fn spelled(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 16..)) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a run writes of a pair whose networks both have the record `parent`.
    fn finetuned(parent: &Value, generation: usize) -> Value {
        flattened(json!({
            "source": "finetuned by rootgan",
            "options": { "notes": "x".repeat(1000) },
            "parents": { "generator": parent, "discriminator": parent },
            "seen_images": generation,
        }))
    }

    #[test]
    fn the_record_grows_by_one_a_generation_and_stops_at_a_bound() {
        let mut record = json!({ "source": "random initialisation", "seed": 3 });
        let mut lengths = Vec::new();
        for generation in 0..200 {
            record = finetuned(&record, generation);
            lengths.push(record.to_string().len());
        }
        let steps: Vec<usize> = lengths[..20].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|&step| step.abs_diff(steps[0]) < 20), "{steps:?}");
        assert!(lengths.iter().all(|&length| length < MOST_BYTES + (8 << 10)), "{lengths:?}");
        // The nearest ancestors are kept, in their order; the others are only counted.
        let seen: Vec<u64> =
            record[ANCESTORS].as_object().unwrap().values().map(|a| a["seen_images"].as_u64().unwrap()).collect();
        assert!(seen.len() > 30 && (0..).zip(&seen).all(|(index, &seen)| seen == 198 - index), "{seen:?}");
        assert_eq!(record[LEFT_OUT], 1);
    }

    #[test]
    fn nested_records_of_earlier_versions_are_found_once_each() {
        let mut nested = json!({ "source": "random initialisation" });
        for generation in 0..12 {
            nested = json!({ "seen_images": generation, "parents": { "generator": nested, "discriminator": nested } });
        }
        let flat = flattened(nested.clone());
        let ancestors = flat[ANCESTORS].as_object().unwrap();
        assert_eq!(ancestors.len(), 12);
        assert!(nested.to_string().len() > 100_000 && flat.to_string().len() < 5_000);
        assert_eq!(flat["parents"]["generator"], flat["parents"]["discriminator"]);
        let parent = &ancestors[flat["parents"]["generator"]["record"].as_str().unwrap()];
        assert_eq!(parent["seen_images"], 10);
        assert_eq!(flattened(flat.clone()), flat, "a flat record stays as it is");
    }

    /// The id was computed by `printf '%s' '{"a":[1,{"b":null,"c":"x"}],"seed":3}' | sha256sum`.
    #[test]
    fn an_id_is_the_sha256_of_sorted_json() {
        let record = json!({ "seed": 3, "a": [1, { "c": "x", "b": null }] });
        let id = "91f5c416f82bf9d97254f6f506de6506384fdc7ce370069df8930e971483e0ee";
        assert_eq!(id_of(record.as_object().unwrap()), id);
    }

    /// The id of the same record in `tests/python/test_ancestry.py`.
    #[test]
    fn floats_are_spelled_as_python_does() {
        let floats = [0.0025, 1e-4, 1e-5, 2.5e-7, 1e15, 1e16, 1.5e300, 256.0, -0.0, 0.0];
        let record = json!({ "rates": floats });
        let text = r#"{"rates":[0.0025,0.0001,1e-05,2.5e-07,1000000000000000.0,1e+16,1.5e+300,256.0,-0.0,0.0]}"#;
        assert_eq!(id_of(record.as_object().unwrap()), format!("{:x}", Sha256::digest(text)));
        assert_eq!(
            &id_of(record.as_object().unwrap()),
            "d3d6c3915aaf0601350e6dea62306cdcc5ba73652606f15f7ef538071a07d0a8"
        );
    }

    #[test]
    fn a_text_that_is_no_json_is_the_source_of_a_record() {
        assert_eq!(parsed("Made by Jane Doe, CC-BY-4.0"), json!({ "source": "Made by Jane Doe, CC-BY-4.0" }));
        assert_eq!(parsed(r#"{"seed": 3}"#), json!({ "seed": 3 }));
        assert_eq!(parsed(" "), json!({}));
    }

    #[test]
    fn two_parents_of_their_own_are_both_kept_and_files_stay_named() {
        let (g, d) = (json!({ "source": "a" }), json!({ "source": "b", "parent": { "source": "c" } }));
        let mut record = flattened(json!({ "parents": { "generator": g, "discriminator": d } }));
        let ancestors = record[ANCESTORS].as_object().unwrap();
        let sources: Vec<_> = ancestors.values().map(|ancestor| ancestor["source"].as_str().unwrap()).collect();
        assert_eq!(sources, ["a", "b", "c"]);
        record["parents"]["generator"]["sha256"] = json!("0123");
        assert_eq!(flattened(record.clone()), record);
    }

    #[test]
    fn what_is_no_record_is_kept_while_it_is_short_and_named_when_it_is_long() {
        let short = json!({ "parents": { "G": "by hand", "D": {} } });
        assert_eq!(flattened(short.clone()), short);
        let long = flattened(json!({ "parent": "x".repeat(100_000) }));
        assert_eq!(long[LEFT_OUT], 1);
        assert!(long.to_string().len() < 200 && long["parent"]["record"].is_string());
        assert_eq!(flattened(json!([1])), json!([1]));
    }
}
