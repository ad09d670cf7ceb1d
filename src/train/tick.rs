//! Ticks: when one is due, and the line and statistics of each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::Device;

use super::journal::stats::{Statistics, Summary};
use crate::tensor::memory::resident_bytes;
use crate::ui::duration_text;

/// Time that goes on in another process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    begun: Instant,
    before: Duration,
}

impl Clock {
    /// Has run for `before` already.
    pub fn starting_from(before: Duration) -> Self {
        Self { begun: Instant::now(), before }
    }

    pub fn elapsed(&self) -> Duration {
        self.before + self.begun.elapsed()
    }
}

/// The stretch between two lines of statistics.
pub(super) struct Tick {
    pub number: u64,
    /// Images seen when it began.
    pub seen_images: u64,
    pub clock: Clock,
    /// What the grids and snapshots before it took.
    pub maintenance: Duration,
}

/// The same in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TickRecord {
    number: u64,
    seen_images: u64,
    seconds: f64,
    maintenance_seconds: f64,
}

impl Tick {
    pub fn first(maintenance: Duration) -> Self {
        Self { number: 0, seen_images: 0, clock: Clock::starting_from(Duration::ZERO), maintenance }
    }

    pub fn next(&self, seen_images: u64, maintenance: Duration) -> Self {
        Self { number: self.number + 1, seen_images, clock: Clock::starting_from(Duration::ZERO), maintenance }
    }

    /// Tick 0 ends right after the first iteration, to show soon that all is well.
    pub fn is_over(&self, seen_images: u64, tick_images: u64) -> bool {
        self.number == 0 || seen_images >= self.seen_images + tick_images
    }

    /// Tick 0 is no occasion: what there is to see is in the grids before training.
    pub fn is_occasion(&self, interval: u64) -> bool {
        interval > 0 && self.number > 0 && self.number.is_multiple_of(interval)
    }

    pub fn record(&self) -> TickRecord {
        TickRecord {
            number: self.number,
            seen_images: self.seen_images,
            seconds: self.clock.elapsed().as_secs_f64(),
            maintenance_seconds: self.maintenance.as_secs_f64(),
        }
    }

    pub fn resumed(record: &TickRecord) -> Self {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self {
            number: record.number,
            seen_images: record.seen_images,
            clock: Clock::starting_from(duration(record.seconds)),
            maintenance: duration(record.maintenance_seconds),
        }
    }
}

/// What a tick has to tell, besides the statistics of the phases.
pub(super) struct Report {
    pub seen_images: u64,
    pub total: Duration,
    pub augment_p: f64,
    pub lr_scale: f64,
    pub device: Device,
    /// Bytes that this process holds on a GPU, where that is known. libtorch seldom gives back what it once had, so it is
    /// nearly the peak.
    pub gpu_bytes: Option<u64>,
}

impl Report {
    pub fn kimg(&self) -> f64 {
        self.seen_images as f64 / 1000.0
    }

    /// Adds the tick's own statistics; the line for the log.
    pub fn tell(&self, tick: &Tick, statistics: &mut Statistics) -> String {
        let (kimg, p, seconds) = (self.kimg(), self.augment_p, tick.clock.elapsed().as_secs_f64());
        let per_kimg = seconds / ((self.seen_images - tick.seen_images) as f64 / 1000.0);
        let maintenance = tick.maintenance.as_secs_f64();
        let memory = resident_bytes().0 as f64 / f64::from(1 << 30);
        for (name, value) in [
            ("Progress/tick", tick.number as f64),
            ("Progress/kimg", kimg),
            ("Progress/augment", p),
            ("Progress/lr_scale", self.lr_scale),
            ("Timing/total_sec", self.total.as_secs_f64()),
            ("Timing/sec_per_tick", seconds),
            ("Timing/sec_per_kimg", per_kimg),
            ("Timing/maintenance_sec", maintenance),
            ("Resources/cpu_mem_gb", memory),
        ] {
            statistics.report_number(name, value);
        }
        let gpu_bytes = if self.device.is_cuda() { self.gpu_bytes } else { Some(0) };
        let gpu_memory = gpu_bytes.map(|bytes| bytes as f64 / f64::from(1 << 30));
        if let Some(gigabytes) = gpu_memory {
            statistics.report_number("Resources/peak_gpu_mem_gb", gigabytes);
        }
        let gpu_memory = gpu_memory.map_or_else(|| "-".to_owned(), |gigabytes| format!("{gigabytes:.2}"));
        format!(
            "tick {:<5} kimg {kimg:<8.1} time {:<12} sec/tick {seconds:<7.1} sec/kimg {per_kimg:<7.2} maintenance \
             {maintenance:<6.1} cpumem {memory:<6.2} gpumem {gpu_memory:<6} augment {p:.3}",
            tick.number,
            duration_text(self.total),
        )
    }
}

/// Both losses, for the bar.
pub(super) fn losses_text(summaries: &BTreeMap<String, Summary>) -> String {
    let mean = |name: &str| summaries.get(name).map_or(f64::NAN, |summary| summary.mean);
    format!("G {:.3} D {:.3}", mean("Loss/G/loss"), mean("Loss/D/loss"))
}
