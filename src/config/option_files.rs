//! Options out of a JSON file, and the paths among them.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::options::{Options, Pairing};
use super::presets;
use crate::files::bounded::read_text;

impl Options {
    /// Returns these flags over the options of the file at `path`, if one is given.
    ///
    /// # Errors
    /// The errors of [`from_file`](Self::from_file), or file and flags name different presets.
    pub fn with_file(self, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return self.with_utf8_paths() };
        let file = Self::from_file(path)?;
        // The file's values would win over the preset's, and the run's name would be wrong.
        ensure!(
            file.cfg.is_none() || self.cfg.is_none() || file.cfg == self.cfg,
            "'{}' has the options of a run with another --cfg; leave --cfg away, or pass a --config without one",
            path.display()
        );
        self.over_file(file).with_utf8_paths()
    }

    /// Refuses paths that are not UTF-8: the records of a run are JSON, which cannot hold them.
    fn with_utf8_paths(mut self) -> Result<Self> {
        for path in self.paths_mut() {
            ensure!(
                path.to_str().is_some(),
                "cannot use '{}': the path is not UTF-8, which the records of a run have to be; rename it",
                path.display()
            );
        }
        Ok(self)
    }

    /// Makes every path absolute, so that the working directory may change.
    ///
    /// # Errors
    /// The working directory does not exist any more, or its path is not UTF-8.
    pub fn with_absolute_paths(mut self) -> Result<Self> {
        for path in self.paths_mut() {
            *path = std::path::absolute(&path).with_context(|| format!("cannot find '{}'", path.display()))?;
        }
        self.with_utf8_paths()
    }

    /// Reads a JSON file whose keys are the flags with underscores; an unknown key is an error.
    /// Relative paths in it count from the working directory. The file of a preset is that preset: `cfg` alone. The record of a
    /// run from before there were pairs says that it has none.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, or has a key or value that no option takes.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = read_text(path).context("pass a JSON file as --config: check the path, and save it as UTF-8")?;
        let refused = || {
            format!("cannot use the configuration '{}'; its keys are the flags of `rootgan finetune`", path.display())
        };
        let value: Value = serde_json::from_str(&text).with_context(refused)?;
        let Value::Object(given) = &value else {
            bail!(
                "cannot use the configuration '{}': it is no JSON object; write {{\"key\": value, ...}}",
                path.display()
            );
        };
        let known = Self::keys();
        if let Some(key) = given.keys().find(|key| !known.contains(&key.as_str())) {
            let nearest = known
                .iter()
                .min_by_key(|known| strsim::levenshtein(known, &shortened(key)))
                .copied()
                .unwrap_or_default();
            return Err(anyhow!("unknown field `{}`; did you mean `{nearest}`?", shortened(key)).context(refused()));
        }
        let one_by_one = given.iter().map(|(key, value)| (key, serde_json::json!({ key: value })));
        for (key, alone) in one_by_one {
            serde_json::from_value::<Self>(alone).with_context(|| format!("`{key}`")).with_context(refused)?;
        }
        // The options are read from the text, where a key that comes twice is an error.
        let mut options: Self = serde_json::from_str(&text).with_context(refused)?;
        // A record names the options without a value too.
        if given.values().any(Value::is_null) && !given.contains_key("pairing") {
            options.pairing = Some(Pairing::None);
        }
        let preset = presets::name_of(&text).map(str::to_owned);
        Ok(if preset.is_some() { Self { cfg: preset, ..Self::default() } } else { options })
    }
}

/// Cuts a name to what a message has room for.
fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::config::LossKind;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_path_that_is_not_utf8_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let data = PathBuf::from(std::ffi::OsString::from_vec(b"pics\xff".to_vec()));
        let options = Options { data: Some(data), ..Options::default() };
        for outcome in [options.clone().with_file(None), options.with_absolute_paths()] {
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains("is not UTF-8") && message.contains("rename it"), "{message}");
        }
    }

    #[test]
    fn the_file_of_a_preset_is_the_preset_and_an_edited_one_is_not() {
        let text = include_str!("../../configs/paper256.json");
        let (_folder, path) = file(text);
        let preset = Options { cfg: Some("paper256".to_owned()), ..Options::default() };
        assert_eq!(Options::from_file(&path).unwrap(), preset);
        let (_folder, path) = file(&text.replace("\"batch\": 64", "\"batch\": 32"));
        let edited = Options::from_file(&path).unwrap();
        assert_eq!((edited.cfg, edited.batch, edited.r1_gamma), (None, Some(32), Some(1.0)));
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        let (_folder, path) = file(r#"{"root_kk": 5}"#);
        let message = format!("{:#}", Options::from_file(&path).unwrap_err());
        assert!(message.contains("root_kk") && message.contains("root_k`"), "{message}");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let (_folder, path) = file(r#"{"root_k": 5, "batch": 8}"#);
        let flags = Options { root_k: Some(20.0), ..Options::default() };
        let merged = flags.over(Options::from_file(&path).unwrap());
        assert_eq!((merged.root_k, merged.batch), (Some(20.0), Some(8)));
    }

    #[test]
    fn a_record_of_before_there_were_pairs_has_none_and_a_file_of_choices_says_nothing_of_them() {
        let pairing = |text: &str| {
            let (_folder, path) = file(text);
            Options::from_file(&path).unwrap().pairing
        };
        assert_eq!(pairing(r#"{"from": null, "loss": "rooted", "root_k": 20.0}"#), Some(Pairing::None));
        assert_eq!(pairing(r#"{"from": null, "pairing": "relativistic"}"#), Some(Pairing::Relativistic));
        assert_eq!(pairing(r#"{"loss": "rooted", "root_k": 20.0}"#), None);
    }

    #[test]
    fn what_a_file_derived_does_not_outlive_its_cause() {
        let (_folder, path) = file(r#"{"root_k": 5, "batch": 8, "micro_batch": 8, "desc": "rooted5-batch8"}"#);
        let flags = Options { loss: Some(LossKind::Logistic), batch: Some(4), ..Options::default() };
        let merged = flags.over(Options::from_file(&path).unwrap());
        assert_eq!((merged.root_k, merged.micro_batch, merged.desc), (None, None, None));
    }
}
