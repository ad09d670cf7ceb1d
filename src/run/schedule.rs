//! The schedule of a run: its ticks, the outputs due at their end, and the line and statistics of each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::Device;

use super::outputs::Output;
use crate::config::RunSettings;
use crate::system::memory::resident_bytes;
use crate::system::ui::duration_text;
use crate::train::Statistics;
use crate::train::stats::Summary;

/// A clock that goes on in the process that resumes the run.
#[derive(Clone, Copy, Debug)]
struct Clock {
    begun: Instant,
    before: Duration,
}

impl Clock {
    /// Starts a clock that shows `before`.
    fn starting_from(before: Duration) -> Self {
        Self { begun: Instant::now(), before }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.begun.elapsed()
    }

    /// Sets the clock back by `time`, to 0 at least.
    fn set_back(&mut self, time: Duration) {
        *self = Self::starting_from(self.elapsed().saturating_sub(time));
    }
}

/// The stretch between two lines of statistics.
struct Tick {
    number: u64,
    /// Images seen when the tick began.
    seen_images: u64,
    clock: Clock,
    /// The time that the grids and snapshots before it took.
    maintenance: Duration,
}

impl Tick {
    fn first(maintenance: Duration) -> Self {
        Self { number: 0, seen_images: 0, clock: Clock::starting_from(Duration::ZERO), maintenance }
    }

    fn resumed(record: &TickRecord) -> Self {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self {
            number: record.number,
            seen_images: record.seen_images,
            clock: Clock::starting_from(duration(record.seconds)),
            maintenance: duration(record.maintenance_seconds),
        }
    }
}

/// A tick in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TickRecord {
    number: u64,
    seen_images: u64,
    seconds: f64,
    maintenance_seconds: f64,
}

/// The clock of a run and the tick that it is in.
pub(super) struct Schedule {
    clock: Clock,
    tick: Tick,
}

impl Schedule {
    /// Begins at the first tick of a run that has taken `before` already.
    pub fn starting_from(before: Duration) -> Self {
        Self { clock: Clock::starting_from(before), tick: Tick::first(Duration::ZERO) }
    }

    /// Begins the first tick now; the time before it counts as its maintenance.
    pub fn begin_first_tick(&mut self) {
        self.tick = Tick::first(self.clock.elapsed());
    }

    /// Counts the last `time`, in which outputs were made, as maintenance and not as training.
    pub fn count_as_maintenance(&mut self, time: Duration) {
        self.tick.clock.set_back(time);
        self.tick.maintenance += time;
    }

    /// Takes over the time and the tick of a checkpoint.
    pub fn resumed(total: Duration, tick: &TickRecord) -> Self {
        Self { clock: Clock::starting_from(total), tick: Tick::resumed(tick) }
    }

    /// Returns the time that the run has taken, in all processes.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Returns the tick as a checkpoint keeps it.
    pub fn tick_record(&self) -> TickRecord {
        TickRecord {
            number: self.tick.number,
            seen_images: self.tick.seen_images,
            seconds: self.tick.clock.elapsed().as_secs_f64(),
            maintenance_seconds: self.tick.maintenance.as_secs_f64(),
        }
    }

    /// Goes back to the tick of a checkpoint; the run's clock goes on.
    pub fn go_back_to(&mut self, tick: &TickRecord) {
        self.tick = Tick::resumed(tick);
    }

    /// Whether the tick is over. Tick 0 ends right after the first iteration, to show soon that all is well.
    pub fn tick_is_over(&self, seen_images: u64, tick_images: u64) -> bool {
        self.tick.number == 0 || seen_images >= self.tick.seen_images + tick_images
    }

    /// Lists the outputs that are due at the end of this tick.
    pub fn outputs_of_tick(&self, settings: &RunSettings, done: bool) -> Vec<Output> {
        // Tick 0 is no occasion for outputs, since the grids before training show the same.
        let number = self.tick.number;
        let is_occasion = |interval: u64| interval > 0 && number > 0 && number.is_multiple_of(interval);
        let mut due = Vec::new();
        if done || is_occasion(settings.image_ticks) {
            due.push(Output::Grid);
        }
        if done || is_occasion(settings.snapshot_ticks) {
            due.extend([Output::Snapshot, Output::Metrics]);
        }
        due
    }

    /// Begins the next tick.
    pub fn next_tick(&mut self, seen_images: u64) {
        let clock = Clock::starting_from(Duration::ZERO);
        self.tick = Tick { number: self.tick.number + 1, seen_images, clock, maintenance: Duration::ZERO };
    }

    /// Adds the tick's own statistics, and returns the line for the log.
    pub fn tell(&self, report: &TickReport, statistics: &mut Statistics) -> String {
        let (tick, total) = (&self.tick, self.clock.elapsed());
        let (kimg, p, seconds) =
            (report.seen_images as f64 / 1000.0, report.augment_p, tick.clock.elapsed().as_secs_f64());
        let per_kimg = seconds / ((report.seen_images - tick.seen_images) as f64 / 1000.0);
        let maintenance = tick.maintenance.as_secs_f64();
        let memory = resident_bytes().0 as f64 / f64::from(1 << 30);
        for (name, value) in [
            ("Progress/tick", tick.number as f64),
            ("Progress/kimg", kimg),
            ("Progress/augment", p),
            ("Progress/lr_scale", report.lr_scale),
            ("Timing/total_sec", total.as_secs_f64()),
            ("Timing/sec_per_tick", seconds),
            ("Timing/sec_per_kimg", per_kimg),
            ("Timing/maintenance_sec", maintenance),
            ("Resources/cpu_mem_gb", memory),
        ] {
            statistics.report_number(name, value);
        }
        let gpu_bytes = if report.device.is_cuda() { report.gpu_bytes } else { Some(0) };
        let gpu_memory = gpu_bytes.map(|bytes| bytes as f64 / f64::from(1 << 30));
        if let Some(gigabytes) = gpu_memory {
            statistics.report_number("Resources/peak_gpu_mem_gb", gigabytes);
        }
        let gpu_memory = gpu_memory.map_or_else(|| "-".to_owned(), |gigabytes| format!("{gigabytes:.2}"));
        format!(
            "tick {:<5} kimg {kimg:<8.1} time {:<12} sec/tick {seconds:<7.1} sec/kimg {per_kimg:<7.2} maintenance \
             {maintenance:<6.1} cpumem {memory:<6.2} gpumem {gpu_memory:<6} augment {p:.3}",
            tick.number,
            duration_text(total),
        )
    }
}

/// The numbers of a tick besides the statistics of the phases.
pub(super) struct TickReport {
    pub seen_images: u64,
    pub augment_p: f64,
    pub lr_scale: f64,
    pub device: Device,
    /// Bytes that this process holds on a GPU, where that is known: nearly the peak, as libtorch seldom gives memory
    /// back.
    pub gpu_bytes: Option<u64>,
}

/// Formats both losses for the progress bar.
pub(super) fn losses_text(summaries: &BTreeMap<String, Summary>) -> String {
    let mean = |name: &str| summaries.get(name).map_or(f64::NAN, |summary| summary.mean);
    format!("G {:.3} D {:.3}", mean("Loss/G/loss"), mean("Loss/D/loss"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of training and of maintenance.
    fn seconds(schedule: &Schedule) -> (f64, f64) {
        let record = schedule.tick_record();
        (record.seconds, record.maintenance_seconds)
    }

    #[test]
    fn outputs_take_no_time_of_training_wherever_they_are_made() {
        let is_near = |found: (f64, f64), expected: (f64, f64)| {
            (found.0 - expected.0).abs() < 1.0 && (found.1 - expected.1).abs() < 1.0
        };
        // Before the first tick, 100 s after the start.
        let mut schedule = Schedule::starting_from(Duration::from_secs(100));
        schedule.begin_first_tick();
        schedule.tick.clock.before = Duration::from_secs(30);
        schedule.count_as_maintenance(Duration::from_secs(30));
        assert!(is_near(seconds(&schedule), (0.0, 130.0)), "{:?}", seconds(&schedule));
        // In the middle of a tick, as when a run goes on with outputs to be made.
        let record = TickRecord { number: 3, seen_images: 8, seconds: 50.0, maintenance_seconds: 5.0 };
        schedule.go_back_to(&record);
        schedule.tick.clock.before += Duration::from_secs(7);
        schedule.count_as_maintenance(Duration::from_secs(7));
        assert!(is_near(seconds(&schedule), (50.0, 12.0)), "{:?}", seconds(&schedule));
        assert!(schedule.elapsed() >= Duration::from_secs(100), "the run's clock goes on");
        // At the end of a tick.
        schedule.next_tick(16);
        schedule.tick.clock.before = Duration::from_secs(20);
        schedule.count_as_maintenance(Duration::from_secs(20));
        assert!(is_near(seconds(&schedule), (0.0, 20.0)), "{:?}", seconds(&schedule));
        assert_eq!((schedule.tick.number, schedule.tick.seen_images), (4, 16));
    }
}
