//! The parts of a kind of metric. To add a kind, write a file with its mathematics and a [`Formula`], and a line in
//! `registry.rs`.

use std::fmt;

use anyhow::{Context, Result};
use tch::Tensor;

use super::detector::DetectorId;
use super::feature_set::{FeatureSet, Needs};
use super::moments::Moments;

/// A kind of metric: its names, what it needs, and how it is computed.
pub trait Formula: fmt::Debug + Sync {
    /// Returns the beginning of names of this kind, before the number of pictures: `fid` for `fid50k_full`.
    fn prefix(&self) -> &'static str;

    /// Reads the rest of a name behind the prefix; None where the name is not of this kind.
    fn amount(&self, rest: &str) -> Option<Amount>;

    /// Whether a lower first value is better.
    fn lower_is_better(&self) -> bool;

    /// Whether the metric compares with real pictures.
    fn needs_reals(&self) -> bool {
        true
    }

    /// Whether the detector has to give class probabilities.
    fn needs_classes(&self) -> bool {
        false
    }

    /// Whether the metric walks through the latents of a generator instead of comparing features: `path_length.rs`
    /// computes it.
    fn walks_latents(&self) -> bool {
        false
    }

    /// Whether the field computes the metric with VGG16 instead of Inception.
    fn is_of_vgg(&self) -> bool {
        false
    }

    /// Adds the features that the metric needs of `n` pictures of one side.
    fn add_needs(&self, n: usize, needs: &mut Needs);

    /// Computes the metric.
    ///
    /// # Errors
    /// Features that are missing or too few.
    fn compute(&self, sides: &Sides<'_>) -> Result<Measured>;
}

/// The part of a metric's name behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Number of fakes, or of pairs of them.
    pub count: usize,
    /// Whether all real pictures are compared with, instead of as many as there are fakes.
    pub all_reals: bool,
    /// The k of nearest neighbours; 0 where none are used.
    pub neighbours: i64,
}

impl Amount {
    /// Reads `50k` of a metric without real pictures.
    pub fn alone(rest: &str) -> Option<Self> {
        Some(Self { count: whole_count(rest)?, all_reals: true, neighbours: 0 })
    }

    /// Reads `50k` or `50k_full`.
    pub fn compared(rest: &str) -> Option<Self> {
        let (rest, all_reals) = without_full(rest);
        Some(Self { count: whole_count(rest)?, all_reals, neighbours: 0 })
    }

    /// Reads `50k3` or `500_k4`, each also with `_full`; `default` neighbours where no number of them is given.
    pub fn with_neighbours(rest: &str, default: i64) -> Option<Self> {
        let (rest, all_reals) = without_full(rest);
        let (count, k) = leading_count(rest)?;
        let k = k.strip_prefix("_k").unwrap_or(k);
        let neighbours = if k.is_empty() { default } else { k.parse().ok().filter(|&k| k > 0)? };
        Some(Self { count, all_reals, neighbours })
    }
}

fn without_full(rest: &str) -> (&str, bool) {
    rest.strip_suffix("_full").map_or((rest, false), |rest| (rest, true))
}

fn whole_count(text: &str) -> Option<usize> {
    leading_count(text).filter(|(_, rest)| rest.is_empty()).map(|(count, _)| count)
}

/// Splits `50k3` into (50000, "3"), and `500` into (500, "").
fn leading_count(text: &str) -> Option<(usize, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: usize = text[..digits].parse().ok()?;
    match text[digits..].strip_prefix('k') {
        Some(rest) => Some((count.checked_mul(1000)?, rest)),
        None => Some((count, &text[digits..])),
    }
}

/// The features that a metric is computed from.
pub struct Sides<'a> {
    /// Features of real pictures; None for a metric that compares with none.
    pub reals: Option<&'a FeatureSet>,
    /// The number of real pictures that count.
    pub real_count: usize,
    /// Features of fakes.
    pub fakes: &'a FeatureSet,
    /// The number of fakes that count.
    pub fake_count: usize,
    /// The k of nearest neighbours; 0 where none are used.
    pub neighbours: i64,
    /// Seed of random subsets.
    pub seed: u64,
}

impl Sides<'_> {
    /// Returns the detector that made the features.
    pub fn detector(&self) -> &DetectorId {
        &self.fakes.record.detector
    }

    /// Returns the features of reals [N, F] and fakes [M, F], on one device.
    ///
    /// # Errors
    /// Features are missing or too few.
    pub fn features(&self) -> Result<(Tensor, Tensor)> {
        let reals = self.reals.context("there are no real pictures")?.features_of(self.real_count)?;
        let fakes = self.fakes.features_of(self.fake_count)?;
        // Features that were read from a file may be on another device than those just made.
        let device = if fakes.device().is_cuda() { fakes.device() } else { reals.device() };
        Ok((reals.to_device(device), fakes.to_device(device)))
    }

    /// Returns the moments of reals and of fakes.
    ///
    /// # Errors
    /// Moments are missing, or of other numbers of pictures.
    pub fn moments(&self) -> Result<(Moments, Moments)> {
        let reals = self.reals.context("there are no real pictures")?;
        Ok((reals.moments_of(self.real_count)?, self.fakes.moments_of(self.fake_count)?))
    }
}

/// The result of a formula.
pub struct Measured {
    /// The measure in words.
    pub measure: String,
    /// Values, each with the ending that its name has behind the metric's.
    pub values: Vec<(&'static str, f64)>,
    /// Texts to know when reading the values; each goes behind the metric's name.
    pub warnings: Vec<String>,
}

impl Measured {
    /// Makes a result without warnings.
    pub fn new(measure: String, values: Vec<(&'static str, f64)>) -> Self {
        Self { measure, values, warnings: Vec::new() }
    }
}
