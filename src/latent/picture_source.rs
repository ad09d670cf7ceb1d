//! Makes pictures of a generator as bytes, batch by batch, in the same way for every command.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use crate::latent::seeds::{dump_latents, latents_of_seeds};
use crate::model::{Generator, NoiseMode, Truncation};
use crate::tensor::images::{ToBytes, bytes, check_finite, to_u8};
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::no_grad;
use crate::tensor::seed::{Stream, host_rng};

/// Number of finished batches that may wait to be written; more would only take memory.
const AHEAD: usize = 2;

/// The point from which pictures are made.
#[derive(Debug)]
pub enum PictureStart {
    /// z [N, z_dim], which is mapped and truncated.
    Z(Tensor),
    /// ws [N, num_ws, w_dim], taken as they are.
    Ws(Tensor),
}

/// The latents of one batch, drawn on the CPU.
pub struct Latents {
    /// z or ws.
    pub start: PictureStart,
    /// Added to the ws of every picture, [num_ws, w_dim].
    pub shift: Option<Tensor>,
    /// Noise [N, noise_numel]; no columns where no noise is given from outside.
    pub noise: Tensor,
    /// The class of each picture, where classes differ.
    pub classes: Option<Vec<u32>>,
    /// Seed of libtorch, for a script that draws numbers of its own.
    pub script_seed: i64,
}

/// A finished batch of pictures.
pub struct PictureBatch {
    /// The place of its first picture in the whole.
    pub first: usize,
    /// The pixels, N x C x R x R, planar.
    pub pixels: Vec<u8>,
}

/// A generator with the way in which it is called; an option that it cannot follow is an error when pictures are made.
pub struct PictureSource<'g> {
    /// Generator that makes the pictures.
    pub generator: &'g Generator,
    /// The truncation of w.
    pub truncation: Truncation,
    /// The source of noise; without effect on a generator that only takes z.
    pub noise_mode: NoiseMode,
    /// Class of all pictures; None where each has its own, or there are no classes.
    pub class: Option<i64>,
    /// Number of pictures at a time.
    pub batch: usize,
}

impl<'g> PictureSource<'g> {
    /// Calls a generator as the pictures of a metric are made: without truncation, with fresh noise.
    pub fn of_metric(generator: &'g Generator, class: Option<i64>, batch: usize) -> Self {
        Self { generator, truncation: Truncation::OFF, noise_mode: NoiseMode::Random, class, batch }
    }

    /// Returns how many numbers of noise are to be drawn for one picture.
    pub fn noise_numel(&self) -> i64 {
        if self.noise_mode == NoiseMode::Random { self.generator.noise_numel() } else { 0 }
    }

    /// Returns height and width, in pixels.
    pub fn side(&self) -> usize {
        self.generator.img_resolution() as usize
    }

    /// Returns the number of channels, 3 or 1.
    pub fn channels(&self) -> usize {
        self.generator.img_channels() as usize
    }

    /// Returns the bytes of one picture.
    pub fn picture_bytes(&self) -> usize {
        self.channels() * self.side() * self.side()
    }

    /// Cuts places into batches, always at the same places: what a picture is batched with can change its last bit.
    pub fn batches(&self, places: usize) -> impl Iterator<Item = Range<usize>> {
        let batch = self.batch;
        (0..places).step_by(batch).map(move |first| first..places.min(first.saturating_add(batch)))
    }

    /// Makes the pictures of `batches`. `write` gets them in order on a thread of its own, while the next ones are
    /// made.
    ///
    /// # Errors
    /// The generator or `write` fails.
    pub fn make(
        &self,
        batches: &[Range<usize>],
        how: ToBytes,
        draw: impl Fn(Range<usize>) -> Latents,
        write: impl FnMut(PictureBatch) -> Result<()> + Send,
    ) -> Result<()> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            // An error of `write` drops the receiver, which ends the making too.
            let writer = scope.spawn(move || receiver.into_iter().try_for_each(write));
            // Sending fails where the writer has ended; the writer then says why.
            let send = |first, pixels: &Tensor| Ok(sender.send(PictureBatch { first, pixels: bytes(pixels) }).is_ok());
            let made = self.each(batches, how, draw, send);
            drop(sender);
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            written.and(made)
        })
    }

    /// Makes the pictures of `batches`. `take` gets each batch as u8 [N, C, R, R] on the generator's device, with the
    /// place of its first picture, and says whether to go on.
    ///
    /// # Errors
    /// The generator or `take` fails.
    pub fn each(
        &self,
        batches: &[Range<usize>],
        how: ToBytes,
        draw: impl Fn(Range<usize>) -> Latents,
        mut take: impl FnMut(usize, &Tensor) -> Result<bool>,
    ) -> Result<()> {
        let mut batches = batches.iter().cloned().peekable();
        let mut drawn = batches.peek().cloned().map(&draw);
        while let (Some(range), Some(latents)) = (batches.next(), drawn.take()) {
            let images = no_grad(|| self.images(&latents))?;
            check_finite(&images)
                .with_context(|| format!("cannot make pictures with '{}'", self.generator.script.path.display()))?;
            let pixels = to_u8(&images, how);
            // A GPU is computing now, which leaves time to draw; reading the pixels waits for it.
            drawn = batches.peek().cloned().map(&draw);
            if !take(range.start, &pixels)? {
                break;
            }
        }
        Ok(())
    }

    fn images(&self, latents: &Latents) -> Result<Tensor> {
        let device = self.generator.script.device;
        let noise = (latents.noise.size()[1] > 0).then(|| latents.noise.to_device(device));
        let ws = match &latents.start {
            PictureStart::Z(z) => {
                let z = z.to_device(device);
                let labels = match &latents.classes {
                    Some(classes) => Some(one_hot(classes, self.generator.c_dim(), device)),
                    None => self.generator.class_labels(self.class, z.size()[0])?,
                };
                tch::manual_seed(latents.script_seed);
                if latents.shift.is_none() {
                    return self.generator.images(
                        &z,
                        labels.as_ref(),
                        self.truncation,
                        self.noise_mode,
                        noise.as_ref(),
                    );
                }
                self.generator.mapping(&z, labels.as_ref(), self.truncation, false)?
            }
            PictureStart::Ws(ws) => {
                tch::manual_seed(latents.script_seed);
                ws.to_device(device)
            }
        };
        let ws = latents.shift.as_ref().map_or_else(|| ws.shallow_clone(), |shift| &ws + shift.to_device(device));
        self.generator.synthesis(&ws, self.noise_mode, noise.as_ref())
    }

    /// Maps z [N, z_dim] with the truncation and the class of this source: ws [N, num_ws, w_dim] on the CPU.
    ///
    /// # Errors
    /// The generator only takes z, or fails.
    pub fn ws_of(&self, z: &Tensor) -> Result<Tensor> {
        let device = self.generator.script.device;
        let map = |part: Tensor| -> Result<Tensor> {
            let labels = self.generator.class_labels(self.class, part.size()[0])?;
            let part = part.to_device(device);
            let ws = no_grad(|| self.generator.mapping(&part, labels.as_ref(), self.truncation, false))?;
            Ok(ws.to_device(Device::Cpu))
        };
        Ok(Tensor::cat(&z.split(self.batch as i64, 0).into_iter().map(map).collect::<Result<Vec<_>>>()?, 0))
    }

    /// Returns the latents of ws at some places. The noise of the picture at a place depends on its number alone.
    pub fn latents_of_ws(&self, ws: &Tensor, range: Range<usize>) -> Latents {
        let (first, count) = (range.start as i64, range.len() as i64);
        let places: Vec<u32> = range.map(|place| place as u32).collect();
        Latents {
            start: PictureStart::Ws(ws.narrow(0, first, count)),
            shift: None,
            noise: latents_of_seeds(&places, self.noise_numel(), Device::Cpu),
            classes: None,
            script_seed: first,
        }
    }
}

/// The draws of a dump: picture i depends on the seed and i alone.
#[derive(Clone, Debug)]
pub struct DumpDraws {
    /// Seed of the whole dump.
    pub seed: u32,
    /// The distribution that classes are drawn from; None without labels.
    pub classes: Option<ClassDistribution>,
}

impl DumpDraws {
    /// Draws the latents of the pictures at some places.
    pub fn latents(&self, source: &PictureSource<'_>, range: Range<usize>) -> Latents {
        let (z_dim, noise_numel) = (source.generator.z_dim(), source.noise_numel());
        let (z, noise) = dump_latents(self.seed, range.start as u32, range.len(), z_dim, noise_numel, Device::Cpu);
        let script_seed = (i64::from(self.seed) << 32) | range.start as i64;
        Latents { start: PictureStart::Z(z), shift: None, noise, classes: self.classes_of(range), script_seed }
    }

    /// Draws the class of each picture at some places; None where no classes are drawn.
    pub fn classes_of(&self, range: Range<usize>) -> Option<Vec<u32>> {
        let classes = self.classes.as_ref()?;
        let rng = |index: usize| host_rng(u64::from(self.seed), index as u64, Stream::DumpClass, 0);
        Some(range.map(|index| classes.sample(&mut rng(index))).collect())
    }
}

/// Returns how many pictures each class had in training, as a conditional generator's record has it.
///
/// # Errors
/// The generator has no such record.
pub fn class_counts_of(generator: &Generator) -> Result<Vec<u64>> {
    let c_dim = generator.c_dim();
    let recorded = serde_json::from_value::<Vec<u64>>(generator.script.provenance()["class_counts"].clone());
    recorded.ok().filter(|counts| counts.len() as i64 == c_dim).with_context(|| {
        format!(
            "'{}' has {c_dim} classes and no record of how often they occur; pass --labels-of with the training \
             pictures, or --class 0 to {}",
            generator.script.path.display(),
            c_dim - 1
        )
    })
}

/// Returns how many pictures have four million pixels together, at most 32: 32 up to 256 pixels a side, 4 at 1024.
pub fn default_batch(side: i64) -> usize {
    ((1 << 22) / (side * side).max(1)).clamp(1, 32) as usize
}

#[cfg(test)]
mod tests {
    use super::default_batch;

    #[test]
    fn larger_pictures_come_in_smaller_batches() {
        assert_eq!([16, 64, 256, 512, 1024, 4096].map(default_batch), [32, 32, 32, 16, 4, 1]);
    }
}
