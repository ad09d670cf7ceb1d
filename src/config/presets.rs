//! The presets of `configs/`, built into the program: `--cfg NAME` works wherever it is installed.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{NetworkFacts, Options};

/// The presets by name, with the content of their files.
const PRESETS: [(&str, &str); 8] = [
    ("auto", include_str!("../../configs/auto.json")),
    ("stylegan2", include_str!("../../configs/stylegan2.json")),
    ("paper256", include_str!("../../configs/paper256.json")),
    ("paper512", include_str!("../../configs/paper512.json")),
    ("paper1024", include_str!("../../configs/paper1024.json")),
    ("cifar", include_str!("../../configs/cifar.json")),
    ("paper-rooted", include_str!("../../configs/paper-rooted.json")),
    ("demo", include_str!("../../configs/demo.json")),
];

/// Returns the options of a preset.
///
/// # Errors
/// The name is unknown; the message lists the presets.
pub fn preset(name: &str) -> Result<Options> {
    let Some((_, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = PRESETS.iter().map(|(known, _)| *known).collect();
        bail!("--cfg '{name}' is unknown; there are {}, and --config takes a file of your own", names.join(", "));
    };
    serde_json::from_str(text).with_context(|| format!("the preset '{name}' is broken; please report it"))
}

/// Returns the preset that the options name, or else `auto`.
///
/// # Errors
/// An unknown preset.
pub fn preset_of(options: &Options) -> Result<Options> {
    preset(options.cfg.as_deref().unwrap_or("auto"))
}

/// Returns these options over those of their preset. A preset's ramp-up of the average is for random pairs only, since
/// a transfer begins with an average that is worth keeping.
///
/// # Errors
/// An unknown preset.
pub(super) fn under(options: &Options, facts: &NetworkFacts) -> Result<Options> {
    let mut preset = preset_of(options)?;
    if !facts.is_random {
        preset.ema_rampup = None;
    }
    // Both texts are about the preset, not about this run.
    (preset.about, preset.expected) = (None, None);
    Ok(options.clone().over(preset))
}

/// Returns the name of the preset whose content this text of a file has, whatever its layout.
pub(super) fn name_of(text: &str) -> Option<&'static str> {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    let given = value(text)?;
    PRESETS.iter().find(|(_, known)| value(known).as_ref() == Some(&given)).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_preset_that_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, PRESETS.iter().map(|(name, _)| (*name).to_owned()).collect());
        for (name, _) in PRESETS {
            assert!(preset(name).unwrap().about.is_some(), "{name}");
        }
    }

    #[test]
    fn an_unknown_preset_is_refused_with_the_list() {
        let message = preset("papr256").unwrap_err().to_string();
        assert!(message.contains("papr256") && message.contains("paper256"), "{message}");
    }
}
