//! `rootgan bench`: seconds per image of each training phase, and the peak memory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::config::{NetworkFacts, Options, RunConfig};
use crate::model::FreezeSettings;
use crate::tensor::device;
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::memory::resident_bytes;
use crate::train::draw::Reals;
use crate::train::journal::stats::Statistics;
use crate::train::networks::{NetworkFiles, Networks};
use crate::train::step::Trainer;
use crate::ui::Bar;

/// How often the phases run in a training with the published intervals.
const SHARES: [(&str, f64); 4] = [("Gmain", 1.0), ("Greg", 0.25), ("Dmain", 1.0), ("Dreg", 0.0625)];

/// Measure the time of each training phase, and memory.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Generator (TorchScript)
    #[arg(long, value_name = "G.pt")]
    pub generator: PathBuf,
    /// Discriminator (TorchScript)
    #[arg(long, value_name = "D.pt")]
    pub discriminator: PathBuf,
    /// Images per iteration
    #[arg(long, default_value_t = 16)]
    pub batch: u64,
    /// Measured iterations, after one that is not
    #[arg(long, default_value_t = 5)]
    pub iterations: usize,
    /// auto (CUDA if usable), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// A pair that cannot be loaded or trained.
pub fn run(args: BenchArgs) -> Result<()> {
    ensure!(args.iterations > 0, "cannot measure 0 iterations; pass --iterations 1 or more");
    let device = device::parse(&args.device)?;
    let (generator, discriminator) = (args.generator.clone(), args.discriminator.clone());
    let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
    let networks = Networks::load(&files, FreezeSettings::default(), device)?;
    let (side, channels) = (networks.g.img_resolution(), networks.g.img_channels());
    let facts = NetworkFacts::of(&networks.g, &networks.d);
    let c_dim = networks.g.c_dim();
    let images = Tensor::rand([args.batch as i64, channels, side, side], (Kind::Float, device)) * 2.0 - 1.0;
    // The values of labels do not matter to the time.
    let classes = ClassDistribution::new(&vec![1; c_dim as usize]);
    let c = classes.is_some().then(|| one_hot(&vec![0; args.batch as usize], c_dim, device));
    let reals = Reals { images, c };
    let mut trainer = Trainer::new(networks, config(&args, facts)?, classes);
    let mut samples = vec![Vec::new(); SHARES.len() + 1];
    let bar = Bar::new(args.iterations as u64 + 1, "measuring");
    for iteration in 0..=args.iterations {
        let mut stats = Statistics::default();
        let begun = Instant::now();
        trainer.iterate(&reals, &mut stats)?;
        let whole = begun.elapsed().as_secs_f64();
        let times = stats.take();
        let of = |name: &str| times.get(&format!("Timing/{name}")).map_or(0.0, |time| time.mean);
        let phases: Vec<f64> = SHARES.iter().map(|(name, _)| of(name)).collect();
        if iteration > 0 {
            let rest = whole - phases.iter().sum::<f64>();
            for (list, value) in samples.iter_mut().zip(phases.into_iter().chain([rest])) {
                list.push(value);
            }
        }
        bar.inc(1);
    }
    bar.finish();
    let medians: Vec<f64> = samples.iter_mut().map(|list| median(list)).collect::<Option<_>>().context("no samples")?;
    show(&args, &device::name(device), side, &medians);
    Ok(())
}

/// Every phase in every iteration.
fn config(args: &BenchArgs, facts: NetworkFacts) -> Result<RunConfig> {
    let options = Options {
        generator: Some(args.generator.clone()),
        discriminator: Some(args.discriminator.clone()),
        data: Some(PathBuf::new()),
        outdir: Some(PathBuf::new()),
        batch: Some(args.batch),
        r1_interval: Some(1),
        pl_interval: Some(1),
        ..Options::default()
    };
    RunConfig::resolve(&options, facts)
}

fn show(args: &BenchArgs, device: &str, side: i64, medians: &[f64]) {
    let rest = medians[SHARES.len()];
    let weighted = SHARES.iter().zip(medians).map(|((_, share), seconds)| share * seconds).sum::<f64>() + rest;
    let per_image = weighted / args.batch as f64;
    let peak = resident_bytes().1 as f64 / f64::from(1 << 20);
    if args.json {
        let mut phases: serde_json::Map<_, _> =
            SHARES.iter().zip(medians).map(|((name, _), seconds)| ((*name).to_owned(), json!(seconds))).collect();
        phases.insert("rest".to_owned(), json!(rest));
        let report = json!({
            "device": device, "threads": tch::get_num_threads(), "resolution": side, "batch": args.batch,
            "iterations": args.iterations, "phase_seconds": phases, "seconds_per_image": per_image,
            "images_per_second": 1.0 / per_image, "peak_host_memory_mib": peak,
        });
        println!("{report}");
        return;
    }
    println!(
        "{side}x{side}, batch {}, {device}, {} threads, median of {}",
        args.batch,
        tch::get_num_threads(),
        args.iterations
    );
    for ((name, share), seconds) in SHARES.iter().zip(medians) {
        println!("  {name:<6} {seconds:>8.3} s, every {} iterations", 1.0 / share);
    }
    println!("  rest   {rest:>8.3} s (averaged generator)");
    println!("seconds per image: {per_image:.4} ({:.1} s per kimg)", per_image * 1000.0);
    println!("peak host memory: {peak:.0} MiB");
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
