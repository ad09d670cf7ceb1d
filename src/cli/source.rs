//! What a user means by `--generator FILE` or `--from RUN_OR_SNAPSHOT`.

use crate::model::Generator;
use crate::run::snapshot::{self, Network, SnapshotManifest};
use crate::system::ui::detail;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;

/// A snapshot of a run, found but not yet read.
pub struct Snapshot {
    /// Images seen in training, in thousands.
    pub kimg: f64,
    /// The moving average of the generator.
    pub g_ema: PathBuf,
    /// The generator as trained.
    pub g: PathBuf,
    /// The discriminator.
    pub d: PathBuf,
    /// The list of these with their checksums.
    pub manifest: PathBuf,
    listed: SnapshotManifest,
}

impl Snapshot {
    /// The path of one network, after comparing the file with its checksum: call it before loading.
    ///
    /// # Errors
    /// A file that is missing or has changed since it was written.
    pub fn checked(&self, network: Network) -> Result<PathBuf> {
        self.listed.checked(&self.manifest, network)
    }
}

/// The snapshot that `path` means: a run directory (its newest), a manifest, or a snapshot's file.
///
/// # Errors
/// There is none, or its manifest cannot be read.
pub fn find_snapshot(path: &Path) -> Result<Snapshot> {
    let manifest = snapshot::find(path)?.manifest;
    let listed = SnapshotManifest::read(&manifest)?;
    Ok(Snapshot {
        kimg: listed.kimg,
        g_ema: listed.path_of(&manifest, Network::GEma)?,
        g: listed.path_of(&manifest, Network::G)?,
        d: listed.path_of(&manifest, Network::D)?,
        manifest,
        listed,
    })
}

/// Loads the generator that pictures are to be made with: a TorchScript file, or the moving average
/// of a snapshot. `z_dim` helps with a file that does not describe itself.
///
/// # Errors
/// None or both are given, or the file is missing, damaged or no generator.
pub fn load_generator(
    generator: Option<&Path>,
    from: Option<&Path>,
    z_dim: Option<i64>,
    device: Device,
) -> Result<Generator> {
    let load = |path: &Path| {
        let begun = Instant::now();
        let generator = Generator::load(path, device, z_dim)?;
        detail(format!("'{}' loaded: {:.2} s", path.display(), begun.elapsed().as_secs_f64()));
        Ok(generator)
    };
    match (generator, from) {
        (Some(path), None) => load(path),
        (None, Some(path)) => load(&find_snapshot(path)?.checked(Network::GEma)?),
        (None, None) => bail!("no generator is given; pass --generator FILE.pt or --from RUN_OR_SNAPSHOT"),
        (Some(generator), Some(from)) => bail!(
            "two generators are given, --generator '{}' and --from '{}'; pass one of them",
            generator.display(),
            from.display()
        ),
    }
}
