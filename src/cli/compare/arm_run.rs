//! The runs of a comparison: what they have in common, the folder that holds them, and each trained from where it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::finetune::{Place, train};
use crate::cli::version::VERSION;
use crate::config::{Options, Pairing};
use crate::files::atomic::{remove_if_there, write_json};
use crate::files::bounded::read_text;
use crate::metrics::parse_list;
use crate::run::checkpoint::{Checkpoints, Resumed};
use crate::run::comparison::Arm;
use crate::run::folder::{self, FolderLock};
use crate::system::processor;
use crate::system::signals::Stopped;
use crate::system::ui::say;
use crate::train::Diverged;

/// The metric of a comparison where none is named.
const METRIC: &str = "fid2k_full";
/// The record in the folder of a run that did not come to its end, and will not.
const ENDED: &str = "compare-ended.json";
/// The record in the folder of a run that came to its end. With it the run counts as trained even where its networks and
/// its checkpoint were deleted, which take up nearly all of its space.
const COMPLETE: &str = "compare-complete.json";

/// The reason why a run has no end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Whether it diverged; otherwise it was stopped.
    pub collapsed: bool,
    /// The reason, as a clause.
    pub why: String,
}

/// How far a run was trained and measured.
#[derive(Debug, Serialize, Deserialize)]
struct Complete {
    /// Thousands of images.
    kimg: f64,
    /// The program and the threads that trained it to there; None in records of earlier versions.
    #[serde(default)]
    trained_by: Option<String>,
}

/// Sets what the runs of a comparison have in common; returns the metric that they are compared by.
///
/// # Errors
/// A metric of which more is better, or options that belong to single runs.
pub fn prepare(options: &mut Options, out: &Path, eval_kimg: Option<f64>) -> Result<String> {
    ensure!(
        options.outdir.is_none() && options.desc.is_none(),
        "the runs of a comparison lie in --out; leave --outdir and --desc away"
    );
    let names = options.metrics.get_or_insert_with(|| METRIC.to_owned());
    let first = parse_list(names)?.swap_remove(0);
    ensure!(
        first.formula.lower_is_better(),
        "cannot compare by {}: of the first metric less has to be better, as of fid2k_full or kid2k_full",
        first.name
    );
    options.tick_kimg = eval_kimg.or(options.tick_kimg);
    options.snapshot_ticks = Some(1);
    options.keep_snapshots = options.keep_snapshots.or(Some(1));
    options.outdir = Some(out.to_owned());
    Ok(first.name)
}

/// The folder of a comparison, which no other program uses meanwhile.
pub struct Claim {
    lock: FolderLock,
    path: PathBuf,
    record: Map<String, Value>,
    /// The record that was there, where there was one.
    before: Option<Map<String, Value>>,
}

impl Claim {
    /// Lists what had a name there before, of a kind; None where there was no comparison.
    pub fn names_before(&self, kind: &str) -> Option<Vec<String>> {
        let named = self.before.as_ref()?.get(kind).and_then(Value::as_object);
        Some(named.map_or_else(Vec::new, |named| named.keys().cloned().collect()))
    }

    /// Writes what the comparison is into the folder, which from then on takes no other.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn record(self) -> Result<FolderLock> {
        write_json(&self.path, &self.record)?;
        Ok(self.lock)
    }
}

/// Makes the folder of a comparison, or makes sure that it is that of this one: what `wanted` says is the same. In a map of `named`
/// more may come each time, but what has a name keeps its value: an arm its options, a folder its data set. Nothing is recorded
/// yet, so that a call that proves to be mistaken can be corrected.
///
/// # Errors
/// Another comparison or other files are there, a name stands for something else there, or the folder cannot be written.
pub fn claim(out: &Path, wanted: &Map<String, Value>, named: &[(&str, Map<String, Value>)]) -> Result<Claim> {
    let (shown, path) = (out.display(), out.join("compare.json"));
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder '{shown}'; pass another --out"))?;
    let lock = folder::lock(out)?;
    let damaged = || format!("'{}' is damaged", path.display());
    let mut record = wanted.clone();
    let mut before = None;
    if path.exists() {
        record = serde_json::from_str(&read_text(&path)?).with_context(damaged)?;
        name_pairing(&mut record);
        before = Some(record.clone());
        let mut fixed = record.clone();
        named.iter().for_each(|(kind, _)| drop(fixed.remove(*kind)));
        ensure!(
            fixed == *wanted,
            "'{shown}' holds a comparison with other options (see compare.json); pass those, or another --out"
        );
    } else {
        let mut others = fs::read_dir(out)?.flatten().filter(|entry| entry.file_name() != ".lock");
        ensure!(others.next().is_none(), "'{shown}' is not empty and holds no comparison; pass another --out");
    }
    for (kind, values) in named {
        let kept = record.entry(*kind).or_insert_with(|| json!({})).as_object_mut().with_context(damaged)?;
        for (name, value) in values {
            let before = kept.entry(name).or_insert_with(|| value.clone());
            ensure!(
                before == value,
                "'{shown}' has '{name}' of {before} among its {kind}, now it is {value}; give it another name, or pass another \
                 --out"
            );
        }
    }
    Ok(Claim { lock, path, record, before })
}

/// Says in a record from before pairs were the default that its runs have none, unless it says otherwise.
fn name_pairing(record: &mut Map<String, Value>) {
    let of_all = record.get("options").and_then(|options| options.get("pairing")).cloned();
    let former = of_all.unwrap_or_else(|| json!(Pairing::None));
    let arms = record.get_mut("arms").and_then(Value::as_object_mut);
    let arms = arms.into_iter().flat_map(|arms| arms.values_mut()).filter_map(Value::as_object_mut);
    for arm in arms {
        arm.entry("pairing").or_insert_with(|| former.clone());
    }
    if let Some(options) =
        record.get_mut("tune").and_then(|tune| tune.get_mut("options")).and_then(Value::as_object_mut)
    {
        options.entry("pairing").or_insert_with(|| json!(Pairing::None));
    }
}

/// Makes a JSON object of its members.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// One run of a comparison.
pub struct ArmRun {
    /// The run's folder.
    pub folder: PathBuf,
    /// The options that it begins with, without its length.
    pub options: Options,
}

impl ArmRun {
    /// Trains to so many thousand images, from where it is; returns why it went no further, where it did not.
    pub fn train_to(&self, kimg: f64) -> Result<Option<Ended>> {
        let context = || format!("the run '{}'", self.folder.display());
        let trained = self.trained_kimg()?;
        if trained >= kimg {
            say("it is complete");
            return Ok(None);
        }
        let newest = Checkpoints::in_run(&self.folder, 1).list()?.pop().map(|checkpoint| checkpoint.seen_images);
        ensure!(
            newest.is_some() || trained == 0.0,
            "'{}' cannot go on from {trained} to {kimg} thousand images: its checkpoint was deleted; delete the folder to \
             train it from the beginning",
            self.folder.display()
        );
        if newest.is_none() && self.folder.exists() {
            // The run was interrupted before its first checkpoint, so nothing in the folder is worth keeping.
            fs::remove_dir_all(&self.folder).with_context(context)?;
        }
        let length = Options { kimg: Some(kimg), ..Options::default() };
        let outcome = match newest {
            Some(_) if self.is_complete(kimg)? => return self.complete(kimg),
            Some(_) => train(length, Place::Resume { folder: self.folder.clone(), allow_changes: true }),
            None => train(length.over(self.options.clone()), Place::Folder(self.folder.clone())),
        };
        match outcome {
            Ok(_) => self.complete(kimg),
            Err(error) if error.is::<Diverged>() => {
                self.end(Ended { collapsed: true, why: format!("{error:#}") }).map(Some)
            }
            // A signal ends the comparison, not just this run.
            Err(error) => match error.downcast_ref::<Stopped>() {
                Some(Stopped { signal, .. }) => {
                    let message =
                        format!("stopped by {signal} in '{}'; to go on: the same command", self.folder.display());
                    Err(Stopped { signal: *signal, message }.into())
                }
                None => Err(error).with_context(context),
            },
        }
    }

    /// Whether its newest checkpoint has come so far, metrics included.
    fn is_complete(&self, kimg: f64) -> Result<bool> {
        Ok(Resumed::open(&self.folder)?.0.record.is_complete((kimg * 1000.0).round() as u64))
    }

    fn complete(&self, kimg: f64) -> Result<Option<Ended>> {
        let threads = tch::get_num_threads();
        let on = processor::name().map_or_else(String::new, |name| format!(" of {name}"));
        let trained_by =
            Some(format!("rootgan {VERSION}, {threads} thread{}{on}", if threads == 1 { "" } else { "s" }));
        write_json(&self.folder.join(COMPLETE), &Complete { kimg, trained_by })?;
        // A run that was stopped as hopeless may have been asked for after all.
        remove_if_there(&self.folder.join(ENDED))?;
        Ok(None)
    }

    /// Returns how many thousand images it was trained for, metrics included; 0 where it has not come to an end yet.
    pub fn trained_kimg(&self) -> Result<f64> {
        Ok(self.read::<Complete>(COMPLETE)?.map_or(0.0, |complete| complete.kimg))
    }

    /// Returns the program and the threads that trained it, where that is recorded.
    pub fn trained_by(&self) -> Result<Option<String>> {
        Ok(self.read::<Complete>(COMPLETE)?.and_then(|complete| complete.trained_by))
    }

    /// Reads what it came to; `ended` says why it went no further, where it did not.
    pub fn read_arm(&self, name: &str, seed: u64, metric: &str, ended: Option<Ended>) -> Result<Arm> {
        let mut arm = Arm::read(name, seed, &self.folder, metric)?;
        arm.collapsed = arm.has_collapsed();
        if let Some(ended) = ended {
            arm.collapsed |= ended.collapsed;
            arm.ended = Some(ended.why);
        }
        Ok(arm)
    }

    pub fn ended(&self) -> Result<Option<Ended>> {
        self.read(ENDED)
    }

    /// Reads a record of the run, where it is there.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_str(&read_text(&path)?).with_context(|| format!("'{}' is damaged", path.display())).map(Some)
    }

    pub fn end(&self, ended: Ended) -> Result<Ended> {
        write_json(&self.folder.join(ENDED), &ended)?;
        Ok(ended)
    }
}

/// Formats options as flags, without paths.
pub fn shown(options: &Options) -> String {
    let paths = Options::path_keys();
    let is_shown = |(name, _): &(String, String)| !paths.contains(&name.as_str());
    let flags = values_of(options).into_iter().filter(is_shown);
    flags.map(|(name, text)| format!("--{} {text}", name.replace('_', "-"))).collect::<Vec<_>>().join(" ")
}

/// Lists the options that have a value, by their keys, and the values as they are typed.
pub fn values_of(options: &Options) -> Vec<(String, String)> {
    let Ok(Value::Object(values)) = serde_json::to_value(options) else { return Vec::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, text(&value))).collect()
}

/// Returns what has to be the same when a comparison goes on: the options of all runs, but not where they lie and on what.
///
/// # Errors
/// The options cannot be JSON.
pub fn common(options: &Options) -> Result<Value> {
    let mut options = serde_json::to_value(options)?;
    if let Value::Object(options) = &mut options {
        options.retain(|name, value| !value.is_null() && !["outdir", "device"].contains(&name.as_str()));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_grows_by_names_but_no_name_changes_its_meaning() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("compared");
        let claim_with = |seed: u64, k20: u64, more: bool| {
            let mut arms = Map::from_iter([("k20".to_owned(), json!({ "pairing": "none", "root_k": k20 }))]);
            if more {
                arms.insert("k2".to_owned(), json!({ "pairing": "none", "root_k": 2 }));
            }
            claim(&out, &object([("first_seed", json!(seed))]), &[("arms", arms)])?.record().map(drop)
        };
        claim_with(1, 20, false).unwrap();
        claim_with(1, 20, true).unwrap();
        claim_with(1, 20, false).unwrap();
        let record: Value = serde_json::from_str(&read_text(&out.join("compare.json")).unwrap()).unwrap();
        assert_eq!(record["arms"]["k2"]["root_k"], 2);
        let message = claim_with(1, 5, false).unwrap_err().to_string();
        let words =
            r#"'k20' of {"pairing":"none","root_k":20} among its arms, now it is {"pairing":"none","root_k":5}"#;
        assert!(message.contains(words), "{message}");
        assert!(claim_with(2, 20, false).unwrap_err().to_string().contains("other options"));
        // Comparisons of before had no record of their arms.
        write_json(&out.join("compare.json"), &json!({ "first_seed": 1 })).unwrap();
        claim_with(1, 20, false).unwrap();
        assert!(claim_with(1, 5, false).is_err());
    }
}
