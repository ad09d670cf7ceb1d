//! `rootgan finetune`: trains a pair on a folder of pictures.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tch::Device;

use crate::cli::confine::{write_only_to, write_only_to_and_cache};
use crate::cli::processes;
use crate::cli::team::{Team, TrainingPlan};
use crate::config::{NetworkFacts, Options, RunSettings, freeze_settings};
use crate::data::{Dataset, DatasetOptions, Labels, Pictures};
use crate::model::{FreezeSettings, PrecisionKind};
use crate::run::checkpoint::Checkpoints;
use crate::run::checkpoint::Resumed;
use crate::run::evaluator::Evaluator;
use crate::run::networks::NetworkFiles;
use crate::run::{Start, finetune, folder, follow};
use crate::source::Source;
use crate::system::signals::StopRequest;
use crate::system::ui::{detail, say};
use crate::tensor::device;
use crate::train::possible_micro_batches;
use crate::train::preflight::rehearse;

/// Train a generator and discriminator on a folder of pictures.
#[derive(Debug, clap::Args)]
pub struct FinetuneArgs {
    /// Take options from a JSON file whose keys are the flags below; flags given here win
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// Go on with a run from its last checkpoint: the same folder, options and result. With one of the folders in its
    /// checkpoints/ it goes back there, and what came after is given up
    #[arg(long, value_name = "RUN", conflicts_with = "outdir")]
    pub resume: Option<PathBuf>,
    /// With --resume: let the options given here change those of the run
    #[arg(long = "override", requires = "resume")]
    pub allow_changes: bool,
    /// Check everything, print the options in effect, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Train in N processes on this machine, which share every batch; torchrun starts them on several (docs/scale.md)
    #[arg(long, value_name = "N")]
    pub processes: Option<u64>,
    /// The options of the run.
    #[command(flatten)]
    pub options: Options,
}

/// Runs the command; returns the run's folder, or None after a dry run.
///
/// # Errors
/// Anything wrong with options, networks, pictures or the output, on one line.
pub fn run(args: FinetuneArgs) -> Result<Option<PathBuf>> {
    if let Some(count) = args.processes.filter(|_| !args.dry_run) {
        return processes::run(count).map(|()| None);
    }
    let given = args.options.with_file(args.config.as_deref())?;
    let mut team = Team::from_env()?;
    if !team.is_first() {
        return if args.dry_run { Ok(None) } else { follow_as_told(team).map(|()| None) };
    }
    team.planned = args.processes.unwrap_or(team.planned);
    ensure!(
        args.resume.is_none() || given.from.is_none(),
        "a run goes on with its own networks; pass --resume without --from"
    );
    let given = with_networks(given)?;
    let run = args.resume.as_deref().map(|place| Checkpoints::named(place).map_or(place.to_owned(), |(run, _)| run));
    let written = run.or_else(|| given.outdir.clone());
    let written: Vec<&Path> = written.as_deref().into_iter().collect();
    match args.dry_run {
        // A dry run only tries whether the output can be written.
        true => write_only_to(&written, team.device(given.device.as_deref())?),
        false => write_only_to_and_cache(&written, None, team.device(given.device.as_deref())?),
    }
    let interrupted = team
        .launch
        .as_ref()
        .filter(|_| team.is_restarted())
        .and_then(|launch| launch.find_run(given.outdir.as_deref()?));
    let (given, place) = match (args.resume, interrupted) {
        // What the user chose to go back to is behind the run already.
        (Some(folder), _) => {
            let run = Checkpoints::named(&folder).filter(|_| team.is_restarted()).map(|(run, _)| run);
            (given, Place::Resume { folder: run.unwrap_or(folder), allow_changes: args.allow_changes })
        }
        (None, Some(folder)) => (Options::default(), Place::Resume { folder, allow_changes: false }),
        (None, None) => (given, Place::New),
    };
    let folder = train_together(given, place, args.dry_run, team)?;
    if let Some(folder) = &folder {
        println!("run directory: {}", folder.display());
    }
    Ok(folder)
}

/// Trains as one of the other processes, whose options and networks the first process names.
fn follow_as_told(mut team: Team) -> Result<()> {
    let plan = team.join_and_receive()?;
    write_only_to(&[], team.device(plan.options.device.as_deref())?);
    follow(load(Sources { plan, folder: None, resume: None, remarks: Vec::new() }, team)?)
}

/// The place of a run.
pub enum Place {
    /// A new folder in `--outdir`.
    New,
    /// This folder, which must not be there yet.
    Folder(PathBuf),
    /// The folder of a run that goes on.
    Resume {
        /// The run's folder, or one of its checkpoints'.
        folder: PathBuf,
        /// Whether options may differ from the run's.
        allow_changes: bool,
    },
}

/// Trains; returns the run's folder, or None after a dry run.
///
/// # Errors
/// Anything wrong with options, networks, pictures or the output.
pub fn train(given: Options, place: Place) -> Result<Option<PathBuf>> {
    train_together(given, place, false, Team::alone())
}

/// Makes sure that runs of these names and options, which share their networks, could begin; nothing is trained.
///
/// # Errors
/// Networks that cannot be loaded, options that do not fit them, or pictures that are not there; the message names the run.
pub fn check_runs(runs: &[(String, Options)]) -> Result<()> {
    let Some((_, first)) = runs.first() else { return Ok(()) };
    let networks = files_of(first)?.load(FreezeSettings::default(), device_of(first)?)?;
    let facts = NetworkFacts::from_pair(&networks.g, &networks.d);
    for (name, options) in runs {
        let context = || format!("the arm '{name}'");
        let options = options.clone().with_absolute_paths().with_context(context)?;
        freeze_settings(&options).with_context(context)?;
        let settings = RunSettings::resolve(&options, facts).with_context(context)?;
        Pictures::open(&settings.data).with_context(context)?;
    }
    Ok(())
}

fn train_together(given: Options, place: Place, dry_run: bool, team: Team) -> Result<Option<PathBuf>> {
    let start = prepare(given, place, dry_run, team)?;
    if dry_run {
        let effective = serde_json::to_string_pretty(start.settings.effective()).context("cannot show the options")?;
        start.remarks.iter().for_each(say);
        println!("{effective}");
        return Ok(None);
    }
    finetune(start).map(Some)
}

/// Loads networks and pictures, and makes sure that they, the options and the output fit together.
fn prepare(given: Options, place: Place, dry_run: bool, mut team: Team) -> Result<Start> {
    let sources = Sources::find(given, place)?;
    if !dry_run {
        team.join_as_first(&sources.plan)?;
    }
    load(sources, team)
}

/// Loads what the sources name, in each of the processes.
fn load(sources: Sources, team: Team) -> Result<Start> {
    let Sources { plan: TrainingPlan { mut options, files, goes_on }, folder, resume, mut remarks } = sources;
    let device = team.device(options.device.as_deref())?;
    let begun = Instant::now();
    let networks = files.load(freeze_settings(&options)?, device)?;
    detail(format!("networks loaded and tried out: {:.2} s", begun.elapsed().as_secs_f64()));
    let facts = NetworkFacts { processes: team.planned, ..NetworkFacts::from_pair(&networks.g, &networks.d) };
    if goes_on {
        remarks.extend(fit_micro_batch(&mut options, facts));
    }
    let settings = RunSettings::resolve(&options, facts)?;
    settings.arithmetic.apply();
    if resume.is_none() && team.is_first() {
        folder::check(&settings.outdir, &settings.data)?;
    }
    let begun = Instant::now();
    let (dataset, report) = Dataset::open(
        &settings.data,
        &DatasetOptions {
            resolution: facts.resolution as u32,
            channels: networks.g.img_channels() as u32,
            cache_bytes: None,
            subset: settings.subset,
            class_count: networks.g.c_dim() as u32,
        },
    )?;
    detail(format!("pictures listed and read: {:.2} s", begun.elapsed().as_secs_f64()));
    // The first process alone looks at signals while it measures, and ends the measuring for all.
    let stop = if team.is_first() { StopRequest::listen()? } else { StopRequest::default() };
    let world = Rc::new(team.world);
    let evaluator = Evaluator::new(&settings, &dataset, &networks.g_ema, &world, &stop)?;
    remarks.extend([format!("device: {}", device::name(device)), in_short(&settings, facts)]);
    remarks.extend(report.summary());
    remarks.extend(notes(&settings, facts, &dataset));
    match &resume {
        Some(resumed) => {
            remarks.extend(resumed.derived_anew(&options, &settings)?);
            remarks.extend(resumed.check(&settings, &dataset, device, team.planned)?);
        }
        None => rehearse(&networks, &settings.train)?,
    }
    let bad_pictures = report.unreadable_lines().collect();
    let launch = team.launch;
    Ok(Start { settings, launch, world, networks, dataset, evaluator, remarks, bad_pictures, folder, resume })
}

/// The plan of a run, and the run that it goes on from.
struct Sources {
    plan: TrainingPlan,
    folder: Option<PathBuf>,
    resume: Option<Resumed>,
    remarks: Vec<String>,
}

impl Sources {
    fn find(given: Options, place: Place) -> Result<Self> {
        // A run may be resumed from another working directory, so paths are made absolute.
        let options = given.with_absolute_paths()?;
        let new = |options: Options, folder| -> Result<Self> {
            let files = files_of(&options)?;
            let plan = TrainingPlan { options, files, goes_on: false };
            Ok(Self { plan, folder, resume: None, remarks: Vec::new() })
        };
        match place {
            Place::New => new(options, None),
            Place::Folder(folder) => new(options, Some(folder)),
            Place::Resume { folder, allow_changes } => {
                let (resumed, damaged) = Resumed::open(&folder)?;
                let (options, changes) = resumed.options(options, allow_changes)?;
                let files = NetworkFiles { z_dim: options.z_dim, ..resumed.files()? };
                let remarks = damaged.into_iter().chain(changes).collect();
                let plan = TrainingPlan { options, files, goes_on: true };
                Ok(Self { plan, folder: None, resume: Some(resumed), remarks })
            }
        }
    }
}

/// Lowers the micro-batch of a run that goes on with more processes than before, where their shares of a batch are no
/// multiple of it; returns a line about it.
fn fit_micro_batch(options: &mut Options, facts: NetworkFacts) -> Option<String> {
    let (batch, micro_batch) = (options.batch?, options.micro_batch?);
    let (processes, share) = (facts.processes, batch / facts.processes);
    if share == 0 || !batch.is_multiple_of(processes) || share.is_multiple_of(micro_batch.max(1)) {
        return None;
    }
    let fitting = possible_micro_batches(share, facts.mbstd_group_size, micro_batch).next()?;
    options.micro_batch = Some(fitting);
    Some(format!(
        "each of {processes} processes has {share} images of a batch: going on with --micro-batch {fitting}, which draws \
         other random numbers than {micro_batch}"
    ))
}

/// Returns the device that the options name, the first GPU or the CPU where they name none.
///
/// # Errors
/// There is no such device.
pub fn device_of(options: &Options) -> Result<Device> {
    device::parse(options.device.as_deref().unwrap_or("auto"))
}

/// Replaces `--from` by the networks that it means. An address is downloaded and a checkpoint imported, which writes
/// the cache: call it before the program loses that right.
///
/// # Errors
/// The networks cannot be found, or others are given as well.
pub fn with_networks(mut options: Options) -> Result<Options> {
    let Some(from) = options.from.take() else {
        ensure!(options.sha256.is_none(), "--sha256 belongs to --from");
        return Ok(options);
    };
    ensure!(
        options.generator.is_none() && options.generator_raw.is_none(),
        "--from brings its own generator; pass it without --generator and --generator-raw"
    );
    let source = Source::find(&from, options.sha256.take().as_deref())?;
    options.generator = Some(source.generator()?);
    options.generator_raw = source.generator_raw()?;
    if options.generator_raw.is_some() {
        say("training goes on from the generator in training; pictures are made with its average");
    }
    options.discriminator = match (options.discriminator.take(), source.discriminator()?) {
        (Some(given), _) => Some(given),
        (None, Some(found)) => Some(found),
        (None, None) => bail!(
            "cannot finetune '{}': it has no discriminator; pass the one of another checkpoint of the same resolution, channels \
             and labels as --discriminator, or an untrained one (rootgan new)",
            from.display()
        ),
    };
    Ok(options)
}

fn files_of(options: &Options) -> Result<NetworkFiles> {
    let (Some(generator), Some(discriminator)) = (&options.generator, &options.discriminator) else {
        bail!(
            "cannot start: pass the networks to start from as --from SOURCE, or as --generator G.pt and --discriminator D.pt"
        );
    };
    Ok(NetworkFiles {
        generator: generator.clone(),
        generator_raw: options.generator_raw.clone(),
        discriminator: discriminator.clone(),
        z_dim: options.z_dim,
    })
}

/// Collects remarks on what a user may not expect.
fn notes(settings: &RunSettings, facts: NetworkFacts, dataset: &Dataset) -> Vec<String> {
    let mut notes = Vec::new();
    if settings.precision.kind == PrecisionKind::Fp16 && !facts.on_cuda {
        notes.push("fp16 is many times slower than fp32 on a CPU; bf16 is the 16-bit type for CPUs".to_owned());
    }
    let (batch, micro_batch) = (settings.train.batch, settings.train.micro_batch);
    if let Some(bytes) = facts.memory.device_bytes.filter(|_| micro_batch < batch) {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let estimate = |images| gigabytes(facts.memory.estimate(images, settings.precision.kind));
        notes.push(format!(
            "micro-batches of {micro_batch} images take about {:.0} GB of the GPU's {:.0}, {batch} would take {:.0}; --micro-batch \
             chooses",
            estimate(micro_batch),
            gigabytes(bytes),
            estimate(batch)
        ));
    }
    if !facts.has_ws {
        let path = settings.effective().generator.as_deref().unwrap_or(Path::new("")).display();
        notes.push(format!("'{path}' only takes z: path-length regularisation and style mixing are off"));
    }
    if dataset.labels().is_none() && Labels::are_there(dataset.pictures()) {
        notes.push("the labels of dataset.json are not used: the networks were made without classes".to_owned());
    }
    notes
}

/// Formats the options that the preset and the defaults led to.
fn in_short(settings: &RunSettings, facts: NetworkFacts) -> String {
    let o = settings.effective();
    let ada = o.ada_kimg.map_or_else(String::new, |kimg| format!(", ada_kimg {kimg}"));
    let rampup =
        o.ema_rampup.filter(|&share| share > 0.0).map_or_else(String::new, |share| format!(", ema_rampup {share}"));
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    format!(
        "cfg {}, {} at {size}x{size}: batch {}, g_lr {}, d_lr {}, r1_gamma {}, pl_weight {}, style_mixing {}, ema_kimg {}{rampup}{ada}, {}",
        o.cfg.as_deref().unwrap_or("auto"),
        if facts.is_random { "training from scratch" } else { "a transfer" },
        settings.train.batch,
        number(o.g_lr),
        number(o.d_lr),
        number(o.r1_gamma),
        number(o.pl_weight),
        number(o.style_mixing),
        number(o.ema_kimg),
        settings.precision.kind.name(),
        size = facts.resolution,
    )
}
