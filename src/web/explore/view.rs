//! What a picture is made of, as an address says it.

use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;

use crate::latent::layers::LayerRange;
use crate::model::NoiseMode;

/// Directions that are found for a generator.
pub const DIRECTIONS: i64 = 8;

/// What a picture is made of.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    pub generator: String,
    #[serde(default)]
    pub seed: u32,
    /// A second seed, and the share of the way towards it, 0 to 1.
    pub to: Option<u32>,
    #[serde(default)]
    pub at: f64,
    #[serde(default = "one")]
    pub psi: f64,
    /// `const` or `none`.
    #[serde(default = "const_noise")]
    pub noise: String,
    pub class: Option<i64>,
    /// A seed whose style some layers take.
    pub mix: Option<u32>,
    /// Those layers, as `rootgan mix --layers` takes them.
    #[serde(default = "coarse")]
    pub layers: String,
    /// Strengths along the directions, by their number: `0:1.5,3:-2`.
    #[serde(default)]
    pub moves: String,
}

fn one() -> f64 {
    1.0
}

fn const_noise() -> String {
    "const".to_owned()
}

fn coarse() -> String {
    "coarse".to_owned()
}

/// The parts of a view in numbers that are in range.
pub struct CheckedView {
    pub noise: NoiseMode,
    pub moves: Vec<(i64, f64)>,
    pub layers: LayerRange,
}

impl View {
    /// Checks every number, before any generator is touched.
    pub fn plan(&self) -> Result<CheckedView> {
        ensure!((-2.0..=2.0).contains(&self.psi), "psi must be from -2 to 2, not {}", self.psi);
        ensure!((0.0..=1.0).contains(&self.at), "the place between two seeds must be from 0 to 1, not {}", self.at);
        let noise = match self.noise.as_str() {
            "const" => NoiseMode::Const,
            "none" => NoiseMode::None,
            other => bail!("noise is const or none, not '{other}'"),
        };
        let part = |text: &str| -> Option<(i64, f64)> {
            let (index, strength) = text.split_once(':')?;
            let (index, strength) = (index.parse().ok()?, strength.parse::<f64>().ok()?);
            ((0..DIRECTIONS).contains(&index) && strength.abs() <= 20.0).then_some((index, strength))
        };
        let moves =
            self.moves.split(',').filter(|text| !text.is_empty()).map(|text| {
                part(text).with_context(|| format!("'{text}' is no step: write NUMBER:STRENGTH, at most 20"))
            });
        let moves: Vec<_> = moves.collect::<Result<_>>()?;
        ensure!(moves.len() <= DIRECTIONS as usize, "there are {DIRECTIONS} directions");
        Ok(CheckedView { noise, moves, layers: self.layers.parse().map_err(|error| anyhow!("layers: {error}"))? })
    }

    /// Whether `rootgan generate --seeds` makes this picture by itself.
    pub fn is_plain(&self) -> bool {
        self.to.is_none() && self.mix.is_none() && self.moves.is_empty()
    }
}

/// The view that an address asks for, or what is wrong with the address.
pub type AskedView = Result<Query<View>, QueryRejection>;

/// Returns the view of an address.
///
/// # Errors
/// A value is missing, or is none of its kind.
pub fn view_of(asked: AskedView) -> Result<View> {
    match asked {
        Ok(Query(view)) => Ok(view),
        Err(rejection) => {
            // Its source names the value and why it does not do, without the words about query strings.
            let why = std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
            bail!("{why}; seeds are from 0 to {}, classes whole numbers", u32::MAX)
        }
    }
}
