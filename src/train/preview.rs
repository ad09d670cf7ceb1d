//! Preview grids: real pictures once, and the averaged generator's for latents kept over the run.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::GridSize;
use crate::data::{Dataset, Sampler};
use crate::io::grid::save_grid;
use crate::model::{Generator, NoiseMode, Truncation};
use crate::tensor::images::{ToBytes, bytes, check_finite, to_u8};
use crate::tensor::seed::{Stream, derive, seed_torch};
use crate::ui::Bar;

/// The latents of a run's grids.
pub struct Preview {
    size: GridSize,
    z: Tensor,
    batch: i64,
}

impl Preview {
    /// Draws the latents; they depend on the run's seed and the grid's size only.
    pub fn new(size: GridSize, g: &Generator, run_seed: u64, batch: u64) -> Self {
        seed_torch(run_seed, 0, Stream::Grid, 0);
        let cells = (size.columns * size.rows) as i64;
        // Drawn on the CPU, so that every device shows the same pictures.
        let z = Tensor::randn([cells, g.z_dim()], (Kind::Float, Device::Cpu)).to_device(g.script.device);
        Self { size, z, batch: batch as i64 }
    }

    /// Writes the grid of `g_ema` with constant noise and psi 1.
    ///
    /// # Errors
    /// The generator fails, or the file cannot be written.
    pub fn save_fakes(&self, path: &Path, g_ema: &Generator) -> Result<()> {
        let mut pixels = Vec::new();
        let bar = Bar::new(self.z.size()[0] as u64, "drawing the preview grid");
        for z in self.z.split(self.batch, 0) {
            let images = no_grad(|| g_ema.images(&z, None, Truncation::OFF, NoiseMode::Const, None))?;
            check_finite(&images).with_context(|| format!("cannot draw the grid '{}'", path.display()))?;
            pixels.extend(bytes(&to_u8(&images, ToBytes::Round)));
            bar.inc(z.size()[0] as u64);
        }
        bar.finish();
        let (side, channels) = (g_ema.img_resolution() as usize, g_ema.img_channels() as usize);
        save_grid(path, &pixels, self.z.size()[0] as usize, channels, side, side, self.size.columns)
    }

    /// Writes a grid of as many real pictures, drawn at random.
    ///
    /// # Errors
    /// A picture can no longer be decoded, or the file cannot be written.
    pub fn save_reals(&self, path: &Path, dataset: &Dataset, run_seed: u64) -> Result<()> {
        let cells = (self.size.columns * self.size.rows).min(dataset.len());
        let mut order = Sampler::new(dataset.len(), false, derive(run_seed, 0, Stream::Grid, 0));
        let mut pixels = vec![0; cells * dataset.picture_bytes()];
        for (position, picture) in pixels.chunks_exact_mut(dataset.picture_bytes()).enumerate() {
            dataset.read_into(order.item(position as u64).0, picture)?;
        }
        let (side, channels) = (dataset.resolution() as usize, dataset.channels() as usize);
        save_grid(path, &pixels, cells, channels, side, side, self.size.columns)
    }
}
