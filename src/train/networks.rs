//! The three networks of a run: generator, discriminator and the averaged generator.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::drift::Drift;
use super::ema;
use crate::model::{
    Discriminator, FlatParameters, FreezeSettings, Generator, Parameter, Precision, ScriptModule, check_pair,
    freeze_discriminator, freeze_generator,
};
use crate::tensor::no_grad;

/// The trained networks, and the averaged generator, which makes the pictures.
pub struct Networks {
    /// The generator in training.
    pub g: Generator,
    /// The discriminator.
    pub d: Discriminator,
    /// The generator of averaged weights.
    pub g_ema: Generator,
    /// The trained parameters of `g`.
    pub g_flat: FlatParameters,
    /// The trained parameters of `d`.
    pub d_flat: FlatParameters,
    ema_flat: FlatParameters,
    /// `w_avg`, `noise_const` and whatever else is kept with the weights and not trained: pairs (of g_ema, of g).
    untrained: Vec<(Tensor, Tensor)>,
    precision: Precision,
}

impl Networks {
    /// Takes a generator as it was in training, the average of it, and their discriminator, each loaded on its own;
    /// checks that they belong together. Frozen parameters are left out of the trained ones, and the generator in training
    /// takes over those of the average, so that both have the same for good.
    ///
    /// # Errors
    /// The networks do not fit together, or nothing is left to train.
    pub fn from_pair(
        mut g: Generator,
        mut g_ema: Generator,
        mut d: Discriminator,
        freeze: FreezeSettings,
    ) -> Result<Self> {
        check_same_shapes(&g.script, &g_ema.script)?;
        check_pair(&g, &d)?;
        freeze_discriminator(&mut d, freeze.d_layers)?;
        freeze_generator(&mut g, freeze)?;
        freeze_generator(&mut g_ema, freeze)?;
        take_over_frozen(&g.script, &g_ema.script, freeze);
        let g_flat = FlatParameters::adopt(&mut g.script);
        let ema_flat = FlatParameters::adopt(&mut g_ema.script);
        let d_flat = FlatParameters::adopt(&mut d.script);
        let pairs = g.script.parameters.iter().zip(&g_ema.script.parameters);
        let untrained = pairs
            .filter(|(of_g, _)| is_untrained(of_g))
            .map(|(of_g, of_ema)| (of_ema.tensor.shallow_clone(), of_g.tensor.shallow_clone()))
            .collect();
        Ok(Self { g, d, g_ema, g_flat, d_flat, ema_flat, untrained, precision: Precision::default() })
    }

    /// Sets what the trained networks compute in from now on; the averaged generator, which only draws pictures, stays
    /// in float32.
    ///
    /// # Errors
    /// The networks compute in float32 only.
    pub fn set_precision(&mut self, precision: Precision) -> Result<()> {
        if precision != self.precision {
            self.g.script.set_precision(precision)?;
            self.d.script.set_precision(precision)?;
            self.precision = precision;
        }
        Ok(())
    }

    /// Copies what the trained networks change by themselves when they are called, the generator's `w_avg` above all.
    pub fn untrained(&self) -> Untrained {
        let parameters = [&self.g.script, &self.d.script].into_iter().flat_map(|script| &script.parameters);
        let kept = parameters.filter(|p| is_untrained(p));
        Untrained(kept.map(|p| (p.tensor.shallow_clone(), p.tensor.detach().copy())).collect())
    }

    /// Starts to watch what the trained networks change by themselves over the micro-batches of a phase. `noise_const` is
    /// a constant of the contract and left out.
    pub(super) fn drift(&self) -> Drift {
        let parameters = [&self.g.script, &self.d.script].into_iter().flat_map(|script| &script.parameters);
        let moving = parameters
            .filter(|p| is_untrained(p) && p.tensor.is_floating_point() && !p.name.ends_with("noise_const"))
            .map(|p| p.tensor.detach());
        Drift::new(moving.collect())
    }

    /// Moves the averaged generator: trained parameters by `beta`, everything else copied.
    pub fn update_ema(&self, beta: f64) {
        ema::update(&self.ema_flat.values, &self.g_flat.values, beta);
        copy_each(&self.untrained);
    }

    /// Does `work` while the trained networks compute in float32, because a file of them always begins in it.
    ///
    /// # Errors
    /// The errors of `work`.
    pub fn in_float32(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let precision = self.precision;
        self.set_precision(Precision::default())?;
        let done = work(self);
        self.set_precision(precision).and(done)
    }
}

/// Copies of tensors, beside the tensors themselves.
pub struct Untrained(Vec<(Tensor, Tensor)>);

impl Untrained {
    /// Copies the kept values back into the tensors.
    pub fn put_back(&self) {
        copy_each(&self.0);
    }
}

/// Whether a parameter changes without being trained, as `w_avg` does; frozen parameters do not.
fn is_untrained(parameter: &Parameter) -> bool {
    !parameter.trainable && !parameter.frozen
}

/// Copies the second of each pair to the first.
fn copy_each(pairs: &[(Tensor, Tensor)]) {
    no_grad(|| pairs.iter().for_each(|(to, from)| to.detach().copy_(from)));
}

/// Copies what is frozen of the averaged generator to the one in training: the average moves by what is trained alone,
/// and would keep other values. `w_avg` belongs to the mapping that it is the mean of.
fn take_over_frozen(g: &ScriptModule, g_ema: &ScriptModule, freeze: FreezeSettings) {
    let is_kept = |p: &Parameter| p.frozen || (freeze.mapping && p.name.starts_with("mapping."));
    let pairs = g.parameters.iter().zip(&g_ema.parameters).filter(|(of_g, _)| is_kept(of_g));
    let pairs: Vec<_> =
        pairs.map(|(of_g, of_ema)| (of_g.tensor.shallow_clone(), of_ema.tensor.shallow_clone())).collect();
    copy_each(&pairs);
}

fn check_same_shapes(raw: &ScriptModule, averaged: &ScriptModule) -> Result<()> {
    let shapes = |script: &ScriptModule| -> Vec<(String, Vec<i64>)> {
        script.parameters.iter().map(|p| (p.name.clone(), p.tensor.size())).collect()
    };
    let (of_raw, of_averaged) = (shapes(raw), shapes(averaged));
    let differs = of_raw.iter().zip(&of_averaged).find(|(a, b)| a != b).map(|(a, _)| a.0.as_str());
    ensure!(
        of_raw == of_averaged,
        "'{}' and '{}' are not the raw and the averaged weights of one generator: they differ from parameter '{}' on; \
         pass generator_raw.pt and generator.pt of one import",
        raw.path.display(),
        averaged.path.display(),
        differs.unwrap_or("the last")
    );
    Ok(())
}
