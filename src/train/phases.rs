//! The four phases of an iteration, as functions that return per-image losses. Gradients and steps are the trainer's.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::draw::{Draw, Reals};
use super::networks::Networks;
use super::objective::{Logits, Objective, Seen, generator_graph};
use super::regularizers::{MeanPathLength, path_lengths, squared_gradient_norms};
use crate::augment::{Augment, Derivatives};
use crate::model::{Discriminator, FlatParameters, Generator, Truncation};
use crate::tensor::no_grad;
use crate::tensor::seed::Stream;

/// One of the four phases; its name appears in the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Gmain,
    Greg,
    Dmain,
    Dreg,
}

impl Phase {
    /// Returns the names of its losses in the statistics.
    pub(super) fn loss_names(self) -> &'static [&'static str] {
        match self {
            Phase::Gmain => &["Loss/G/loss"],
            Phase::Greg => &["Loss/pl_penalty"],
            Phase::Dmain => &["Loss/D/loss"],
            Phase::Dreg => &["Loss/r1_penalty", "Loss/r2_penalty"],
        }
    }

    /// Whether it trains the generator.
    pub(super) fn is_of_generator(self) -> bool {
        matches!(self, Phase::Gmain | Phase::Greg)
    }

    /// Returns the parameters that it trains.
    pub(super) fn parameters(self, networks: &Networks) -> &FlatParameters {
        if self.is_of_generator() { &networks.g_flat } else { &networks.d_flat }
    }

    /// Returns the random stream of its latents and noise.
    pub(super) fn stream(self) -> Stream {
        match self {
            Phase::Gmain => Stream::GeneratorMain,
            Phase::Greg => Stream::GeneratorReg,
            Phase::Dmain => Stream::DiscriminatorMain,
            Phase::Dreg => Stream::DiscriminatorReg,
        }
    }
}

/// The judgement on images: losses, and the logits that they came from.
pub struct Judged {
    /// Per image, [N].
    pub losses: Tensor,
    /// The logits of the images that were judged.
    pub logits: Logits,
}

/// Makes the images of a training draw: ws with style mixing, then synthesis.
///
/// # Shapes
/// -> images [N, C, R, R] and ws [N, num_ws, w_dim] (None for a generator that only takes z).
///
/// # Errors
/// The script fails.
pub fn generate(g: &Generator, draw: &Draw, update_w_avg: bool) -> Result<(Tensor, Option<Tensor>)> {
    let c = draw.c.as_ref();
    let Some(spec) = g.spec() else {
        return Ok((g.images(&draw.z, c, Truncation::OFF, draw.noise, None)?, None));
    };
    let mut ws = g.mapping(&draw.z, c, Truncation::OFF, update_w_avg)?;
    if let Some(mixing) = &draw.mixing {
        let second = g.mapping(&mixing.z, c, Truncation::OFF, false)?;
        let late = spec.num_ws - mixing.cutoff;
        ws = Tensor::cat(&[ws.narrow(1, 0, mixing.cutoff), second.narrow(1, mixing.cutoff, late)], 1);
    }
    if !ws.requires_grad() {
        // The ws of a frozen mapping network have no gradient, which path length still asks for.
        ws = ws.set_requires_grad(true);
    }
    let images = g.synthesis(&ws, draw.noise, None)?;
    Ok((images, Some(ws)))
}

/// Returns the logits D(A(x)), [N], A being the augmentation.
fn logits_of(d: &Discriminator, images: &Tensor, c: Option<&Tensor>, augment: &mut Augment) -> Result<Tensor> {
    Ok(d.logits(&augment.apply(images, Derivatives::First), c)?.flatten(0, -1))
}

/// Computes the generator's main loss, the objective's loss of generated images. Real images are judged too where the
/// objective compares both; their logits do not depend on the generator.
///
/// # Errors
/// A script fails.
pub fn generator_main(
    g: &Generator,
    d: &Discriminator,
    objective: &dyn Objective,
    draw: &Draw,
    reals: &Reals,
    augment: &mut Augment,
) -> Result<Judged> {
    let (images, _) = generate(g, draw, true)?;
    // Both images of a pair go through the same transforms, or their logits would differ by the transforms.
    let mut of_reals = augment.clone();
    let fakes = logits_of(d, &images, draw.c.as_ref(), augment)?;
    let compared = generator_graph(objective).reals();
    let mut judge_reals = || no_grad(|| logits_of(d, &reals.images, reals.c.as_ref(), &mut of_reals));
    let logits = Logits { fakes: Some(fakes), reals: compared.then(&mut judge_reals).transpose()? };
    Ok(Judged { losses: objective.generator(&logits), logits })
}

/// Computes the generator's regularisation, the path-length penalty `(length - pl_mean)^2` of every image, [N].
/// `unit_noise` [N, C, R, R] is drawn here where it is not given.
///
/// # Errors
/// The script fails, or the generator has no ws.
pub fn generator_reg(
    g: &Generator,
    pl_mean: &mut MeanPathLength,
    draw: &Draw,
    unit_noise: Option<&Tensor>,
) -> Result<Tensor> {
    let (images, ws) = generate(g, draw, true)?;
    let ws = ws.context("path length needs a generator with mapping and synthesis; pass --pl-weight 0")?;
    let noise = unit_noise.map_or_else(|| images.randn_like(), Tensor::shallow_clone);
    let lengths = path_lengths(&images, &ws, &noise)?;
    Ok(pl_mean.penalties(&lengths))
}

/// Computes the discriminator's main loss, the objective's loss of the images `seen`, in one graph. The generator gets
/// no gradient.
///
/// # Shapes
/// As [`Reals`]; the draw has as many images as `reals` where both are seen.
///
/// # Errors
/// A script fails.
pub fn discriminator_main(
    g: &Generator,
    d: &Discriminator,
    objective: &dyn Objective,
    seen: Seen,
    draw: &Draw,
    reals: &Reals,
    augment: &mut Augment,
) -> Result<Judged> {
    let mut logits = Logits::default();
    // Both images of a pair go through the same transforms.
    let mut of_pairs = (seen == Seen::Both).then(|| augment.clone());
    if seen.fakes() {
        let images = no_grad(|| generate(g, draw, true).map(|(images, _)| augment.apply(&images, Derivatives::First)))?;
        logits.fakes = Some(d.logits(&images, draw.c.as_ref())?.flatten(0, -1));
    }
    if seen.reals() {
        let of_reals = of_pairs.as_mut().unwrap_or(augment);
        logits.reals = Some(logits_of(d, &reals.images, reals.c.as_ref(), of_reals)?);
    }
    Ok(Judged { losses: objective.discriminator(&logits), logits })
}

/// Makes generated images for the discriminator's regularisation, without a graph.
///
/// # Errors
/// The script fails.
pub fn generated(g: &Generator, draw: Draw) -> Result<Reals> {
    let (images, _) = no_grad(|| generate(g, &draw, true))?;
    Ok(Reals { images, c: draw.c })
}

/// Computes the discriminator's regularisation, `|dD/dx|^2` of every image x, through the augmentation, [N]. Real
/// images give R1's, generated ones R2's.
///
/// # Shapes
/// As [`Reals`].
///
/// # Errors
/// The script fails, or the discriminator cannot be differentiated twice.
pub fn discriminator_reg(d: &Discriminator, reals: &Reals, augment: &mut Augment) -> Result<Tensor> {
    let images = reals.images.detach().set_requires_grad(true);
    let augmented = augment.apply(&images, Derivatives::Second);
    let logits = d.logits(&augmented, reals.c.as_ref())?;
    squared_gradient_norms(&logits, &images)
}

/// Returns the mean of per-image values, a scalar.
pub fn mean(values: &Tensor) -> Tensor {
    values.mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Phases with one stream would draw the same latents.
    #[test]
    fn every_phase_draws_from_a_stream_of_its_own() {
        let streams = [Phase::Gmain, Phase::Greg, Phase::Dmain, Phase::Dreg].map(Phase::stream);
        let expected =
            [Stream::GeneratorMain, Stream::GeneratorReg, Stream::DiscriminatorMain, Stream::DiscriminatorReg];
        assert_eq!(streams, expected);
    }
}
