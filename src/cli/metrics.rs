//! `rootgan metrics`: measures FID and its relatives, of a generator, of folders, or of saved features.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tch::Device;

use crate::cli::args::{GeneratorArgs, class_counts};
use crate::cli::confine::{write_only_to, write_only_to_and_cache};
use crate::files::bounded::read_text;
use crate::latent::picture_source::{DumpDraws, PictureSource};
use crate::metrics::{
    Detector, Detectors, EvaluateSettings, Evaluation, Fakes, FeatureCache, FeatureSet, Outcome, RealPictures, outcome,
    parse_list,
};
use crate::model::Generator;
use crate::run::snapshot::Network;
use crate::source::Source;
use crate::system::ui::{harmless, say};
use crate::tensor::labels::ClassDistribution;

/// Measure pictures or a generator against real pictures.
#[derive(Debug, clap::Args)]
pub struct MetricsArgs {
    /// Metrics, separated by commas: fid50k_full, kid50k, pr50k3, dc50k5, is50k, ppl2_wend, with any number in
    /// place of 50k; _full compares with all real pictures, otherwise with as many as there are fakes
    /// [default: fid50k_full]
    #[arg(long, value_name = "NAMES")]
    pub metrics: Option<String>,
    /// The generator whose fakes are measured.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// Fakes in a folder or zip
    #[arg(long, value_name = "DIR_OR_ZIP")]
    pub fakes: Option<PathBuf>,
    /// Fakes as features, from --save-features or --save-moments, or .npz
    #[arg(long, value_name = "FILE")]
    pub fakes_features: Option<PathBuf>,
    /// Real pictures
    #[arg(long, value_name = "DIR_OR_ZIP")]
    pub data: Option<PathBuf>,
    /// Real pictures as features
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub data_features: Option<PathBuf>,
    /// Network of features (TorchScript): the Inception file, or one of rootgan detector
    #[arg(long, value_name = "FILE.pt")]
    pub detector: Option<PathBuf>,
    /// Second detector, for precision, recall, density, coverage and path length [default: that of --detector]
    #[arg(long, value_name = "FILE.pt")]
    pub vgg_detector: Option<PathBuf>,
    /// Take detectors, cache and metrics from a JSON file whose keys are these flags; flags given here win
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// Side in pixels to crop and resize pictures to, where no generator says their size [default: their own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub resolution: Option<u32>,
    /// Seed of the fakes, as for dump, and of the subsets of KID
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Draw classes as often as these pictures have them [default: as the training pictures had them]
    #[arg(long, value_name = "DIR_OR_ZIP", conflicts_with = "class")]
    pub labels_of: Option<PathBuf>,
    /// Keep the features of both sides in this folder
    #[arg(long, value_name = "DIR")]
    pub save_features: Option<PathBuf>,
    /// Keep the moments of both sides, which a Frechet distance needs, in this folder
    #[arg(long, value_name = "DIR")]
    pub save_moments: Option<PathBuf>,
    /// Folder for metric-NAME.jsonl [default: the run of --from, otherwise none]
    #[arg(long, value_name = "DIR")]
    pub outdir: Option<PathBuf>,
    /// Print the lines of metric-NAME.jsonl
    #[arg(long)]
    pub json: bool,
    /// Folder that keeps features of real pictures between calls, by their content [default: ~/.cache/rootgan/features]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Keep no features of real pictures between calls
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
}

/// The keys of a file for `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsConfig {
    metrics: Option<String>,
    detector: Option<PathBuf>,
    vgg_detector: Option<PathBuf>,
    cache: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Options that do not fit together, pictures, networks or features that cannot be used.
pub fn run(mut args: MetricsArgs) -> Result<()> {
    let begun = Instant::now();
    if let Some(path) = args.config.take() {
        args = over_config(args, &path)?;
    }
    let metrics = parse_list(args.metrics.as_deref().unwrap_or("fid50k_full"))?;
    let device = args.generator.device()?;
    check_judged(&args)?;
    let source = args.generator.is_given().then(|| args.generator.find()).transpose()?;
    let judged = judged(&args, source.as_ref())?;
    let outdir = outdir(&args, source.as_ref())?;
    let places = [outdir.as_deref(), args.save_features.as_deref(), args.save_moments.as_deref()];
    let places: Vec<&Path> = places.into_iter().flatten().collect();
    match args.no_cache {
        true => write_only_to(&places, device),
        false => write_only_to_and_cache(&places, args.cache.as_deref(), device),
    }
    let detectors = Detectors { main: detector(&args.detector, device)?, vgg: detector(&args.vgg_detector, device)? };
    let reals = match (&args.data, &args.data_features) {
        (Some(root), _) => RealPictures::Pictures(root.clone()),
        (None, Some(file)) => RealPictures::Features(Box::new(FeatureSet::load(file)?)),
        (None, None) => RealPictures::None,
    };
    let settings = EvaluateSettings {
        resolution: args.resolution,
        batch: args.generator.batch.unwrap_or(EvaluateSettings::default().batch),
        seed: args.seed,
        cache: if args.no_cache { None } else { args.cache.clone().or_else(FeatureCache::default_folder) },
        save_features: args.save_features.clone(),
        save_moments: args.save_moments.clone(),
        ..EvaluateSettings::default()
    };
    let generator = source.as_ref().map(|source| args.generator.load(source, device)).transpose()?;
    let fakes = fakes(&args, generator.as_ref())?;
    let mut evaluation = Evaluation::new(metrics, detectors, reals, settings)?;
    let outcomes = evaluation.run(&fakes);
    evaluation.take_notices().iter().for_each(say);
    for outcome in outcomes? {
        report(&outcome, &args, &judged, outdir.as_deref(), begun)?;
    }
    Ok(())
}

fn over_config(mut args: MetricsArgs, path: &Path) -> Result<MetricsArgs> {
    let text = read_text(path)?;
    let config: MetricsConfig = serde_json::from_str(&text).with_context(|| {
        format!("cannot use '{}'; its keys are metrics, detector, vgg_detector and cache", path.display())
    })?;
    args.metrics = args.metrics.or(config.metrics);
    args.detector = args.detector.or(config.detector);
    args.vgg_detector = args.vgg_detector.or(config.vgg_detector);
    args.cache = args.cache.or(config.cache);
    Ok(args)
}

/// Lists what is measured, as the options name it.
fn given(args: &MetricsArgs) -> Vec<&PathBuf> {
    let options = [&args.generator.generator, &args.generator.origin.from, &args.fakes, &args.fakes_features];
    options.into_iter().flatten().collect()
}

/// Makes sure that exactly one thing is measured.
fn check_judged(args: &MetricsArgs) -> Result<()> {
    match given(args).as_slice() {
        [_] => Ok(()),
        [] => bail!(
            "nothing to measure: pass one of --from SOURCE, --generator G.pt, --fakes DIR_OR_ZIP and --fakes-features FILE"
        ),
        [first, second, ..] => {
            bail!("two things to measure are given, '{}' and '{}'; pass one", first.display(), second.display())
        }
    }
}

/// Returns the name of what is measured, for records.
fn judged(args: &MetricsArgs, source: Option<&Source>) -> Result<String> {
    let path = match source.and_then(Source::snapshot) {
        Some((manifest, listed)) => listed.path_of(manifest, Network::GEma)?,
        None => given(args).into_iter().next().cloned().unwrap_or_default(),
    };
    Ok(path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned()))
}

/// Makes the folder in which lines are added, and tries it before the long work.
fn outdir(args: &MetricsArgs, source: Option<&Source>) -> Result<Option<PathBuf>> {
    let folder = args.outdir.as_deref().or_else(|| source?.run()).map(Path::to_owned);
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder)
            .and_then(|()| tempfile::tempfile_in(folder))
            .with_context(|| format!("cannot write into the folder '{}'; pass another --outdir", folder.display()))?;
    }
    Ok(folder)
}

fn detector(path: &Option<PathBuf>, device: Device) -> Result<Option<Detector>> {
    path.as_deref().map(|path| Detector::load(path, device)).transpose()
}

fn fakes<'g>(args: &MetricsArgs, generator: Option<&'g Generator>) -> Result<Fakes<'g>> {
    let Some(generator) = generator else {
        let labels = args.generator.class.is_some() || args.labels_of.is_some();
        ensure!(!labels, "--class and --labels-of are for a generator; leave them away with pictures or features");
        return match (&args.fakes, &args.fakes_features) {
            (Some(root), _) => Ok(Fakes::Pictures(root.clone())),
            (None, Some(file)) => Ok(Fakes::Features(FeatureSet::load(file)?)),
            (None, None) => bail!("nothing to measure; pass --fakes DIR_OR_ZIP"),
        };
    };
    ensure!(
        args.resolution.is_none_or(|side| i64::from(side) == generator.img_resolution()),
        "cannot measure at another resolution than the generator's, {}; leave --resolution away",
        generator.img_resolution()
    );
    if args.generator.class.is_some() {
        generator.class_labels(args.generator.class, 1)?;
    }
    let batch = args.generator.batch_for(generator);
    let source = PictureSource::of_metric(generator, args.generator.class, batch);
    let counts = class_counts(&source, args.labels_of.as_deref())?;
    let classes = counts.and_then(|counts| ClassDistribution::new(&counts));
    Ok(Fakes::Generator(source, DumpDraws { seed: args.seed, classes }))
}

fn report(outcome: &Outcome, args: &MetricsArgs, judged: &str, outdir: Option<&Path>, begun: Instant) -> Result<()> {
    outcome.warnings.iter().for_each(say);
    let record = outcome.record(judged, begun.elapsed());
    if let Some(folder) = outdir {
        outcome::append(folder, &outcome.metric, &record)?;
    }
    match args.json {
        true => println!("{record}"),
        false => outcome.lines().iter().for_each(|line| println!("{}", harmless(line))),
    }
    Ok(())
}
