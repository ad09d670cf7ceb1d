//! `rootgan bench`: seconds per image of each training phase, the other work of a run, the peak memory, and the share of what
//! the machine's convolutions can do.

mod args;
mod flops;
mod parts;
mod report;

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

pub use self::args::BenchArgs;
use self::parts::median;
use self::report::{BenchReport, Medians, Others, Processes, SHARES};
use crate::cli::confine::write_only_to;
use crate::cli::processes;
use crate::cli::team::Team;
use crate::config::{AugmentMode, NetworkFacts, Options, train_settings};
use crate::metrics::Detector;
use crate::model::{FreezeSettings, Precision, PrecisionKind};
use crate::run::networks::NetworkFiles;
use crate::system::gpu::Gpu;
use crate::system::memory::resident_bytes;
use crate::system::ui::Bar;
use crate::tensor::arithmetic::{Arithmetic, tune_convolutions};
use crate::tensor::derivatives::{ConvolutionDerivatives, use_convolution_derivatives};
use crate::tensor::device;
use crate::tensor::labels::{ClassDistribution, one_hot};
use crate::tensor::profile::traced;
use crate::train::Reals;
use crate::train::regularizers::{PL_INTERVAL, R1_INTERVAL};
use crate::train::stats::Statistics;
use crate::train::{TrainSettings, Trainer};

/// Runs the command.
///
/// # Errors
/// A pair that cannot be loaded or trained.
pub fn run(args: BenchArgs) -> Result<()> {
    ensure!(args.iterations > 0, "cannot measure 0 iterations; pass --iterations 1 or more");
    let p = args.augment_p.unwrap_or(0.0);
    ensure!(
        args.free_seconds.is_none_or(|seconds| (0.0..=3600.0).contains(&seconds)),
        "--free-seconds must be from 0 to 3600"
    );
    ensure!((0.0..=1.0).contains(&p), "--augment-p must be from 0 to 1, not {p}");
    if let Some(count) = args.processes {
        return processes::run(count);
    }
    let mut team = Team::from_env()?;
    ensure!(
        team.planned == 1 || !(args.all || args.trace.is_some() || args.free_seconds.is_some()),
        "of several processes only the phases are measured; leave --all, --trace and --free-seconds away"
    );
    let device = team.device(Some(&args.device))?;
    team.join()?;
    Arithmetic { tf32: args.tf32, deterministic: args.deterministic }.apply();
    tune_convolutions(args.tuned);
    if args.stock_derivatives {
        use_convolution_derivatives(ConvolutionDerivatives::Libtorch);
    }
    let trace = args.trace.as_deref().map(std::path::absolute).transpose()?;
    let Setup { mut trainer, reals, kind, work } = Setup::of(&args, trace.as_deref(), device, team)?;
    let usual = std::mem::replace(&mut trainer.timed_every, 1);
    let begun = Instant::now();
    let medians = measure(&args, &mut trainer, &reals, args.augment_p)?;
    let (seconds, sums) = (begun.elapsed().as_secs_f64(), trainer.world.traffic());
    if !trainer.world.is_first() {
        return Ok(());
    }
    trainer.timed_every = usual;
    if let Some(path) = &trace {
        traced(path, device, || trainer.iterate(&reals, &mut Statistics::default()))?;
    }
    let gpu = device::gpu(device);
    let free = match trainer.world.size() {
        1 => train_freely(&args, &mut trainer, &reals, gpu.as_ref())?,
        _ => None,
    };
    // This is the peak of training: what is measured later may take more.
    let peak_memory = resident_bytes().1;
    let tensor_bytes = device::peak_tensor_bytes(device);
    let report = BenchReport {
        device: device_text(device, gpu.as_ref(), kind),
        side: trainer.networks.g.img_resolution(),
        medians,
        free,
        processes: (trainer.world.size() > 1).then(|| Processes {
            count: trainer.world.size(),
            summed_bytes: [&trainer.networks.g_flat, &trainer.networks.d_flat]
                .map(|flat| 4.0 * flat.values.numel() as f64),
            share_of_time: sums.time.as_secs_f64() / seconds,
        }),
        gpu_bytes: gpu.as_ref().and_then(Gpu::used_bytes),
        tensor_bytes,
        operations: flops::of_training(work[0], work[1]),
        peak_rate: parts::convolution_peak(kind, device, args.iterations)?,
        others: if args.all { Some(others(&trainer, &args)?) } else { None },
        peak_memory,
    };
    if args.json {
        println!("{}", report.json(&args))
    } else {
        report.print(&args)
    }
    Ok(())
}

/// A trainer with a batch, ready to be measured.
struct Setup {
    trainer: Trainer,
    reals: Reals,
    kind: PrecisionKind,
    /// Operations in the convolutions of the generator and of the discriminator.
    work: [f64; 2],
}

impl Setup {
    /// Loads the pair, and makes a batch of random pictures for it.
    fn of(args: &BenchArgs, trace: Option<&Path>, device: Device, team: Team) -> Result<Self> {
        // The temporary folder takes the pictures and checkpoints whose writing is timed.
        let temporary = std::env::temp_dir();
        let folder = trace.and_then(Path::parent);
        let folders: Vec<&Path> = folder.into_iter().chain([&*temporary]).collect();
        let (generator, discriminator) = args.pair.find_pair()?;
        write_only_to(&folders, device);
        let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
        let mut networks = files.load(FreezeSettings::default(), device)?;
        let (side, channels) = (networks.g.img_resolution(), networks.g.img_channels());
        let facts = NetworkFacts { processes: team.planned, ..NetworkFacts::from_pair(&networks.g, &networks.d) };
        let c_dim = networks.g.c_dim();
        let (settings, precision) = settings(args, facts)?;
        let share = args.batch / team.planned;
        let images = Tensor::rand([share as i64, channels, side, side], (Kind::Float, device)) * 2.0 - 1.0;
        // The values of labels do not matter to the time.
        let classes = ClassDistribution::new(&vec![1; c_dim as usize]);
        let c = classes.is_some().then(|| one_hot(&vec![0; share as usize], c_dim, device));
        networks.set_precision(precision)?;
        let work =
            [flops::of_convolutions(&networks.g.script, true), flops::of_convolutions(&networks.d.script, false)];
        let trainer = Trainer::in_world(networks, settings, classes, Rc::new(team.world));
        Ok(Self { trainer, reals: Reals { images, c }, kind: precision.kind, work })
    }
}

/// Trains as a run does, without augmentation, where that is asked for.
fn train_freely(
    args: &BenchArgs,
    trainer: &mut Trainer,
    reals: &Reals,
    gpu: Option<&Gpu>,
) -> Result<Option<parts::FreeTraining>> {
    let on_gpu = trainer.networks.g.script.device.is_cuda();
    let seconds = args.free_seconds.unwrap_or(if on_gpu { 10.0 } else { 0.0 });
    if seconds == 0.0 {
        return Ok(None);
    }
    trainer.fix_augment_p(0.0);
    trainer.regularize_every(R1_INTERVAL, PL_INTERVAL);
    parts::free_training(trainer, reals, gpu, seconds).map(Some)
}

/// Formats a device as `cuda:0 (NVIDIA H100 80GB HBM3) in fp16`.
fn device_text(device: Device, gpu: Option<&Gpu>, kind: PrecisionKind) -> String {
    let name = gpu.and_then(Gpu::name).map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}{name} in {}", device::name(device), kind.name())
}

/// Measures iterations without augmentation and, where asked for, with it in turn, so that both see the same machine.
fn measure(args: &BenchArgs, trainer: &mut Trainer, reals: &Reals, p: Option<f64>) -> Result<Vec<Medians>> {
    let settings: Vec<f64> = std::iter::once(0.0).chain(p).collect();
    let mut samples = vec![vec![Vec::new(); SHARES.len() + 1]; settings.len()];
    let bar = Bar::new((args.iterations as u64 + 1) * settings.len() as u64, "measuring");
    for iteration in 0..=args.iterations {
        for (&p, samples) in settings.iter().zip(&mut samples) {
            trainer.fix_augment_p(p);
            let mut stats = Statistics::default();
            let begun = Instant::now();
            trainer.iterate(reals, &mut stats)?;
            // No phase has waited for the averaged generator's update.
            device::synchronize(trainer.networks.g.script.device);
            let whole = begun.elapsed().as_secs_f64();
            let times = stats.take();
            let of = |name: &str| times.get(&format!("Timing/{name}")).map_or(0.0, |time| time.mean);
            let phases: Vec<f64> = SHARES.iter().map(|(name, _)| of(name)).collect();
            let rest = whole - phases.iter().sum::<f64>();
            // The first iteration of each setting warms up.
            if iteration > 0 {
                samples.iter_mut().zip(phases.into_iter().chain([rest])).for_each(|(list, value)| list.push(value));
            }
            bar.inc(1);
        }
    }
    bar.finish();
    let medians = |samples: &mut Vec<Vec<f64>>| {
        let all: Vec<f64> = samples.iter_mut().map(|list| median(list)).collect::<Option<_>>()?;
        Some(Medians { phases: all[..SHARES.len()].try_into().ok()?, rest: all[SHARES.len()] })
    };
    samples.iter_mut().map(medians).collect::<Option<_>>().context("no samples")
}

/// Makes settings with every phase in every iteration.
fn settings(args: &BenchArgs, facts: NetworkFacts) -> Result<(TrainSettings, Precision)> {
    let options = Options {
        batch: Some(args.batch),
        r1_interval: Some(1),
        pl_interval: Some(1),
        precision: args.precision,
        pairing: Some(args.pairing),
        aug: Some(AugmentMode::Fixed),
        augpipe: Some(args.augpipe.clone()),
        p: Some(0.0),
        // Random networks on random pictures may diverge; the time is the same.
        max_bad_steps: Some(u64::MAX),
        ..Options::default()
    };
    train_settings(&options, facts)
}

/// Measures what a run does besides training.
fn others(trainer: &Trainer, args: &BenchArgs) -> Result<Others> {
    let (g, repeats) = (&trainer.networks.g_ema, args.iterations);
    let (resolution, channels) = (g.img_resolution() as u32, g.img_channels() as u32);
    let [decoded_per_second, loaded_per_second] = parts::loading(resolution, channels, args.batch as usize, repeats)?;
    let (checkpoint_seconds, checkpoint_bytes) = parts::checkpoint(trainer, repeats)?;
    let device = g.script.device;
    let detector = args.detector.as_ref().map(|path| Detector::load(path, device)).transpose()?;
    let features_per_second =
        detector.map(|detector| parts::features(&detector, i64::from(resolution), repeats)).transpose()?;
    Ok(Others {
        generated_per_second: parts::generation(g, repeats)?,
        dumped_per_second: parts::dump(g, repeats)?,
        decoded_per_second,
        loaded_per_second,
        checkpoint_seconds,
        checkpoint_bytes,
        features_per_second,
    })
}
