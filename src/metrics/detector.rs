//! The detector, the network whose features are compared: any TorchScript file with the call
//! `detector(pixels u8 [N, 3, H, W], return_features=True) -> [N, F]`, such as the Inception network of published FIDs.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, IValue, Kind, Tensor};

use crate::files::checksum::sha256;
use crate::model::ScriptModule;
use crate::tensor::no_grad;

/// Name of the file whose Frechet distance is called FID; nothing inside the file says what it is.
const INCEPTION: &str = "inception-2015-12-05";
/// Side in pixels that larger pictures are averaged down to before perceptual distances are taken.
///
/// # Source
/// Karras et al., arXiv 1912.04958, appendix D.
const PERCEPTUAL_SIDE: i64 = 256;

/// Identifies the detector that a number was made with. Only numbers of equal sha256 are ever compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorId {
    /// Name that the file gives itself, otherwise the file's name without the ending.
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Name of the features in the name of a measure.
    pub features: String,
    /// The way in which the detector brings pictures to its own size.
    pub resize: String,
}

impl DetectorId {
    /// Names a measure: `FID` for the Inception network, `Frechet distance, AlexNet features` for another.
    pub fn measure(&self, published: &str, plain: &str) -> String {
        if self.is_inception() { published.to_owned() } else { format!("{plain}, {}", self.features) }
    }

    /// Whether it is the Inception network of published numbers.
    pub fn is_inception(&self) -> bool {
        self.name == INCEPTION
    }

    /// Describes it on one line.
    pub fn in_short(&self) -> String {
        format!("{} (sha256 {}, resize: {})", self.name, &self.sha256[..self.sha256.len().min(12)], self.resize)
    }
}

/// A detector that is loaded on a device.
pub struct Detector {
    /// The identity of the file, for records.
    pub id: DetectorId,
    script: ScriptModule,
    /// Arguments of `forward` after the pictures: names and default values.
    arguments: Vec<(String, Option<String>)>,
}

impl Detector {
    /// Loads a detector from a TorchScript file.
    ///
    /// # Errors
    /// A file that is no TorchScript, a network of another kind, or one without `return_features`.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let remedy = "rootgan detector makes one, docs/metrics.md says where the one of published FIDs comes from";
        let script = ScriptModule::load(path, device).with_context(|| format!("cannot use the detector; {remedy}"))?;
        let shown = path.display();
        let described = script.description().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let described = described.unwrap_or(Value::Null);
        if let Some(kind) = described["kind"].as_str().filter(|&kind| kind != "detector") {
            bail!("cannot use '{shown}' as a detector: it is a {kind}; {remedy}");
        }
        let arguments = declared_arguments(&script);
        ensure!(
            arguments.iter().any(|(name, _)| name == "return_features"),
            "cannot use '{shown}' as a detector: its forward has no argument return_features; {remedy}"
        );
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let said = |key: &str| described[key].as_str().map(str::to_owned);
        let features = if stem == INCEPTION { "Inception features".to_owned() } else { format!("features of {stem}") };
        let id = DetectorId {
            name: said("name").unwrap_or(stem),
            sha256: sha256(path)?,
            features: said("measure").unwrap_or(features),
            resize: said("resize").unwrap_or_else(|| "the detector's own".to_owned()),
        };
        Ok(Self { id, script, arguments })
    }

    /// Returns the device that it computes on.
    pub fn device(&self) -> Device {
        self.script.device
    }

    /// Computes the features of pictures.
    ///
    /// # Shapes
    /// u8 [N, 3, H, W] on the detector's device -> float32 [N, F].
    ///
    /// # Errors
    /// The detector fails, or gives features that are no finite rows.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        self.rows("return_features", &[], pixels)
    }

    /// Computes the probabilities of classes, without the bias of the last layer where the detector can leave it out.
    ///
    /// # Shapes
    /// u8 [N, 3, H, W] -> float32 [N, classes].
    ///
    /// # Errors
    /// The detector tells no classes.
    pub fn probabilities(&self, pixels: &Tensor) -> Result<Tensor> {
        self.ensure_classes()?;
        self.rows("no_output_bias", &["return_features"], pixels)
    }

    /// Computes rows whose squared distance is the perceptual distance of two pictures (LPIPS).
    ///
    /// # Shapes
    /// float32 [N, 3, H, W], 0 to 255 -> float32 [N, F].
    ///
    /// # Errors
    /// The detector has no perceptual distance.
    pub fn perceptual(&self, images: &Tensor) -> Result<Tensor> {
        self.ensure_perceptual()?;
        self.rows("return_lpips", &["return_features", "resize_images"], images)
    }

    /// Computes the rows that two pictures are compared by, recorded for gradients: those of [`Detector::perceptual`] where it
    /// has a perceptual distance, otherwise features.
    ///
    /// # Shapes
    /// float32 [N, 3, H, W], 0 to 255 -> float32 [N, F].
    ///
    /// # Errors
    /// The detector fails on pictures of floats, or gives rows that are not finite.
    pub fn differentiable_rows(&self, images: &Tensor) -> Result<Tensor> {
        match self.has_perceptual() {
            true => self.recorded_rows("return_lpips", &["return_features", "resize_images"], images),
            false => self.recorded_rows("return_features", &[], images),
        }
    }

    /// Leaves its parameters out of all gradients, which saves time and memory.
    pub fn freeze(&mut self) {
        self.script.freeze(|_| true);
    }

    /// Whether it has a perceptual distance.
    pub fn has_perceptual(&self) -> bool {
        self.has("return_lpips")
    }

    /// Makes sure that it gives class probabilities.
    ///
    /// # Errors
    /// The detector gives none.
    pub fn ensure_classes(&self) -> Result<()> {
        ensure!(
            self.has("no_output_bias"),
            "'{}' gives no class probabilities: the inception score needs the Inception file (docs/metrics.md)",
            self.script.path.display()
        );
        Ok(())
    }

    /// Makes sure that it has a perceptual distance.
    ///
    /// # Errors
    /// The detector has none.
    pub fn ensure_perceptual(&self) -> Result<()> {
        ensure!(
            self.has_perceptual(),
            "'{}' has no perceptual distance; pass one that has as --vgg-detector: rootgan detector vgg16",
            self.script.path.display()
        );
        Ok(())
    }

    fn has(&self, argument: &str) -> bool {
        self.arguments.iter().any(|(name, _)| name == argument)
    }

    fn rows(&self, on: &str, off: &[&str], pixels: &Tensor) -> Result<Tensor> {
        no_grad(|| self.recorded_rows(on, off, pixels))
    }

    /// Calls the detector with one switch on, some off, and the others as they are by default.
    fn recorded_rows(&self, on: &str, off: &[&str], pixels: &Tensor) -> Result<Tensor> {
        let shown = self.script.path.display();
        let mut values = vec![IValue::from(pixels.shallow_clone())];
        let last = self.arguments.iter().rposition(|(name, _)| name == on || off.contains(&name.as_str()));
        for (name, default) in self.arguments.iter().take(last.map_or(0, |last| last + 1)) {
            values.push(match default.as_deref() {
                _ if name == on => IValue::Bool(true),
                _ if off.contains(&name.as_str()) => IValue::Bool(false),
                Some("True") => IValue::Bool(true),
                Some("False") => IValue::Bool(false),
                Some("None") => IValue::None,
                _ => bail!("cannot call '{shown}': it wants the argument '{name}', whose value is not known here"),
            });
        }
        let rows = self.script.tensor_method("forward", &values)?;
        let (size, n) = (rows.size(), pixels.size()[0]);
        ensure!(
            size.len() == 2 && size[0] == n,
            "'{shown}': forward gave shape {size:?} for {n} pictures, [{n}, F] is expected"
        );
        ensure!(
            rows.isfinite().all().int64_value(&[]) == 1,
            "'{shown}' gave features that are not finite: the file is damaged, copy it again"
        );
        Ok(rows.to_kind(Kind::Float))
    }
}

/// Returns what a detector gets for perceptual distances of images [N, 1 or 3, H, W] in [-1, 1]: RGB from 0 to 255, at most 256x256.
pub fn perceptual_input(images: &Tensor, detector: &Detector) -> Tensor {
    let smaller = match images.size()[2] > PERCEPTUAL_SIDE {
        true => images.adaptive_avg_pool2d([PERCEPTUAL_SIDE, PERCEPTUAL_SIDE]),
        false => images.shallow_clone(),
    };
    let pixels = (smaller.expand([-1, 3, -1, -1], false) + 1.0) * 127.5;
    pixels.to_device(detector.device())
}

/// Returns the arguments of `forward` after the pictures.
fn declared_arguments(script: &ScriptModule) -> Vec<(String, Option<String>)> {
    parse_declaration(&script.declaration("forward").unwrap_or_default())
}

/// Reads `forward(__torch__.D self, Tensor x, bool return_features=False) -> Tensor` as [("return_features", "False")].
fn parse_declaration(text: &str) -> Vec<(String, Option<String>)> {
    let Some(declared) = text.strip_prefix("forward(") else {
        return Vec::new();
    };
    let inside = declared.split(") ->").next().unwrap_or_default();
    let argument = |text: &str| {
        let (_, name) = text.trim().split_once(' ')?;
        let (name, default) = name.split_once('=').map_or((name, None), |(name, default)| (name, Some(default)));
        Some((name.to_owned(), default.map(str::to_owned)))
    };
    inside.split(',').skip(2).filter_map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_gives_names_and_defaults() {
        let text = "forward(__torch__.D self, Tensor img, bool return_features=False, int? size=None) -> Tensor";
        let expected = [("return_features", "False"), ("size", "None")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).into();
        assert_eq!(parse_declaration(text), expected);
        assert!(parse_declaration("no such thing").is_empty());
    }

    #[test]
    fn only_the_inception_file_measures_fid() {
        let id = |name: &str, features: &str| DetectorId {
            name: name.to_owned(),
            sha256: "0123456789abcdef".to_owned(),
            features: features.to_owned(),
            resize: "none".to_owned(),
        };
        assert_eq!(id(INCEPTION, "Inception features").measure("FID", "Frechet distance"), "FID");
        let other = id("rootgan-alexnet-1", "AlexNet features");
        assert_eq!(other.measure("FID", "Frechet distance"), "Frechet distance, AlexNet features");
        assert!(other.in_short().contains("sha256 0123456789ab,"));
    }
}
