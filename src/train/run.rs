//! The loop of a run: batches in, ticks, grids and snapshots out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use super::draw::Reals;
use super::journal::Journal;
use super::journal::stats::{Statistics, Summary};
use super::networks::Networks;
use super::preview::Preview;
use super::run_dir;
use super::step::Trainer;
use crate::config::RunConfig;
use crate::data::{Batch, Dataset, Labels, Loader, Sampler};
use crate::io::atomic::write_atomically;
use crate::io::snapshot::SnapshotFiles;
use crate::tensor::images::from_bytes;
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::memory::resident_bytes;
use crate::tensor::seed::{Stream, derive};
use crate::ui::{Bar, duration_text};

/// Batches that wait decoded.
const PREFETCH: usize = 3;
/// Where no terminal is, the time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);

/// Above it, transforms leak into the generator's pictures.
const HIGH_P: f64 = 0.85;

/// Everything a run starts from.
pub struct Finetune {
    /// The settings.
    pub config: RunConfig,
    /// The loaded pair.
    pub networks: Networks,
    /// The pictures, of the pair's resolution and channels.
    pub dataset: Dataset,
    /// What was found out on the way here, for the log.
    pub remarks: Vec<String>,
}

/// Trains from beginning to end; returns the run's folder.
///
/// # Errors
/// A file that cannot be written, a picture that has gone, a network that fails, or divergence.
pub fn finetune(start: Finetune) -> Result<PathBuf> {
    let mut run = Run::begin(start)?;
    let outcome = run.train();
    if let Err(error) = &outcome {
        // The error is shown by the caller; whoever reads the log later wants it too.
        run.journal.note(&format!("error: {error:#}"));
    }
    outcome.map(|()| run.folder)
}

/// Tick 0 is no occasion: what there is to see is in the grids before training.
fn due(interval: u64, tick: u64) -> bool {
    interval > 0 && tick > 0 && tick.is_multiple_of(interval)
}

struct Tick {
    number: u64,
    begun: Instant,
    seen_images: u64,
    /// What the grids and snapshots before it took.
    maintenance: Duration,
}

struct Run {
    begun: Instant,
    folder: PathBuf,
    journal: Journal,
    trainer: Trainer,
    statistics: Statistics,
    preview: Preview,
    loader: Loader,
    batch_shape: [i64; 4],
    device: Device,
    provenance: Value,
}

impl Run {
    fn begin(start: Finetune) -> Result<Self> {
        let begun = Instant::now();
        let Finetune { config, mut networks, dataset, remarks } = start;
        networks.set_precision(config.precision)?;
        let folder = run_dir::create(&config.outdir, dataset.name(), &config.desc)?;
        let mut journal = Journal::create(&folder)?;
        for remark in &remarks {
            journal.say(None, remark)?;
        }
        journal.say(None, &format!("run directory: {}", folder.display()))?;
        save_json(&folder.join("training_options.json"), &serde_json::to_value(config.effective())?)?;
        let classes = dataset.labels().and_then(|labels| ClassDistribution::new(&labels.counts()));
        let preview = Preview::new(config.grid, &networks.g, classes.as_ref(), config.seed, config.micro_batch);
        preview.save_reals(&folder.join("reals.png"), &dataset, config.seed)?;
        preview.save_fakes(&folder.join("fakes_init.png"), &networks.g_ema)?;
        let side = i64::from(dataset.resolution());
        let batch_shape = [config.batch as i64, i64::from(dataset.channels()), side, side];
        let provenance = provenance(&config, &networks, &dataset);
        let order = Sampler::new(dataset.len(), config.xflip, derive(config.seed, 0, Stream::Sampler, 0));
        let loader = Loader::new(Arc::new(dataset), order, config.batch as usize, 0, PREFETCH)?;
        let device = networks.g.script.device;
        let trainer = Trainer::new(networks, config, classes);
        let statistics = Statistics::default();
        Ok(Self { begun, folder, journal, trainer, statistics, preview, loader, batch_shape, device, provenance })
    }

    /// The loop.
    fn train(&mut self) -> Result<()> {
        let bar = Bar::with_interval(self.trainer.config().total_images, "finetuning", PROGRESS_INTERVAL);
        let mut tick = Tick { number: 0, begun: Instant::now(), seen_images: 0, maintenance: self.begun.elapsed() };
        loop {
            self.iterate(&bar)?;
            let config = self.trainer.config();
            let seen = self.trainer.seen_images;
            let done = seen >= config.total_images;
            // Tick 0 comes right after the first iteration, to show soon that all is well.
            if !done && tick.number > 0 && seen < tick.seen_images + config.tick_images {
                continue;
            }
            let (grid_due, snapshot_due) =
                (due(config.image_ticks, tick.number) || done, due(config.snapshot_ticks, tick.number) || done);
            self.report(&bar, &tick)?;
            let maintenance = Instant::now();
            if grid_due {
                self.save_grid()?;
            }
            if snapshot_due {
                self.save_snapshot()?;
            }
            if done {
                break;
            }
            let maintenance = maintenance.elapsed();
            tick = Tick { number: tick.number + 1, begun: Instant::now(), seen_images: seen, maintenance };
        }
        bar.finish();
        let line = format!("done: {} in {}", self.kimg_text(), duration_text(self.begun.elapsed()));
        self.journal.say(None, &line)
    }

    fn iterate(&mut self, bar: &Bar) -> Result<()> {
        let Batch { pixels, classes } = self.loader.next()?;
        let c_dim = self.trainer.networks.g.c_dim();
        let c = classes.map(|classes| one_hot(&classes, c_dim, self.device));
        let reals = Reals { images: from_bytes(&pixels, self.batch_shape, self.device), c };
        let outcome = self.trainer.iterate(&reals, &mut self.statistics);
        for notice in self.trainer.take_notices() {
            self.journal.say(Some(bar), &notice)?;
        }
        outcome.with_context(|| format!("the run in '{}' stopped at {}", self.folder.display(), self.kimg_text()))?;
        bar.inc(self.trainer.config().batch);
        Ok(())
    }

    /// The tick's line, statistics and scalars.
    fn report(&mut self, bar: &Bar, tick: &Tick) -> Result<()> {
        let (kimg, p) = (self.kimg(), self.trainer.augment_p());
        let (seconds, total) = (tick.begun.elapsed(), self.begun.elapsed());
        let images = self.trainer.seen_images - tick.seen_images;
        let per_kimg = seconds.as_secs_f64() / (images as f64 / 1000.0);
        let memory = resident_bytes().0 as f64 / f64::from(1 << 30);
        for (name, value) in [
            ("Progress/tick", tick.number as f64),
            ("Progress/kimg", kimg),
            ("Progress/augment", p),
            ("Timing/total_sec", total.as_secs_f64()),
            ("Timing/sec_per_tick", seconds.as_secs_f64()),
            ("Timing/sec_per_kimg", per_kimg),
            ("Timing/maintenance_sec", tick.maintenance.as_secs_f64()),
            ("Resources/cpu_mem_gb", memory),
        ] {
            self.statistics.report_number(name, value);
        }
        // libtorch's count of device memory is not within reach; on the CPU it is zero.
        let gpu_memory = if self.device.is_cuda() { "-" } else { "0.00" };
        if !self.device.is_cuda() {
            self.statistics.report_number("Resources/peak_gpu_mem_gb", 0.0);
        }
        let summaries = self.statistics.take();
        self.journal.tick(kimg, &summaries)?;
        let line = format!(
            "tick {:<5} kimg {kimg:<8.1} time {:<12} sec/tick {:<7.1} sec/kimg {per_kimg:<7.2} maintenance {:<6.1} \
             cpumem {memory:<6.2} gpumem {gpu_memory:<6} augment {p:.3}",
            tick.number,
            duration_text(total),
            seconds.as_secs_f64(),
            tick.maintenance.as_secs_f64(),
        );
        self.journal.say(Some(bar), &line)?;
        if p > HIGH_P {
            let warning = "augmentation is near its limit: the generator may show it; more pictures would help, or a higher --target";
            self.journal.say(Some(bar), &format!("warning: augment p is {p:.3}: {warning}"))?;
        }
        bar.set_message(losses_text(&summaries));
        Ok(())
    }

    fn save_grid(&mut self) -> Result<()> {
        let path = self.folder.join(format!("fakes{:06}.png", self.trainer.seen_images / 1000));
        self.preview.save_fakes(&path, &self.trainer.networks.g_ema)
    }

    fn save_snapshot(&mut self) -> Result<()> {
        let seen_images = self.trainer.seen_images;
        let files = SnapshotFiles::at(&self.folder, seen_images / 1000);
        // Ticks below 1 kimg write to the same names: without its manifest a half-replaced snapshot does not count.
        match std::fs::remove_file(&files.manifest) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace '{}'", files.manifest.display()));
            }
            _ => {}
        }
        let mut provenance = self.provenance.clone();
        provenance["seen_images"] = json!(seen_images);
        provenance["augment_p"] = json!(self.trainer.augment_p());
        self.trainer.networks.save(&files, &provenance)?;
        files.write_manifest(seen_images, provenance)
    }

    fn kimg(&self) -> f64 {
        self.trainer.seen_images as f64 / 1000.0
    }

    fn kimg_text(&self) -> String {
        format!("{:.1} kimg", self.kimg())
    }
}

/// Where weights of this run come from: their parents' record and what was done to them.
fn provenance(config: &RunConfig, networks: &Networks, dataset: &Dataset) -> Value {
    // Paths say where somebody keeps files, which is nobody's business.
    let mut options = serde_json::to_value(config.effective()).unwrap_or_default();
    if let Value::Object(options) = &mut options {
        options.retain(|key, value| {
            !value.is_null()
                && !["generator", "generator_raw", "discriminator", "data", "outdir"].contains(&key.as_str())
        });
    }
    json!({
        "source": format!("finetuned by rootgan {}", env!("CARGO_PKG_VERSION")),
        "dataset": dataset.name(),
        "class_counts": dataset.labels().map(Labels::counts),
        "options": options,
        "parents": {
            "generator": networks.g.script.provenance(),
            "discriminator": networks.d.script.provenance(),
        },
    })
}

fn losses_text(summaries: &BTreeMap<String, Summary>) -> String {
    let mean = |name: &str| summaries.get(name).map_or(f64::NAN, |summary| summary.mean);
    format!("G {:.3} D {:.3}", mean("Loss/G/loss"), mean("Loss/D/loss"))
}

fn save_json(path: &Path, value: &Value) -> Result<()> {
    write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        writeln!(file)?;
        Ok(())
    })
}
