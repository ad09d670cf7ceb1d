//! Tries out a pair before anything long begins: shapes, types, finite numbers, and one backward pass through both.

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::safety::told_when_long;
use super::{Discriminator, Generator, NoiseMode, ScriptModule, Truncation};
use crate::tensor::finite::all_finite;
use crate::tensor::no_grad;
use crate::tensor::{caught, one_line};

/// Makes a few images and judges them, without and with gradients.
///
/// # Errors
/// The pair does not work; the message names the file and what is wrong with its answer.
pub(super) fn probe_pair(generator: &Generator, discriminator: &Discriminator) -> Result<()> {
    let names = format!("'{}' with '{}'", generator.script.path.display(), discriminator.script.path.display());
    told_when_long(&names, || try_out(generator, discriminator))
}

fn try_out(generator: &Generator, discriminator: &Discriminator) -> Result<()> {
    [&generator.script, &discriminator.script].into_iter().try_for_each(check_types)?;
    // Modules made elsewhere may refuse a single image, as batch normalisation does.
    let fewest = if generator.spec().is_some() && discriminator.spec().is_some() { 1 } else { 2 };
    caught(|| no_grad(|| logits_of(generator, discriminator, fewest + 1)).map(|_| ()))
        .with_context(|| unusable(generator, discriminator))?;
    let learn = || {
        let logits = logits_of(generator, discriminator, fewest)?;
        [&generator.script, &discriminator.script].into_iter().try_for_each(|script| check_gradients(script, &logits))
    };
    caught(learn).with_context(|| unusable(generator, discriminator))
}

fn unusable(generator: &Generator, discriminator: &Discriminator) -> String {
    let (g, d) = (generator.script.path.display(), discriminator.script.path.display());
    format!("cannot use '{g}' with '{d}'; pass a pair of the contract, exported together (weights/README.md)")
}

/// Refuses trained parameters of other types than float32: training keeps all weights in one buffer of it.
fn check_types(script: &ScriptModule) -> Result<()> {
    for parameter in script.parameters.iter().filter(|parameter| parameter.trainable) {
        let kind = parameter.tensor.kind();
        ensure!(
            kind == Kind::Float,
            "cannot use '{}': its parameter '{}' is of type {kind:?}, Float is expected; convert it with .float() and \
             export it again (weights/README.md)",
            script.path.display(),
            parameter.name
        );
    }
    Ok(())
}

/// Returns the discriminator's logits of `n` images that the generator makes, after checks of both answers.
fn logits_of(generator: &Generator, discriminator: &Discriminator, n: i64) -> Result<Tensor> {
    let (g, d) = (generator.script.path.display(), discriminator.script.path.display());
    let z_dim = generator.z_dim();
    let z = probe_numbers(&[n, z_dim], generator.script.device);
    let c = match generator.c_dim() {
        0 => None,
        c_dim => Some(Tensor::zeros([n, c_dim], (Kind::Float, generator.script.device))),
    };
    let images = generator.images(&z, c.as_ref(), Truncation::OFF, NoiseMode::Const, None)?;
    ensure!(images.kind() == Kind::Float, "'{g}' makes images of type {:?}, Float is expected", images.kind());
    ensure!(
        all_finite(&images),
        "'{g}' makes images with values that are not finite: the weights are damaged or diverged"
    );
    let logits = discriminator
        .logits(&images, c.as_ref())
        .with_context(|| format!("the discriminator does not take the images of '{g}'"))?;
    ensure!(
        logits.size() == [n, 1] || logits.size() == [n],
        "'{d}' is no discriminator: {n} images give logits of shape {:?}, [{n}, 1] is expected",
        logits.size()
    );
    ensure!(logits.kind() == Kind::Float, "'{d}' gives logits of type {:?}, Float is expected", logits.kind());
    ensure!(all_finite(&logits), "'{d}' gives logits that are not finite: the weights are damaged or diverged");
    Ok(logits)
}

/// Returns numbers of about the size of normal draws, without taking anything from a random stream.
pub fn probe_numbers(shape: &[i64], device: Device) -> Tensor {
    (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, device)) * 1.7).sin().reshape(shape) * 1.4
}

/// Checks that the logits depend on the network, so that it can learn.
fn check_gradients(script: &ScriptModule, logits: &Tensor) -> Result<()> {
    let path = script.path.display();
    let leaves: Vec<&Tensor> = script.parameters.iter().filter(|p| p.trainable).map(|p| &p.tensor).collect();
    let cannot = || format!("'{path}' cannot be trained");
    ensure!(logits.requires_grad(), "{}: the logits have no gradient", cannot());
    let gradients = Tensor::f_run_backward(&[logits.sum(Kind::Float)], &leaves, true, false)
        .map_err(|error| anyhow::anyhow!("{}", one_line(&error)))
        .with_context(cannot)?;
    ensure!(gradients.iter().any(Tensor::defined), "{}: the logits do not depend on its parameters", cannot());
    Ok(())
}
