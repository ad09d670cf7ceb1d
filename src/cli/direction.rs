//! The option --direction of `generate`: steps along directions in W that `rootgan directions` found.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use tch::Tensor;

use crate::latent::directions::Directions;
use crate::latent::layers::LayerRange;
use crate::latent::w_samples::sizes_of_ws;
use crate::model::Generator;

/// One step, as it is typed: FILE:INDEX:STRENGTH, or FILE:INDEX:STRENGTH:LAYERS.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionArg {
    /// File of directions.
    pub file: PathBuf,
    /// Number of the direction; 0 is the strongest.
    pub index: u32,
    /// Length of the step, in standard deviations of w along the direction.
    pub strength: f64,
    /// Layers that are moved.
    pub layers: LayerRange,
}

impl FromStr for DirectionArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The name of a file may have colons, so the text is read from its end.
        let parts: Vec<&str> = text.rsplitn(4, ':').collect();
        let with_layers = || {
            let [layers, strength, index, file] = parts.as_slice() else { return None };
            Self::of(file, index, strength, layers.parse().ok()?)
        };
        let without_layers = || {
            let (rest, strength) = text.rsplit_once(':')?;
            let (file, index) = rest.rsplit_once(':')?;
            Self::of(file, index, strength, LayerRange::All)
        };
        with_layers().or_else(without_layers).with_context(|| {
            format!(
                "cannot read the direction '{text}'; write FILE:INDEX:STRENGTH or FILE:INDEX:STRENGTH:LAYERS, as in \
                 d.safetensors:0:2.5 or d.safetensors:3:-2:middle"
            )
        })
    }
}

impl DirectionArg {
    fn of(file: &str, index: &str, strength: &str, layers: LayerRange) -> Option<Self> {
        let (index, strength) = (index.parse().ok()?, strength.parse::<f64>().ok().filter(|s| s.is_finite())?);
        (!file.is_empty()).then(|| Self { file: file.into(), index, strength, layers })
    }
}

/// Adds the steps up: what is added to all ws, [num_ws, w_dim]; None without steps.
///
/// # Errors
/// A file that holds no directions for this generator, or no direction or layers of these numbers.
pub fn shift_of(steps: &[DirectionArg], generator: &Generator) -> Result<Option<Tensor>> {
    let mut sum: Option<Tensor> = None;
    for step in steps {
        ensure!(step.file.is_file(), "cannot find the directions '{}'; check the path", step.file.display());
        let (num_ws, w_dim) = sizes_of_ws(generator)?;
        let found = Directions::load(&step.file, w_dim)?;
        let shift = found
            .shift(step.index.into(), step.strength, &step.layers.rows(num_ws)?, num_ws)
            .with_context(|| format!("cannot use '{}'", step.file.display()))?;
        sum = Some(sum.map_or_else(|| shift.shallow_clone(), |sum| sum + &shift));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_with_and_without_layers_and_from_a_file_with_colons() {
        let step = |file: &str, index, strength, layers| DirectionArg { file: file.into(), index, strength, layers };
        for (text, expected) in [
            ("d.safetensors:0:2.5", step("d.safetensors", 0, 2.5, LayerRange::All)),
            ("d.safetensors:3:-2:0-3", step("d.safetensors", 3, -2.0, LayerRange::Rows(0, 3))),
            ("a:b/d.safetensors:1:1:middle", step("a:b/d.safetensors", 1, 1.0, LayerRange::Middle)),
            ("a:b:1:1", step("a:b", 1, 1.0, LayerRange::All)),
        ] {
            assert_eq!(text.parse::<DirectionArg>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_step_is_answered_with_an_example() {
        for text in ["", "d.safetensors", "d.safetensors:0", "d:x:1", "d:0:much", "d:0:nan", ":0:1", "d:-1:1"] {
            let message = text.parse::<DirectionArg>().unwrap_err().to_string();
            assert!(message.contains(&format!("'{text}'")) && message.contains(":0:2.5"), "{message}");
        }
    }
}
