//! The losses of the four phases as functions of networks and draws; gradients are the caller's.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::draw::Draw;
use crate::augment::{Augment, Derivatives};
use crate::loss::AdversarialLoss;
use crate::model::{Discriminator, Generator, Truncation};
use crate::regularize::{MeanPathLength, path_lengths, squared_gradient_norms};
use crate::tensor::no_grad;

/// An adversarial loss with the logits that it came from.
pub struct Adversarial {
    /// Per image, [N].
    pub losses: Tensor,
    /// [N].
    pub logits: Tensor,
}

/// Images of a training draw: ws with style mixing, then synthesis.
///
/// # Shapes
/// -> images [N, C, R, R] and ws [N, num_ws, w_dim] (None for a generator that only takes z).
///
/// # Errors
/// The script's own.
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
        // A frozen mapping network: path length still asks for the gradient with respect to ws.
        ws = ws.set_requires_grad(true);
    }
    let images = g.synthesis(&ws, draw.noise, None)?;
    Ok((images, Some(ws)))
}

/// Generator, main: `L(D(A(G(z))))`, A the augmentation.
///
/// # Errors
/// The scripts' own.
pub fn generator_main(
    g: &Generator,
    d: &Discriminator,
    loss: &AdversarialLoss,
    draw: &Draw,
    augment: &mut Augment,
) -> Result<Adversarial> {
    let (images, _) = generate(g, draw, true)?;
    let logits = d.logits(&augment.apply(&images, Derivatives::First), draw.c.as_ref())?.flatten(0, -1);
    Ok(Adversarial { losses: loss.of(&logits), logits })
}

/// Generator, regularisation: the path-length penalty `(length - pl_mean)^2` of every image, [N].
/// `unit_noise` [N, C, R, R] is drawn here where it is not given.
///
/// # Errors
/// The script's own, or a generator without ws.
pub fn generator_reg(
    g: &Generator,
    pl_mean: &mut MeanPathLength,
    draw: &Draw,
    unit_noise: Option<&Tensor>,
) -> Result<Tensor> {
    let (images, ws) = g.script.differentiated_twice(|| generate(g, draw, true))?;
    let ws = ws.context("path length needs a generator with mapping and synthesis; pass --pl-weight 0")?;
    let noise = unit_noise.map_or_else(|| images.randn_like(), Tensor::shallow_clone);
    let lengths = path_lengths(&images, &ws, &noise)?;
    Ok(pl_mean.penalties(&lengths))
}

/// Discriminator, main, generated half: `L(-D(A(G(z))))`; the generator gets no gradient.
///
/// # Errors
/// The scripts' own.
pub fn discriminator_fake(
    g: &Generator,
    d: &Discriminator,
    loss: &AdversarialLoss,
    draw: &Draw,
    augment: &mut Augment,
) -> Result<Adversarial> {
    let images = no_grad(|| generate(g, draw, true).map(|(images, _)| augment.apply(&images, Derivatives::First)))?;
    let logits = d.logits(&images, draw.c.as_ref())?.flatten(0, -1);
    Ok(Adversarial { losses: loss.of(&-&logits), logits })
}

/// Discriminator, main, real half: `L(D(A(x)))`.
///
/// # Shapes
/// reals [N, C, R, R] in [-1, 1], c [N, c_dim] of a conditional discriminator.
///
/// # Errors
/// The script's own.
pub fn discriminator_real(
    d: &Discriminator,
    loss: &AdversarialLoss,
    reals: &Tensor,
    c: Option<&Tensor>,
    augment: &mut Augment,
) -> Result<Adversarial> {
    let logits = d.logits(&augment.apply(reals, Derivatives::First), c)?.flatten(0, -1);
    Ok(Adversarial { losses: loss.of(&logits), logits })
}

/// Discriminator, regularisation: R1's `|dD/dx|^2` of every real image x, through the augmentation, [N].
///
/// # Shapes
/// As [`discriminator_real`].
///
/// # Errors
/// The script's own, or a discriminator that cannot be differentiated twice.
pub fn discriminator_reg(
    d: &Discriminator,
    reals: &Tensor,
    c: Option<&Tensor>,
    augment: &mut Augment,
) -> Result<Tensor> {
    let images = reals.detach().set_requires_grad(true);
    let augmented = augment.apply(&images, Derivatives::Second);
    let logits = d.script.differentiated_twice(|| d.logits(&augmented, c))?;
    squared_gradient_norms(&logits, &images)
}

/// The mean of per-image values, a scalar.
pub fn mean(values: &Tensor) -> Tensor {
    values.mean(Kind::Float)
}
