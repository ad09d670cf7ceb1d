//! The three networks of a run: generator, discriminator and the averaged generator.

use anyhow::Result;
use tch::{Device, Tensor, no_grad};

use crate::ema;
use crate::io::snapshot::SnapshotFiles;
use crate::model::{Discriminator, FlatParameters, Generator, check_pair};

/// What is trained, and the average of it that pictures are made with.
pub struct Networks {
    /// The generator that is trained.
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
    /// `w_avg`, `noise_const` and whatever else is kept with the weights: (of g, of g_ema).
    untrained: Vec<(Tensor, Tensor)>,
}

impl Networks {
    /// Loads a pair, the generator twice, and checks that they belong together.
    ///
    /// # Errors
    /// A file that cannot be loaded, or a pair that does not fit.
    pub fn load(
        generator: &std::path::Path,
        discriminator: &std::path::Path,
        z_dim: Option<i64>,
        device: Device,
    ) -> Result<Self> {
        let mut g = Generator::load(generator, device, z_dim)?;
        let mut d = Discriminator::load(discriminator, device)?;
        check_pair(&g, &d)?;
        let mut g_ema = Generator::load(generator, device, Some(g.z_dim()))?;
        let g_flat = FlatParameters::adopt(&mut g.script);
        let ema_flat = FlatParameters::adopt(&mut g_ema.script);
        let d_flat = FlatParameters::adopt(&mut d.script);
        let pairs = g.script.parameters.iter().zip(&g_ema.script.parameters);
        let untrained = pairs
            .filter(|(of_g, _)| !of_g.trainable)
            .map(|(of_g, of_ema)| (of_g.tensor.shallow_clone(), of_ema.tensor.shallow_clone()))
            .collect();
        Ok(Self { g, d, g_ema, g_flat, d_flat, ema_flat, untrained })
    }

    /// Moves the averaged generator: trained parameters by `beta`, everything else copied.
    pub fn update_ema(&self, beta: f64) {
        ema::update(&self.ema_flat.values, &self.g_flat.values, beta);
        no_grad(|| {
            for (of_g, of_ema) in &self.untrained {
                of_ema.shallow_clone().copy_(of_g);
            }
        });
    }

    /// Writes the three networks as TorchScript, each with `provenance`.
    ///
    /// # Errors
    /// A file that cannot be written; files that were there before are then still whole.
    pub fn save(&mut self, files: &SnapshotFiles, provenance: &serde_json::Value) -> Result<()> {
        let scripts =
            [(&mut self.g_ema.script, &files.g_ema), (&mut self.g.script, &files.g), (&mut self.d.script, &files.d)];
        for (script, path) in scripts {
            // Modules made elsewhere have no place for a record; the manifest has it all the same.
            if script.string_method("get_provenance").is_some() {
                script.set_provenance(provenance)?;
            }
            script.save(path)?;
        }
        Ok(())
    }
}
