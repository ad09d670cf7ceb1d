//! Tries out the regularisers before a run begins: they differentiate a gradient, which not every operator allows.

use anyhow::{Context, Result, anyhow};
use tch::Tensor;

use super::draw::{Draw, Reals};
use super::networks::Networks;
use super::phases::{discriminator_reg, generate, generator_reg, mean};
use super::regularizers::MeanPathLength;
use super::settings::TrainSettings;
use crate::augment::Augment;
use crate::model::{Generator, NoiseMode, ScriptModule, probe_numbers};
use crate::system::memory::lacks_memory;
use crate::tensor::no_grad;
use crate::tensor::{caught, one_line};

/// Two images: the batch normalisation of networks made elsewhere refuses one.
const IMAGES: i64 = 2;

/// Evaluates R1 and path length on two images, and differentiates them, where the run has them switched on. Takes
/// nothing from any random stream and leaves the networks as they are. A lack of memory is no error here: the run
/// handles it.
///
/// # Errors
/// Names the network that cannot be differentiated twice, and the option that does without.
pub fn rehearse(networks: &Networks, settings: &TrainSettings) -> Result<()> {
    let n = IMAGES.min(settings.micro_batch as i64);
    if settings.has_gradient_penalty() {
        try_out(|| r1(networks, n), &networks.d.script, "R1 or R2", "--r1-gamma 0 --r2-gamma 0")?;
    }
    if settings.path_length.weight > 0.0 {
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
    let (d, draw) = (&networks.d, draw(&networks.g, n)?);
    let (images, _) = no_grad(|| generate(&networks.g, &draw, false))?;
    let norms = discriminator_reg(d, &Reals { images, c: draw.c }, &mut Augment::off())?;
    differentiate(&mean(&norms), &d.script)
}

fn path_length(networks: &Networks, n: i64) -> Result<()> {
    let (g, untrained) = (&networks.g, networks.untrained());
    let unit_noise = probe_numbers(&[n, g.img_channels(), g.img_resolution(), g.img_resolution()], g.script.device);
    let mut pl_mean = MeanPathLength::new(g.script.device);
    let draw = draw(g, n)?;
    let differentiated = generator_reg(g, &mut pl_mean, &draw, Some(&unit_noise))
        .and_then(|penalties| differentiate(&mean(&penalties), &g.script));
    // Path length has moved `w_avg`.
    untrained.put_back();
    differentiated
}

/// Makes the same latents every time, with the first class where there are classes.
fn draw(g: &Generator, n: i64) -> Result<Draw> {
    let c = g.class_labels((g.c_dim() > 0).then_some(0), n)?;
    Ok(Draw { z: probe_numbers(&[n, g.z_dim()], g.script.device), c, mixing: None, noise: NoiseMode::Const })
}

fn differentiate(value: &Tensor, script: &ScriptModule) -> Result<()> {
    let leaves: Vec<&Tensor> = script.parameters.iter().filter(|p| p.trainable).map(|p| &p.tensor).collect();
    let gradients =
        Tensor::f_run_backward(&[value], &leaves, false, false).map_err(|error| anyhow!("{}", one_line(&error)))?;
    gradients.iter().any(Tensor::defined).then_some(()).context("it has no gradient: the parameters do not matter")
}
