//! What `rootgan bench` says: as text, and as JSON.

use serde_json::{Value, json};

use super::args::BenchArgs;
use super::parts::FreeTraining;
use crate::train::regularizers::{PL_INTERVAL, R1_INTERVAL};

/// The share of iterations in which each phase runs, with the published intervals.
pub const SHARES: [(&str, f64); 4] =
    [("Gmain", 1.0), ("Greg", 1.0 / PL_INTERVAL as f64), ("Dmain", 1.0), ("Dreg", 1.0 / R1_INTERVAL as f64)];

/// The medians of one setting: seconds of each phase, and of the rest of an iteration.
pub struct Medians {
    pub phases: [f64; SHARES.len()],
    pub rest: f64,
}

impl Medians {
    /// Returns the seconds per iteration with the published intervals.
    fn weighted(&self) -> f64 {
        SHARES.iter().zip(self.phases).map(|((_, share), seconds)| share * seconds).sum::<f64>() + self.rest
    }
}

/// The speed of what a run does besides training.
pub struct Others {
    pub generated_per_second: f64,
    pub dumped_per_second: f64,
    pub decoded_per_second: f64,
    pub loaded_per_second: f64,
    pub checkpoint_seconds: f64,
    pub checkpoint_bytes: u64,
    pub features_per_second: Option<f64>,
}

/// What training in several processes costs.
pub struct Processes {
    pub count: u64,
    /// Bytes of the gradients of the generator and of the discriminator.
    pub summed_bytes: [f64; 2],
    /// Share of the time that the first process spent in sums, waiting for the others included.
    pub share_of_time: f64,
}

impl Processes {
    /// Returns the bytes that are summed in an iteration with the published intervals.
    fn bytes_per_iteration(&self) -> f64 {
        let [g, d] = self.summed_bytes;
        g * (SHARES[0].1 + SHARES[1].1) + d * (SHARES[2].1 + SHARES[3].1)
    }
}

/// Everything that was measured.
pub struct BenchReport {
    pub device: String,
    pub side: i64,
    pub medians: Vec<Medians>,
    pub free: Option<FreeTraining>,
    pub processes: Option<Processes>,
    /// Bytes that the process held on a GPU after training, where that is known.
    pub gpu_bytes: Option<u64>,
    /// The most of those bytes that tensors took at one time.
    pub tensor_bytes: Option<u64>,
    /// Operations in convolutions per image of a training iteration.
    pub operations: f64,
    /// Operations per second of a large convolution.
    pub peak_rate: f64,
    pub others: Option<Others>,
    pub peak_memory: u64,
}

impl BenchReport {
    fn per_image(&self, medians: &Medians, args: &BenchArgs) -> f64 {
        medians.weighted() / args.batch as f64
    }

    fn share_of_peak(&self, args: &BenchArgs) -> f64 {
        self.operations / self.per_image(&self.medians[0], args) / self.peak_rate
    }

    /// Returns all numbers under their names.
    pub fn json(&self, args: &BenchArgs) -> Value {
        let seconds_of = |medians: &Medians| {
            let phases = SHARES.iter().zip(medians.phases);
            let phases = phases.map(|((name, _), seconds)| ((*name).to_owned(), json!(seconds)));
            phases.chain([("rest".to_owned(), json!(medians.rest))]).collect::<serde_json::Map<_, _>>()
        };
        let per_image = self.per_image(&self.medians[0], args);
        let augmented = self.medians.get(1);
        let others = self.others.as_ref().map(|others| {
            json!({
                "generated_images_per_second": others.generated_per_second,
                "dumped_images_per_second": others.dumped_per_second,
                "decoded_images_per_second": others.decoded_per_second,
                "loaded_images_per_second": others.loaded_per_second,
                "checkpoint_seconds": others.checkpoint_seconds,
                "checkpoint_bytes": others.checkpoint_bytes,
                "features_of_images_per_second": others.features_per_second,
            })
        });
        json!({
            "device": self.device, "threads": tch::get_num_threads(), "resolution": self.side, "batch": args.batch,
            "pairing": args.pairing, "iterations": args.iterations, "phase_seconds": seconds_of(&self.medians[0]), "seconds_per_image": per_image,
            "images_per_second": 1.0 / per_image, "augment_p": args.augment_p,
            "augmented_phase_seconds": augmented.map(seconds_of),
            "augmented_seconds_per_image": augmented.map(|medians| self.per_image(medians, args)),
            "convolution_gflop_per_image": self.operations / 1e9,
            "convolution_peak_gflop_per_second": self.peak_rate / 1e9,
            "share_of_convolution_peak": self.share_of_peak(args),
            "free": self.free.as_ref().map(|free| json!({
                "iterations": free.iterations,
                "seconds_per_image": free.seconds_per_iteration / args.batch as f64,
                "share_of_time_in_kernels": free.in_kernels,
            })),
            "processes": self.processes.as_ref().map_or(1, |processes| processes.count),
            "summed_bytes_per_iteration": self.processes.as_ref().map(Processes::bytes_per_iteration),
            "share_of_time_in_sums": self.processes.as_ref().map(|processes| processes.share_of_time),
            "gpu_memory_mib": self.gpu_bytes.map(mib),
            "gpu_tensors_peak_mib": self.tensor_bytes.map(mib),
            "others": others,
            "peak_host_memory_mib": mib(self.peak_memory),
        })
    }

    /// Prints the report as text.
    pub fn print(&self, args: &BenchArgs) {
        let (side, plain, augmented) = (self.side, &self.medians[0], self.medians.get(1));
        println!(
            "{side}x{side}, batch {}, {}, {} threads, median of {}",
            args.batch,
            self.device,
            tch::get_num_threads(),
            args.iterations
        );
        for (index, (name, share)) in SHARES.iter().enumerate() {
            let second = augmented.map_or_else(String::new, |m| format!(", augmented {:.3} s", m.phases[index]));
            println!("  {name:<6} {:>8.3} s{second}, every {} iterations", plain.phases[index], 1.0 / share);
        }
        println!("  rest   {:>8.3} s (averaged generator)", plain.rest);
        let per_image = self.per_image(plain, args);
        println!("seconds per image: {per_image:.4} ({:.1} s per kimg)", per_image * 1000.0);
        if let Some(augmented) = augmented {
            let (per_kimg, p) = (self.per_image(augmented, args) * 1000.0, args.augment_p.unwrap_or(0.0));
            let more = (augmented.weighted() / plain.weighted() - 1.0) * 100.0;
            println!("with {} at p {p}: {per_kimg:.1} s per kimg, {more:+.1} %", args.augpipe);
        }
        if let Some(free) = &self.free {
            let busy =
                free.in_kernels.map_or_else(String::new, |share| format!(", {:.0} % of it in kernels", share * 100.0));
            let per_image = free.seconds_per_iteration / args.batch as f64;
            let (per_kimg, iterations) = (per_image * 1000.0, free.iterations);
            println!("as a run: {per_image:.4} s per image ({per_kimg:.1} s per kimg){busy}, {iterations} iterations");
        }
        if let Some(processes) = &self.processes {
            println!(
                "{} processes: {:.1} MB of gradients summed an iteration, {:.0} % of the time in sums and waiting for each other",
                processes.count,
                processes.bytes_per_iteration() / 1e6,
                processes.share_of_time * 100.0
            );
        }
        println!(
            "direct convolutions: {:.2} GFLOP per image, {:.0} % of the {:.0} GFLOP/s that a large one reaches here",
            self.operations / 1e9,
            self.share_of_peak(args) * 100.0,
            self.peak_rate / 1e9
        );
        if let Some(others) = &self.others {
            println!(
                "generation: {:.1} images/s; dump with PNG: {:.1}",
                others.generated_per_second, others.dumped_per_second
            );
            println!(
                "loading: {:.0} images/s decoded anew, {:.0} from memory; training takes {:.1}",
                others.decoded_per_second,
                others.loaded_per_second,
                1.0 / per_image
            );
            let megabytes = mib(others.checkpoint_bytes);
            if let Some(features_per_second) = others.features_per_second {
                println!("features for metrics: {features_per_second:.1} images/s");
            }
            println!("checkpoint: {:.2} s, {megabytes:.1} MiB", others.checkpoint_seconds);
        }
        println!("peak host memory: {:.0} MiB", mib(self.peak_memory));
        if let Some(bytes) = self.gpu_bytes {
            println!("held on the GPU: {:.0} MiB", mib(bytes));
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
