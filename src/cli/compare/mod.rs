//! `rootgan compare`: does a loss help on these pictures? One run for every loss and seed from the same weights, measured
//! alike, and a report.

mod comparison;
mod figures;
mod report;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::comparison::{Arm, Comparison, measure_of};
use self::report::{Setting, save};
use crate::cli::confine::write_only_to_and_cache;
use crate::cli::finetune::{Place, device_of, train};
use crate::config::{LossKind, Options, preset};
use crate::files::atomic::write_json;
use crate::files::bounded::read_text;
use crate::metrics::parse_list;
use crate::run::checkpoint::Checkpoints;
use crate::run::checkpoint::Resumed;
use crate::run::folder::{self, FolderLock};
use crate::system::signals::Stopped;
use crate::system::ui::say;
use crate::tensor::device;

/// The metric of a comparison where none is named.
const METRIC: &str = "fid2k_full";
const LOSSES: &str = "logistic,rooted:2,rooted:5,rooted:20";

/// Compare losses on the same pictures, weights and random draws.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Losses, separated by commas: logistic, rooted:K, or rooted:K:SLOPE with a cap on the slope
    #[arg(long, value_name = "LIST", default_value = LOSSES)]
    pub losses: String,
    /// Seeds of each loss: --seed and those after it
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// Thousands of images between two evaluations [default: a tenth of --kimg]
    #[arg(long, value_name = "KIMG")]
    pub eval_kimg: Option<f64>,
    /// Folder of the comparison; where it was interrupted, the same call goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Take options of finetune from a JSON file; flags given here win
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// The options that all runs share.
    #[command(flatten)]
    pub options: Options,
}

/// One loss of `--losses`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Loss {
    kind: LossKind,
    k: Option<f64>,
    slope_cap: Option<f64>,
}

impl FromStr for Loss {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        match parts.as_slice() {
            ["logistic"] => return Ok(Self { kind: LossKind::Logistic, k: None, slope_cap: None }),
            ["rooted", k] if number(k).is_some() => {
                return Ok(Self { kind: LossKind::Rooted, k: number(k), slope_cap: None });
            }
            ["rooted", k, cap] if number(k).is_some() && number(cap).is_some() => {
                return Ok(Self { kind: LossKind::Rooted, k: number(k), slope_cap: number(cap) });
            }
            _ => {}
        }
        bail!("'{text}' is no loss to compare; write logistic, rooted:K or rooted:K:SLOPE, as in {LOSSES}")
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LossKind::Rooted => f.write_str("rooted")?,
            LossKind::Logistic => f.write_str("logistic")?,
        }
        self.k.map_or(Ok(()), |k| write!(f, ", k = {k}"))?;
        self.slope_cap.map_or(Ok(()), |cap| write!(f, ", slope up to {cap}"))
    }
}

impl Loss {
    /// Formats it for names of folders.
    fn slug(&self) -> String {
        let kind = match self.kind {
            LossKind::Rooted => "rooted",
            LossKind::Logistic => "logistic",
        };
        let k = self.k.map_or_else(String::new, |k| k.to_string());
        let cap = self.slope_cap.map_or_else(String::new, |cap| format!("-cap{cap}"));
        format!("{kind}{k}{cap}")
    }
}

/// Runs the command.
///
/// # Errors
/// Options that do not fit, another comparison in the folder, or a run that fails.
pub fn run(args: CompareArgs) -> Result<()> {
    let plan = Plan::from_args(args)?;
    let _lock = plan.claim()?;
    let (device, mut arms) = (device_of(&plan.options)?, Vec::new());
    write_only_to_and_cache(&[&plan.out], None, device);
    let total = plan.losses.len() as u64 * plan.seeds;
    // Seed by seed: an interrupted comparison then has something to say of every loss.
    for seed in 0..plan.seeds {
        for loss in &plan.losses {
            say(format!("run {} of {total}: {loss}, seed {}", arms.len() + 1, plan.first_seed + seed));
            arms.push(plan.train_arm(loss, plan.first_seed + seed)?);
        }
    }
    arms.sort_by_key(|arm| plan.losses.iter().position(|loss| loss.to_string() == arm.loss));
    let (measure, detector) = measure_of(&arms[0].folder, &plan.metric)?;
    let comparison = Comparison { metric: plan.metric.clone(), measure, detector, arms };
    let setting = Setting { lines: plan.setting(&device::name(device)), options: plan.shared()? };
    save(&comparison, &setting, &plan.out)?;
    println!("report: {}", plan.out.join("report.md").display());
    Ok(())
}

/// The runs of a comparison, and what they share.
struct Plan {
    losses: Vec<Loss>,
    first_seed: u64,
    seeds: u64,
    metric: String,
    /// Images that each run sees.
    images: f64,
    out: PathBuf,
    options: Options,
}

impl Plan {
    fn from_args(args: CompareArgs) -> Result<Self> {
        let mut options = args.options.with_file(args.config.as_deref())?;
        ensure!(
            options.loss.is_none() && options.root_k.is_none() && options.root_slope_cap.is_none(),
            "cannot compare with --loss, --root-k or --root-slope-cap: the losses are those of --losses"
        );
        ensure!(
            options.outdir.is_none() && options.desc.is_none(),
            "the runs of a comparison lie in --out; leave --outdir and --desc away"
        );
        let preset = preset(options.cfg.as_deref().unwrap_or("auto"))?;
        ensure!(
            preset.root_slope_cap.is_none(),
            "cannot compare with --cfg {}: it caps the slope of every loss; take another, and name caps as rooted:K:SLOPE",
            options.cfg.as_deref().unwrap_or("auto")
        );
        options.kimg = options.kimg.or(preset.kimg);
        let kimg = options.kimg.context("say how long the runs are: pass --kimg")?;
        ensure!(args.seeds > 0, "cannot compare with 0 seeds; pass --seeds 1 or more");
        let losses = args.losses.split(',').map(str::parse).collect::<Result<Vec<Loss>>>()?;
        for (index, loss) in losses.iter().enumerate() {
            ensure!(!losses[..index].contains(loss), "the loss '{loss}' is there twice; name each once");
        }
        let names = options.metrics.get_or_insert_with(|| METRIC.to_owned());
        let first = parse_list(names)?.swap_remove(0);
        ensure!(
            first.formula.lower_is_better(),
            "cannot compare by {}: of the first metric less has to be better, as of fid2k_full or kid2k_full",
            first.name
        );
        options.tick_kimg = Some(args.eval_kimg.or(options.tick_kimg).unwrap_or(kimg / 10.0));
        options.snapshot_ticks = Some(1);
        options.keep_snapshots = options.keep_snapshots.or(Some(1));
        options.outdir = Some(args.out.clone());
        let first_seed = options.seed.take().unwrap_or(0);
        Ok(Self {
            losses,
            first_seed,
            seeds: args.seeds,
            metric: first.name,
            images: (kimg * 1000.0).round(),
            out: args.out,
            options,
        })
    }

    /// What has to be the same when a comparison goes on; seeds and losses may be added.
    fn shared(&self) -> Result<Value> {
        let mut options = serde_json::to_value(&self.options)?;
        if let Value::Object(options) = &mut options {
            options.retain(|name, value| !value.is_null() && !["outdir", "device"].contains(&name.as_str()));
        }
        Ok(json!({ "options": options, "first_seed": self.first_seed }))
    }

    /// Makes the folder, or makes sure that it is this comparison's.
    fn claim(&self) -> Result<FolderLock> {
        let (out, path) = (self.out.display(), self.out.join("compare.json"));
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder '{out}'; pass another --out"))?;
        let lock = folder::lock(&self.out)?;
        let wanted = self.shared()?;
        if path.exists() {
            let text = read_text(&path)?;
            let there: Value =
                serde_json::from_str(&text).with_context(|| format!("'{}' is damaged", path.display()))?;
            ensure!(
                there == wanted,
                "'{out}' holds a comparison with other options (see compare.json); pass those, or another --out"
            );
            return Ok(lock);
        }
        let mut others = fs::read_dir(&self.out)?.flatten().filter(|entry| entry.file_name() != ".lock");
        ensure!(others.next().is_none(), "'{out}' is not empty and holds no comparison; pass another --out");
        write_json(&path, &wanted)?;
        Ok(lock)
    }

    /// Trains one run to its end, from where it is.
    fn train_arm(&self, loss: &Loss, seed: u64) -> Result<Arm> {
        let folder = self.out.join(format!("{}-seed{seed}", loss.slug()));
        let context = || format!("the run '{}'", folder.display());
        let newest = Checkpoints::in_run(&folder, 1).list()?.pop().map(|checkpoint| checkpoint.seen_images);
        if newest.is_none() && folder.exists() {
            // Interrupted before its first checkpoint: nothing in it is worth keeping.
            fs::remove_dir_all(&folder).with_context(context)?;
        }
        let arm = Options {
            loss: Some(loss.kind),
            root_k: loss.k,
            root_slope_cap: loss.slope_cap,
            seed: Some(seed),
            ..self.options.clone()
        };
        // A signal ends the comparison, not just this run.
        let outcome = |outcome: Result<Option<PathBuf>>| match outcome {
            Err(error) => match error.downcast_ref::<Stopped>() {
                Some(Stopped { signal, .. }) => {
                    let message = format!("stopped by {signal} in '{}'; to go on: the same command", folder.display());
                    Err(Stopped { signal: *signal, message }.into())
                }
                None => Err(error).with_context(context),
            },
            Ok(_) => Ok(()),
        };
        let resume = || Place::Resume { folder: folder.clone(), allow_changes: false };
        match newest {
            Some(_) if self.is_complete(&folder)? => say("it is complete"),
            Some(_) => outcome(train(Options::default(), resume(), false))?,
            None => outcome(train(arm, Place::Folder(folder.clone()), false))?,
        }
        Arm::read(&loss.to_string(), seed, &folder, &self.metric)
    }

    /// Whether a run has come to its end, metrics included.
    fn is_complete(&self, folder: &Path) -> Result<bool> {
        Ok(Resumed::open(folder)?.0.record.is_complete(self.images as u64))
    }

    fn setting(&self, device: &str) -> Vec<String> {
        let o = &self.options;
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        vec![
            format!(
                "{} thousand images a run, measured every {}; {device}, {} threads; rootgan {}; {}.",
                number(o.kimg),
                number(o.tick_kimg),
                tch::get_num_threads(),
                env!("CARGO_PKG_VERSION"),
                time::OffsetDateTime::now_utc().date()
            ),
            format!("Options of all runs: `{}`.", shown(o)),
        ]
    }
}

/// Formats options as flags, without paths.
fn shown(options: &Options) -> String {
    let Ok(Value::Object(values)) = serde_json::to_value(options) else { return String::new() };
    let paths = Options::path_keys();
    let flag = |(name, value): (String, Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (!value.is_null() && !paths.contains(&name.as_str())).then(|| format!("--{} {text}", name.replace('_', "-")))
    };
    values.into_iter().filter_map(flag).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_and_named() {
        let names =
            |text: &str| text.split(',').map(|loss| loss.parse::<Loss>().unwrap().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names("logistic,rooted:2,rooted:5:10"),
            ["logistic", "rooted, k = 2", "rooted, k = 5, slope up to 10"]
        );
        for text in ["", "rooted", "rooted:0", "rooted:x", "hinge", "rooted:2:0", "logistic:2"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }
}
