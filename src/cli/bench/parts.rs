//! Measures the work of a run besides training (generating, dumping, loading pictures, writing checkpoints), and what
//! the machine can do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::cli::args::PngWriter;
use crate::data::{Dataset, DatasetOptions, Loader, Sampler};
use crate::draw::pixels::encode_png_in_place;
use crate::latent::picture_source::{DumpDraws, PictureSource, default_batch};
use crate::metrics::Detector;
use crate::model::{Generator, PrecisionKind};
use crate::run::checkpoint::tensors;
use crate::system::gpu::Gpu;
use crate::tensor::caught;
use crate::tensor::device::synchronize;
use crate::tensor::images::{ToBytes, bytes, from_bytes, to_u8};
use crate::tensor::labels::ClassDistribution;
use crate::tensor::no_grad;
use crate::train::Reals;
use crate::train::Trainer;
use crate::train::stats::Statistics;

/// The time between two questions to the driver.
const SAMPLING: Duration = Duration::from_millis(100);
/// The time that an answer of the driver reaches back.
const DRIVERS_WINDOW: Duration = Duration::from_secs(1);

/// The number of pictures that the loader reads.
const PICTURES: u32 = 256;

/// The time of training as a run does it, but for decoding pictures.
pub struct FreeTraining {
    pub iterations: u64,
    pub seconds_per_iteration: f64,
    /// The share of the time in which a kernel ran, where the driver tells.
    pub in_kernels: Option<f64>,
}

/// Trains whole rounds of iterations, as many as R1 has between two evaluations, for at least so many seconds. Pictures
/// come from the host.
pub fn free_training(trainer: &mut Trainer, reals: &Reals, gpu: Option<&Gpu>, seconds: f64) -> Result<FreeTraining> {
    let shape = <[i64; 4]>::try_from(reals.images.size()).map_err(|_| anyhow!("images have four axes"))?;
    let (pixels, device) = (bytes(&to_u8(&reals.images, ToBytes::Round)), reals.images.device());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| gpu.and_then(|gpu| busy_until(gpu, &done)));
        let round = trainer.settings().r1.interval;
        let (begun, mut iterations) = (Instant::now(), 0);
        let trained = caught(|| {
            loop {
                let reals = Reals {
                    images: from_bytes(&pixels, shape, device),
                    c: reals.c.as_ref().map(Tensor::shallow_clone),
                };
                // A run frees its statistics at every tick; here each iteration has its own.
                trainer.iterate(&reals, &mut Statistics::default())?;
                iterations += 1;
                if iterations % round == 0 && begun.elapsed().as_secs_f64() >= seconds {
                    return Ok(());
                }
            }
        });
        let whole = begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let in_kernels = sampler.join().ok().flatten();
        trained.map(|()| FreeTraining { iterations, seconds_per_iteration: whole / iterations as f64, in_kernels })
    })
}

/// Averages the answers of the driver until `done`.
fn busy_until(gpu: &Gpu, done: &AtomicBool) -> Option<f64> {
    std::thread::sleep(DRIVERS_WINDOW);
    let mut samples = Vec::new();
    while !done.load(Ordering::Relaxed) {
        samples.extend(gpu.busy());
        std::thread::sleep(SAMPLING);
    }
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

/// Measures pictures per second of the generator alone, as bytes, without writing them.
pub fn generation(g: &Generator, repeats: usize) -> Result<f64> {
    made_per_second(g, repeats, |_, _, _| Ok(true))
}

/// Measures pictures per second with PNG files written.
pub fn dump(g: &Generator, repeats: usize) -> Result<f64> {
    let folder = tempfile::tempdir().context("cannot make a folder for pictures")?;
    let source = source(g);
    let writer = PngWriter::new(&source, encode_png_in_place)?;
    let (places, draws) = (places(&source), draws(g));
    let mut rates = Vec::new();
    for repeat in 0..=repeats {
        // A dump makes new files, which is faster than replacing some.
        let folder = folder.path().join(repeat.to_string());
        std::fs::create_dir(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
        let begun = Instant::now();
        let batches: Vec<_> = source.batches(places).collect();
        let picture_bytes = source.picture_bytes();
        source.make(
            &batches,
            ToBytes::Metric,
            |range| draws.latents(&source, range),
            |batch| {
                let pictures = (batch.first..).zip(batch.pixels.chunks_exact(picture_bytes));
                let named: Vec<_> =
                    pictures.map(|(index, planar)| (folder.join(format!("{index:06}.png")), planar)).collect();
                writer.write(&named)
            },
        )?;
        rates.push(places as f64 / begun.elapsed().as_secs_f64());
    }
    // The first repeat warms up.
    median(&mut rates[1..]).context("no repeats")
}

fn made_per_second(
    g: &Generator,
    repeats: usize,
    mut take: impl FnMut(&PictureSource<'_>, usize, &Tensor) -> Result<bool>,
) -> Result<f64> {
    let source = source(g);
    let (places, draws) = (places(&source), draws(g));
    let mut rates = Vec::new();
    for _ in 0..=repeats {
        let begun = Instant::now();
        let batches: Vec<_> = source.batches(places).collect();
        let taken = |first: usize, pixels: &Tensor| take(&source, first, pixels);
        source.each(&batches, ToBytes::Metric, |range| draws.latents(&source, range), taken)?;
        rates.push(places as f64 / begun.elapsed().as_secs_f64());
    }
    median(&mut rates[1..]).context("no repeats")
}

fn source(g: &Generator) -> PictureSource<'_> {
    PictureSource::of_metric(g, None, default_batch(g.img_resolution()))
}

/// Returns the number of pictures in four batches.
fn places(source: &PictureSource<'_>) -> usize {
    source.batch * 4
}

fn draws(g: &Generator) -> DumpDraws {
    DumpDraws { seed: 0, classes: ClassDistribution::new(&vec![1; g.c_dim() as usize]) }
}

/// Measures pictures per second of the loader: of a folder of PNG files twice the network's size, each decoded anew,
/// and kept in memory.
pub fn loading(resolution: u32, channels: u32, batch: usize, repeats: usize) -> Result<[f64; 2]> {
    let folder = tempfile::tempdir().context("cannot make a folder for pictures")?;
    write_pictures(folder.path(), resolution * 2)?;
    let rate = |cache_bytes: Option<u64>| -> Result<f64> {
        let options = DatasetOptions { resolution, channels, cache_bytes, ..DatasetOptions::default() };
        let dataset = Arc::new(Dataset::open(folder.path(), &options)?.0);
        let order = Sampler::new(dataset.len(), true, 0);
        let mut loader = Loader::new(dataset, order, batch, 0, 1)?;
        let batches = (512 / batch).max(4);
        let mut rates = Vec::new();
        for _ in 0..=repeats {
            let begun = Instant::now();
            for _ in 0..batches {
                loader.next()?;
            }
            rates.push((batches * batch) as f64 / begun.elapsed().as_secs_f64());
        }
        median(&mut rates[1..]).context("no repeats")
    };
    Ok([rate(Some(0))?, rate(None)?])
}

/// Measures pictures per second whose features a detector computes, 32 at a time.
pub fn features(detector: &Detector, side: i64, repeats: usize) -> Result<f64> {
    const BATCH: i64 = 32;
    let pixels = Tensor::randint(256, [BATCH, 3, side, side], (Kind::Uint8, detector.device()));
    let mut rates = Vec::new();
    for _ in 0..=repeats {
        let begun = Instant::now();
        // Reading a value waits for a GPU.
        let _ = detector.features(&pixels)?.double_value(&[0, 0]);
        rates.push(BATCH as f64 / begun.elapsed().as_secs_f64());
    }
    median(&mut rates[1..]).context("no repeats")
}

/// Writes slopes with a texture, so that they compress about as photographs do.
fn write_pictures(folder: &Path, side: u32) -> Result<()> {
    for index in 0..PICTURES {
        let picture = RgbImage::from_fn(side, side, |x, y| {
            let texture = (x * 7 + y * 13 + index * 31) % 17;
            image::Rgb([(x * 255 / side) as u8, (y * 255 / side) as u8, ((x ^ y) + texture) as u8])
        });
        picture.save(folder.join(format!("{index:04}.png"))).context("cannot write the pictures to load")?;
    }
    Ok(())
}

/// Measures the seconds for a checkpoint, flushed to the disk of the temporary folder, and its size in bytes.
pub fn checkpoint(trainer: &Trainer, repeats: usize) -> Result<(f64, u64)> {
    let folder = tempfile::tempdir().context("cannot make a folder for checkpoints")?;
    let (mut times, mut bytes) = (Vec::new(), 0);
    for repeat in 0..=repeats {
        let path = folder.path().join(format!("{repeat}.safetensors"));
        let begun = Instant::now();
        let (_, tensors) = trainer.state(&Statistics::default());
        tensors::write(&path, &tensors)?;
        let file = std::fs::File::open(&path).with_context(|| format!("cannot open '{}'", path.display()))?;
        file.sync_all().context("cannot flush the checkpoint")?;
        times.push(begun.elapsed().as_secs_f64());
        bytes = file.metadata()?.len();
        std::fs::remove_file(&path)?;
    }
    Ok((median(&mut times[1..]).context("no repeats")?, bytes))
}

/// Measures operations per second of the machine's convolution: 3x3, 512 channels, 8 images of 32x32, in the type of
/// the networks.
pub fn convolution_peak(kind: PrecisionKind, device: Device, repeats: usize) -> Result<f64> {
    const CHANNELS: i64 = 512;
    const SIDE: i64 = 32;
    const IMAGES: i64 = 8;
    // A single convolution takes a GPU less time than starting it and waiting for it.
    let at_once: u32 = if device.is_cuda() { 50 } else { 1 };
    let kind = match kind {
        PrecisionKind::Fp32 => Kind::Float,
        PrecisionKind::Bf16 => Kind::BFloat16,
        PrecisionKind::Fp16 => Kind::Half,
    };
    let random = |size: [i64; 4]| Tensor::randn(size, (Kind::Float, device)).to_kind(kind);
    let (mut x, mut weight) = (random([IMAGES, CHANNELS, SIDE, SIDE]), random([CHANNELS, CHANNELS, 3, 3]));
    if device.is_cuda() && kind != Kind::Float {
        // The networks have channels last there.
        let channels_last = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        (x, weight) = (channels_last(&x), channels_last(&weight));
    }
    let operations = 2.0 * (CHANNELS * CHANNELS * 9 * SIDE * SIDE * IMAGES) as f64;
    let mut rates = Vec::new();
    for _ in 0..=repeats.max(3) {
        let begun = Instant::now();
        for _ in 0..at_once {
            let _ = no_grad(|| x.f_conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1))?;
        }
        synchronize(device);
        rates.push(operations * f64::from(at_once) / begun.elapsed().as_secs_f64());
    }
    rates[1..].iter().copied().reduce(f64::max).context("no repeats")
}

/// Returns the middle value, the upper one of two; None where there are none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
