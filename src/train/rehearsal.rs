//! The regularisers tried out before a run begins: they differentiate a gradient, which not every operator can.

use anyhow::{Context, Result, anyhow};
use tch::{Kind, Tensor, no_grad};

use super::networks::Networks;
use super::phases::mean;
use crate::config::RunConfig;
use crate::model::{Generator, NoiseMode, ScriptModule, Truncation};
use crate::regularize::{MeanPathLength, path_lengths, squared_gradient_norms};
use crate::tensor::memory::lacks_memory;
use crate::tensor::{caught, one_line};

/// As many images as networks made elsewhere may ask for, as those with batch normalisation do.
const IMAGES: i64 = 2;

/// Evaluates R1 and path length on two images, and differentiates them, where the run has them switched on. Takes nothing
/// from any random stream and leaves the networks as they are. A lack of memory is left to the run, which knows what to do.
///
/// # Errors
/// Names the network that cannot be differentiated twice, and the option that does without.
pub fn rehearse(networks: &Networks, config: &RunConfig) -> Result<()> {
    let n = IMAGES.min(config.micro_batch as i64);
    if config.r1.gamma > 0.0 {
        try_out(|| r1(networks, n), &networks.d.script, "R1", "--r1-gamma 0")?;
    }
    if config.path_length.weight > 0.0 {
        try_out(|| path_length(networks, n), &networks.g.script, "path length", "--pl-weight 0")?;
    }
    Ok(())
}

fn try_out(work: impl FnOnce() -> Result<()>, script: &ScriptModule, what: &str, option: &str) -> Result<()> {
    match caught(work) {
        Err(error) if !lacks_memory(&format!("{error:#}")) => Err(error).with_context(|| cannot(script, what, option)),
        _ => Ok(()),
    }
}

fn cannot(script: &ScriptModule, what: &str, option: &str) -> String {
    let path = script.path.display();
    format!(
        "'{path}' cannot be trained with {what}; pass {option}, or export it from operators that can be differentiated twice"
    )
}

fn r1(networks: &Networks, n: i64) -> Result<()> {
    let (g, d) = (&networks.g, &networks.d);
    let (z, c) = (some([n, g.z_dim()], &g.script), g.class_labels(first_class(g), n)?);
    let images = no_grad(|| g.images(&z, c.as_ref(), Truncation::OFF, NoiseMode::Const, None))?;
    let images = images.detach().set_requires_grad(true);
    let logits = d.logits(&images, c.as_ref())?;
    differentiate(&mean(&squared_gradient_norms(&logits, &images)?), &d.script)
}

fn path_length(networks: &Networks, n: i64) -> Result<()> {
    let g = &networks.g;
    let (z, c) = (some([n, g.z_dim()], &g.script), g.class_labels(first_class(g), n)?);
    let ws = g.mapping(&z, c.as_ref(), Truncation::OFF, false)?;
    let ws = if ws.requires_grad() { ws } else { ws.set_requires_grad(true) };
    let images = g.synthesis(&ws, NoiseMode::Const, None)?;
    let lengths = path_lengths(&images, &ws, &some(images.size(), &g.script))?;
    let mut pl_mean = MeanPathLength::new(g.script.device);
    differentiate(&mean(&pl_mean.penalties(&lengths)), &g.script)
}

/// Numbers of about the size of normal draws.
fn some(shape: impl AsRef<[i64]>, script: &ScriptModule) -> Tensor {
    let shape = shape.as_ref();
    let count: i64 = shape.iter().product();
    (Tensor::arange(count, (Kind::Float, script.device)) * 1.7).sin().reshape(shape) * 1.4
}

fn differentiate(value: &Tensor, script: &ScriptModule) -> Result<()> {
    let leaves: Vec<&Tensor> = script.parameters.iter().filter(|p| p.trainable).map(|p| &p.tensor).collect();
    let gradients =
        Tensor::f_run_backward(&[value], &leaves, false, false).map_err(|error| anyhow!("{}", one_line(&error)))?;
    gradients.iter().any(Tensor::defined).then_some(()).context("it has no gradient: the parameters do not matter")
}

fn first_class(g: &Generator) -> Option<i64> {
    (g.c_dim() > 0).then_some(0)
}
