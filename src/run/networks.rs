//! The files of a pair: read when a run begins, and written as snapshots and for resuming.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use super::snapshot::SnapshotFiles;
use crate::model::{Discriminator, FreezeSettings, Generator};
use crate::train::Networks;

/// The files that a run starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFiles {
    /// The averaged generator, which is trained too where `generator_raw` is None.
    pub generator: PathBuf,
    /// The generator as it was in training.
    pub generator_raw: Option<PathBuf>,
    /// The discriminator.
    pub discriminator: PathBuf,
    /// Width of z, for a generator that does not say it.
    pub z_dim: Option<i64>,
}

impl NetworkFiles {
    /// Loads the networks and checks that they belong together.
    ///
    /// # Errors
    /// A file that cannot be loaded, or the errors of [`Networks::from_pair`].
    pub fn load(&self, freeze: FreezeSettings, device: Device) -> Result<Networks> {
        let g_ema = Generator::load(&self.generator, device, self.z_dim)?;
        let d = Discriminator::load(&self.discriminator, device)?;
        let raw = self.generator_raw.as_ref().unwrap_or(&self.generator);
        let g = Generator::load(raw, device, Some(g_ema.z_dim()))?;
        Networks::from_pair(g, g_ema, d, freeze)
    }
}

/// Writes the modules, as they are, for a run to be resumed with.
///
/// # Errors
/// A file that cannot be written.
pub fn save_modules(networks: &mut Networks, folder: &Path) -> Result<()> {
    networks.g.script.save(&folder.join("G.pt"))?;
    networks.d.script.save(&folder.join("D.pt"))
}

/// Writes the three networks as TorchScript, each with `provenance`.
///
/// # Errors
/// A file that cannot be written; files that were there before are then still whole.
pub fn save_networks(networks: &mut Networks, files: &SnapshotFiles, provenance: &Value) -> Result<()> {
    networks.in_float32(|n| {
        let scripts = [(&mut n.g_ema.script, &files.g_ema), (&mut n.g.script, &files.g), (&mut n.d.script, &files.d)];
        for (script, path) in scripts {
            // Modules made elsewhere have no place for a record; the manifest always has it.
            if script.has_method("get_provenance") {
                script.set_provenance(provenance)?;
            }
            script.save(path)?;
        }
        Ok(())
    })
}
