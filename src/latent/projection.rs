//! Projection: looks for the w whose picture is nearest to a given one.
//!
//! The way is that of Karras et al., arXiv 1912.04958, appendix D: from the mean of w, with noise on w that fades, and with
//! noise maps that are optimised as well but kept without structure.

use std::f64::consts::PI;

use anyhow::{Result, anyhow, ensure};
use tch::Tensor;

use crate::latent::noise_maps::NoiseMaps;
use crate::latent::picture_distance::PictureDistance;
use crate::latent::seeds::NormalStream;
use crate::latent::w_samples::{SAMPLES, WSpread, drawn_w, sizes_of_ws};
use crate::model::{Generator, NoiseMode};
use crate::tensor::images::check_finite;
use crate::tensor::{no_grad, one_line};
use crate::train::AdamSettings;
use crate::train::optimizer::Adam;

/// Adam as usual, at the highest learning rate.
const ADAM: AdamSettings = AdamSettings { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
/// Share of the steps in which the learning rate rises.
const RISE: f64 = 0.05;
/// Share of the steps, the last ones, in which it falls.
const FALL: f64 = 0.25;
/// Standard deviation of the noise on w at first, as a share of how far latents lie from the mean.
const W_NOISE: f64 = 0.05;
/// Share of the steps, the first ones, with noise on w.
const NOISY: f64 = 0.75;
/// Number of steps in a row that may be skipped because a gradient is not finite.
const MOST_SKIPPED: u64 = 20;
/// Weight of the penalty on the structure of noise maps.
const PENALTY: f64 = 1e5;

/// The space in which a picture is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// One w for all layers.
    #[default]
    W,
    /// A w of its own for every layer (W+, Abdal et al., arXiv 1904.03189).
    WPlus,
}

/// The settings of a projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectionSettings {
    /// Space of the result.
    pub space: Space,
    /// Number of steps.
    pub steps: u64,
    /// Seed of all random numbers.
    pub seed: u32,
    /// Class whose mean w is begun with, for a generator with labels.
    pub class: Option<i64>,
}

impl Default for ProjectionSettings {
    fn default() -> Self {
        Self { space: Space::W, steps: 1_000, seed: 0, class: None }
    }
}

/// The result of a projection.
#[derive(Debug)]
pub struct Projected {
    /// ws [1, num_ws, w_dim].
    pub ws: Tensor,
    /// Its picture with the optimised noise, [1, C, R, R].
    pub image: Tensor,
    /// The distance of that picture from the target.
    pub distance: f64,
    /// The distance of the picture of the mean w, before the first step.
    pub first_distance: f64,
    /// Number of steps that were skipped because a gradient was not finite.
    pub skipped_steps: u64,
}

/// Looks for the w whose picture has the least `distance`. `progress` is told the number of steps done and the distance
/// before the last of them; its error ends the work. The parameters of `generator` are best frozen before, which saves
/// time and memory.
///
/// # Errors
/// The generator or the detector fails, a distance is not finite, 20 gradients in a row are not, there are no steps, or
/// `progress` ends it.
pub fn project(
    generator: &Generator,
    distance: &PictureDistance<'_>,
    settings: &ProjectionSettings,
    mut progress: impl FnMut(u64, f64) -> Result<()>,
) -> Result<Projected> {
    ensure!(settings.steps > 0, "cannot project in 0 steps; pass --steps 1 or more");
    let mut search = Search::begin(generator, settings)?;
    let first_distance = no_grad(|| distance.of(&search.image(None)?))?.double_value(&[]);
    let (mut skipped_steps, mut in_a_row) = (0, 0);
    for step in 0..settings.steps {
        let t = step as f64 / settings.steps as f64;
        let (value, is_taken) = search.step(distance, t)?;
        ensure!(
            value.is_finite(),
            "the distance is {value} after {step} steps: the generator or the detector is damaged; use others"
        );
        (skipped_steps, in_a_row) = if is_taken { (skipped_steps, 0) } else { (skipped_steps + 1, in_a_row + 1) };
        ensure!(
            in_a_row < MOST_SKIPPED,
            "the gradient of the distance was not finite in {in_a_row} steps in a row; use another seed or detector"
        );
        progress(step + 1, value)?;
    }
    let image = no_grad(|| search.image(None))?;
    check_finite(&image)?;
    let last_distance = no_grad(|| distance.of(&image))?.double_value(&[]);
    let ws = search.ws(None).detach();
    Ok(Projected { ws, image, distance: last_distance, first_distance, skipped_steps })
}

/// The numbers that are looked for, and their optimisers.
struct Search<'g> {
    generator: &'g Generator,
    num_ws: i64,
    /// [1, 1 or num_ws, w_dim].
    w: Tensor,
    w_adam: Adam,
    noise: Option<(NoiseMaps, Adam)>,
    /// How far latents lie from the mean w.
    deviation: f64,
    draws: NormalStream,
}

impl<'g> Search<'g> {
    fn begin(generator: &'g Generator, settings: &ProjectionSettings) -> Result<Self> {
        let (num_ws, w_dim) = sizes_of_ws(generator)?;
        let mut draws = NormalStream::from_seed(settings.seed);
        let spread = WSpread::of(&drawn_w(generator, settings.class, &mut draws, SAMPLES)?);
        let rows = if settings.space == Space::WPlus { num_ws } else { 1 };
        let w = spread.mean.view([1, 1, w_dim]).repeat([1, rows, 1]);
        let w = w.to_device(generator.script.device).set_requires_grad(true);
        let noise = NoiseMaps::drawn(generator, &mut draws).map(|maps| {
            let adam = Adam::new(ADAM, &maps.values);
            (maps, adam)
        });
        let w_adam = Adam::new(ADAM, &w);
        Ok(Self { generator, num_ws, w, w_adam, noise, deviation: spread.deviation, draws })
    }

    /// Takes a step at the share `t` of all steps; returns the distance before it, and whether w was moved: it is not where the
    /// gradient is not finite.
    fn step(&mut self, distance: &PictureDistance<'_>, t: f64) -> Result<(f64, bool)> {
        let jitter = self.jitter(t);
        let value = distance.of(&self.image(jitter.as_ref())?)?;
        let loss = match &self.noise {
            Some((maps, _)) => &value + maps.penalty() * PENALTY,
            None => value.shallow_clone(),
        };
        let leaves: Vec<&Tensor> =
            std::iter::once(&self.w).chain(self.noise.iter().map(|(maps, _)| &maps.values)).collect();
        let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)
            .map_err(|error| anyhow!("cannot take the gradient of a picture: {}", one_line(&error)))?;
        let factor = rate_factor(t);
        let is_taken = self.w_adam.step(&self.w, &gradients[0], factor);
        if let Some((maps, adam)) = &mut self.noise {
            let _ = adam.step(&maps.values, &gradients[1], factor);
            maps.normalise();
        }
        Ok((value.double_value(&[]), is_taken.int64_value(&[]) == 1))
    }

    /// Draws the noise on w, like w; None once it has faded.
    fn jitter(&mut self, t: f64) -> Option<Tensor> {
        let scale = noise_factor(t) * self.deviation;
        (scale > 0.0).then(|| {
            let mut values = vec![0f32; self.w.numel()];
            self.draws.fill(&mut values);
            (Tensor::from_slice(&values) * scale).view_as(&self.w).to_device(self.w.device())
        })
    }

    fn ws(&self, jitter: Option<&Tensor>) -> Tensor {
        let w = jitter.map_or_else(|| self.w.shallow_clone(), |jitter| &self.w + jitter);
        w.expand([1, self.num_ws, -1], false)
    }

    /// Makes the picture of the present w and noise.
    fn image(&self, jitter: Option<&Tensor>) -> Result<Tensor> {
        let ws = self.ws(jitter);
        match &self.noise {
            Some((maps, _)) => self.generator.synthesis(&ws, NoiseMode::Random, Some(&maps.values)),
            None => self.generator.synthesis(&ws, NoiseMode::Const, None),
        }
    }
}

/// Returns the learning rate at the share `t` of the steps, as a share of the highest: it rises evenly from 0 and falls like a
/// cosine.
fn rate_factor(t: f64) -> f64 {
    let (rise, left) = ((t / RISE).min(1.0), ((1.0 - t) / FALL).min(1.0));
    rise * (1.0 - (PI * left).cos()) / 2.0
}

/// Returns the standard deviation of the noise on w at the share `t` of the steps: `0.05 s^2`, where s falls evenly from 1 to
/// 0 over the first three quarters.
fn noise_factor(t: f64) -> f64 {
    W_NOISE * (1.0 - t / NOISY).max(0.0).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_stays_and_falls() {
        let close = |t: f64, expected: f64| assert!((rate_factor(t) - expected).abs() < 1e-12, "at {t}");
        close(0.0, 0.0);
        close(0.025, 0.5);
        close(0.05, 1.0);
        close(0.75, 1.0);
        close(0.875, 0.5);
        close(1.0, 0.0);
    }

    #[test]
    fn the_noise_on_w_fades_over_three_quarters() {
        assert!((noise_factor(0.0) - 0.05).abs() < 1e-12);
        assert!((noise_factor(0.375) - 0.0125).abs() < 1e-12);
        assert_eq!([noise_factor(0.75), noise_factor(1.0)], [0.0, 0.0]);
    }
}
