//! Estimates how much memory of a GPU training takes, and which micro-batch fits into it.
//!
//! Measured on an H100 (benches/NOTES.md): at 64x64, 256x256 and 1024x1024, in fp16, with path length, R1 and augmentation, a
//! training's tensors took 28, 29 and 34 bytes for each activation of one image, beside the parameters.

use crate::model::{Discriminator, Generator, PrecisionKind};
use crate::train::possible_micro_batches;

/// Bytes for each activation of an image in 16 bits; float32 takes twice as many.
const BYTES_PER_ACTIVATION: u64 = 34;
/// Bytes for each parameter of both networks: values, gradients, the optimisers' means and the averaged generator.
const BYTES_PER_PARAMETER: u64 = 12;
/// Bytes that CUDA, cuDNN and cuBLAS take for themselves.
const BYTES_OF_LIBRARIES: u64 = 1 << 30;
/// Share of a GPU's memory that is planned with, since some is lost between tensors.
const PLANNED: f64 = 0.85;

/// The numbers that the estimate is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// Values that one layer of each resolution holds for one image, over all resolutions.
    pub activations: u64,
    /// Parameters of both networks.
    pub parameters: u64,
    /// The GPU's memory; None on the CPU, or where the driver does not say.
    pub device_bytes: Option<u64>,
}

impl MemoryFacts {
    /// Reads the numbers of a loaded pair.
    pub fn from_pair(g: &Generator, d: &Discriminator, device_bytes: Option<u64>) -> Self {
        let parameters = g.script.parameter_counts().1 + d.script.parameter_counts().1;
        // An architecture without such channels says 0, and nothing is known of its activations.
        let activations = d.spec().filter(|spec| spec.channel_base > 0).map_or(0, |spec| {
            activations(spec.img_resolution as u64, spec.channel_base as u64, spec.channel_max as u64)
        });
        Self { activations, parameters: parameters as u64, device_bytes }
    }

    /// Returns the bytes that training with this micro-batch takes.
    pub fn estimate(&self, micro_batch: u64, kind: PrecisionKind) -> u64 {
        let each = BYTES_PER_ACTIVATION * if kind == PrecisionKind::Fp32 { 2 } else { 1 };
        let of_images = micro_batch.saturating_mul(self.activations).saturating_mul(each);
        of_images.saturating_add(self.parameters.saturating_mul(BYTES_PER_PARAMETER)).saturating_add(BYTES_OF_LIBRARIES)
    }

    /// Returns the bytes that a training may take.
    fn planned(&self) -> Option<u64> {
        self.device_bytes.map(|bytes| (bytes as f64 * PLANNED) as u64)
    }
}

/// Sums the activations of one layer of every resolution, channels at resolution r being min(base / r, max).
fn activations(resolution: u64, base: u64, max: u64) -> u64 {
    let resolutions = std::iter::successors(Some(resolution), |r| Some(r / 2)).take_while(|&r| r >= 4);
    resolutions
        .map(|r| r.saturating_mul(r).saturating_mul((base / r).clamp(1, max.max(1))))
        .fold(0, u64::saturating_add)
}

impl MemoryFacts {
    /// Returns the largest micro-batch that divides the batch, consists of whole groups of the discriminator, and fits
    /// the GPU; the batch itself where nothing is known, the smallest possible one where none fits.
    pub(super) fn micro_batch(&self, batch: u64, kind: PrecisionKind, mbstd_group_size: u64) -> u64 {
        let Some(planned) = self.planned().filter(|_| self.activations > 0) else { return batch };
        let mut smallest = batch;
        for micro in possible_micro_batches(batch, mbstd_group_size, batch) {
            if self.estimate(micro, kind) <= planned {
                return micro;
            }
            smallest = micro;
        }
        smallest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn memory(resolution: u64, base: u64, parameters: u64) -> MemoryFacts {
        MemoryFacts { activations: activations(resolution, base, 512), parameters, device_bytes: None }
    }

    /// The measured numbers count tensors alone, without what the libraries take.
    #[test]
    fn estimates_are_near_what_was_measured() {
        for (resolution, base, parameters, batch, measured_mib) in
            [(64, 16384, 45_700_000, 32, 2011), (256, 16384, 47_400_000, 16, 4047), (1024, 32768, 60_600_000, 4, 9172)]
        {
            let estimate =
                memory(resolution, base, parameters).estimate(batch, PrecisionKind::Fp16) - BYTES_OF_LIBRARIES;
            let ratio = (estimate >> 20) as f64 / f64::from(measured_mib);
            assert!((0.95..1.3).contains(&ratio), "{resolution}: {ratio}");
        }
    }

    #[test]
    fn the_micro_batch_fits_the_gpu() {
        let facts = |device_bytes| MemoryFacts { device_bytes, ..memory(1024, 32768, 60_600_000) };
        let of = |gigabytes: u64, kind| facts(Some(gigabytes * GB)).micro_batch(32, kind, 4);
        assert_eq!(of(143, PrecisionKind::Fp16), 32);
        assert_eq!(of(80, PrecisionKind::Fp16), 16);
        assert_eq!(of(24, PrecisionKind::Fp16), 8);
        assert_eq!(of(24, PrecisionKind::Fp32), 4);
        // A batch smaller than a group is a group of its own.
        assert_eq!(of(12, PrecisionKind::Fp32), 1);
        assert_eq!(facts(None).micro_batch(32, PrecisionKind::Fp16, 4), 32);
    }
}
