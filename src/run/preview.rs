//! Preview grids: real pictures once, and the averaged generator's for latents kept over the run. With labels, every
//! row has one class.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::config::GridSize;
use crate::data::{Dataset, Sampler};
use crate::draw::grid::GridSheet;
use crate::model::{Generator, NoiseMode, Truncation};
use crate::system::signals::StopRequest;
use crate::system::ui::Bar;
use crate::tensor::images::{ToBytes, bytes, check_finite, to_u8};
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::no_grad;
use crate::tensor::seed::{Stream, derive, seed_torch};

/// The latents and classes of a run's preview grids, the same in each of them.
pub struct Preview {
    size: GridSize,
    z: Tensor,
    /// The class of each row, in turn; none without labels.
    classes: Vec<u32>,
    c: Option<Tensor>,
    batch: i64,
}

impl Preview {
    /// Draws the latents; they depend on the run's seed and the grid's size only. Rows get the classes that have
    /// pictures: again from the first where there are fewer than rows, evenly chosen where there are more.
    pub fn new(size: GridSize, g: &Generator, classes: Option<&ClassDistribution>, run_seed: u64, batch: u64) -> Self {
        seed_torch(run_seed, 0, Stream::Grid, 0);
        let (cells, device) = (size.columns * size.rows, g.script.device);
        // Drawn on the CPU, so that every device shows the same pictures.
        let z = Tensor::randn([cells as i64, g.z_dim()], (Kind::Float, Device::Cpu)).to_device(device);
        let present = classes.map_or_else(Vec::new, ClassDistribution::present);
        let rows = classes_of_rows(&present, size.rows);
        let c = classes.map(|classes| {
            let of_cells: Vec<u32> = (0..cells).map(|cell| rows[cell / size.columns]).collect();
            one_hot(&of_cells, classes.c_dim(), device)
        });
        Self { size, z, classes: rows, c, batch: batch as i64 }
    }

    /// Writes the grid of `g_ema` with constant noise and psi 1.
    ///
    /// # Errors
    /// The generator fails, or the file cannot be written; a signal.
    pub fn save_fakes(&self, path: &Path, g_ema: &Generator, stop: &StopRequest) -> Result<()> {
        let mut pixels = Vec::new();
        let cells = self.z.size()[0];
        let bar = Bar::new(cells as u64, "drawing the preview grid");
        for first in (0..cells).step_by(self.batch as usize) {
            stop.check()?;
            let count = self.batch.min(cells - first);
            let (z, c) = (self.z.narrow(0, first, count), self.c.as_ref().map(|c| c.narrow(0, first, count)));
            let images = no_grad(|| g_ema.images(&z, c.as_ref(), Truncation::OFF, NoiseMode::Const, None))?;
            check_finite(&images).with_context(|| format!("cannot draw the grid '{}'", path.display()))?;
            pixels.extend(bytes(&to_u8(&images, ToBytes::Round)));
            bar.inc(count as u64);
        }
        bar.finish();
        let (side, channels) = (g_ema.img_resolution() as usize, g_ema.img_channels() as usize);
        self.save(path, &pixels, cells as usize, channels, side)
    }

    /// Writes a grid of real pictures, drawn at random; with labels, of the row's class.
    ///
    /// # Errors
    /// A picture can no longer be decoded, or the file cannot be written.
    pub fn save_reals(&self, path: &Path, dataset: &Dataset, run_seed: u64) -> Result<()> {
        let shown = self.reals_shown(dataset, run_seed);
        let mut pixels = vec![0; shown.len() * dataset.picture_bytes()];
        for (picture, place) in pixels.chunks_exact_mut(dataset.picture_bytes()).zip(&shown) {
            // A class of few pictures leaves the end of its row black.
            if let Some(index) = place {
                dataset.read_into(*index, picture)?;
            }
        }
        let (side, channels) = (dataset.resolution() as usize, dataset.channels() as usize);
        self.save(path, &pixels, shown.len(), channels, side)
    }

    /// Writes a grid; the run's folder tells with which options.
    fn save(&self, path: &Path, pictures: &[u8], n: usize, c: usize, side: usize) -> Result<()> {
        GridSheet { pictures, n, c, size: (side, side), columns: self.size.columns, command: None }.save(path)
    }

    /// Chooses the real picture of each cell.
    fn reals_shown(&self, dataset: &Dataset, run_seed: u64) -> Vec<Option<usize>> {
        let mut order = Sampler::new(dataset.len(), false, derive(run_seed, 0, Stream::Grid, 0));
        let shuffled: Vec<usize> = (0..dataset.len() as u64).map(|position| order.item(position).0).collect();
        let Some(labels) = dataset.labels() else {
            return shuffled.into_iter().take(self.size.columns * self.size.rows).map(Some).collect();
        };
        let mut left: Vec<_> = self
            .classes
            .iter()
            .map(|class| shuffled.iter().copied().filter(|&index| labels.classes[index] == *class))
            .collect();
        // A row goes on where the last row of its class stopped.
        let mut shown = Vec::new();
        for row in 0..self.classes.len() {
            let first = self.classes.iter().position(|class| *class == self.classes[row]).unwrap_or(row);
            shown.extend((0..self.size.columns).map(|_| left[first].next()));
        }
        shown
    }
}

fn classes_of_rows(present: &[u32], rows: usize) -> Vec<u32> {
    if present.len() <= rows {
        return present.iter().copied().cycle().take(rows).collect();
    }
    (0..rows).map(|row| present[row * present.len() / rows]).collect()
}

#[cfg(test)]
mod tests {
    use super::classes_of_rows;

    #[test]
    fn rows_repeat_few_classes_and_spread_over_many() {
        assert_eq!(classes_of_rows(&[0, 4], 5), [0, 4, 0, 4, 0]);
        assert_eq!(classes_of_rows(&[0, 1, 2, 3, 4, 5, 6], 3), [0, 2, 4]);
        assert_eq!(classes_of_rows(&[], 3), [0; 0]);
    }
}
