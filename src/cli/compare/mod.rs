//! `rootgan compare`: says whether a loss, or any other option, helps on these pictures. It trains one run for every
//! arm and seed from the same weights, measures all alike, and writes a report.

mod arm_run;
mod figures;
pub mod help;
mod recipe;
mod report;
pub mod tune;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use self::arm_run::{ArmRun, Claim, Ended, claim, common, object, prepare, shown};
use self::recipe::{Recipe, arms_of};
use self::report::{Setting, save, save_index};
use crate::cli::confine::write_only_to_and_cache;
use crate::cli::finetune::{check_runs, with_networks};
use crate::cli::processes;
use crate::cli::team::Team;
use crate::cli::version::VERSION;
use crate::config::{Options, preset_of};
use crate::run::comparison::{Arm, Comparison, is_times_as_bad, measure_of};
use crate::system::ui::say;
use crate::tensor::device;
use crate::tensor::world::World;

/// Compare losses, or any options, on the same pictures, weights and random draws.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Losses, separated by commas: logistic, rooted:K, or rooted:K:SLOPE with a cap on the slope; all judge images one by one, or
    /// with --pairing relativistic in pairs
    /// [default: logistic,rooted:2,rooted:5,rooted:20, unless there is an --arm or --vary]
    #[arg(long, value_name = "LIST")]
    pub losses: Option<String>,
    /// Another arm: a name and the options of finetune that are its own, as in "k20: --loss rooted --root-k 20 --r1-gamma 2".
    /// The first arm is what the others are compared with, unless one is called logistic; may be repeated
    #[arg(long = "arm", value_name = "NAME: FLAGS", action = clap::ArgAction::Append)]
    pub arms: Vec<String>,
    /// Turn each arm into one for each value of an option, as in r1_gamma=0.5,1,2,5; the first is what the others are compared with.
    /// Without --losses and --arm, the options of the call are the one arm; may be repeated
    #[arg(long, value_name = "OPTION=VALUES", action = clap::ArgAction::Append)]
    pub vary: Vec<String>,
    /// Another data set on which every arm is trained too; may be repeated
    #[arg(long, value_name = "DIR_OR_ZIP", action = clap::ArgAction::Append)]
    pub more_data: Vec<PathBuf>,
    /// Seeds of each arm: --seed and those after it
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// Thousands of images between two evaluations [default: a tenth of --kimg]
    #[arg(long, value_name = "KIMG")]
    pub eval_kimg: Option<f64>,
    /// End a run at half of --kimg if its metric is then more than FACTOR (above 1) times that of the first arm with the same seed
    #[arg(long, value_name = "FACTOR")]
    pub stop_hopeless: Option<f64>,
    /// Train the runs in N processes, each on CPU cores or a GPU of its own
    #[arg(long, value_name = "N")]
    pub processes: Option<u64>,
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

/// Runs the command.
///
/// # Errors
/// Options that do not fit, another comparison in the folder, or a run that fails.
pub fn run(args: CompareArgs) -> Result<()> {
    let mut team = Team::from_env()?;
    ensure!(
        args.stop_hopeless.is_none() || args.processes.unwrap_or(team.planned) == 1,
        "--stop-hopeless compares each run with the first arm's, which another process may be training; leave it away, or train in one \
         process"
    );
    if let Some(count) = args.processes {
        return processes::run(count);
    }
    let mut plan = Plan::from_args(args)?;
    let shared = plan.shared()?;
    let device = team.device(plan.options.device.as_deref())?;
    // One process after the other, so that networks are imported once.
    let claimed = if team.is_first() { Some(claim(&plan.out, &shared, &plan.named()?)?) } else { None };
    team.join()?;
    for rank in 0..team.planned {
        if rank == team.world.rank() {
            plan.options = with_networks(std::mem::take(&mut plan.options))?;
        }
        team.world.gather(&[])?;
    }
    write_only_to_and_cache(&[&plan.out], None, device);
    let _lock = match claimed {
        Some(claimed) => {
            plan.check_folder(&claimed)?;
            plan.check()?;
            Some(claimed.record()?)
        }
        None => None,
    };
    team.world.gather(&[])?;
    if team.planned > 1 {
        plan.options.device = Some(device::name(device));
        plan.train_by_rank(&team.world)?;
        if !team.is_first() {
            return Ok(());
        }
    }
    let mut comparisons = Vec::new();
    for set in plan.sets() {
        let arms = plan.train_set(&set)?;
        let finished = arms.iter().find(|arm| !arm.points.is_empty()).context("no run came as far as an evaluation")?;
        let (measure, detector) = measure_of(&finished.folder, &plan.metric)?;
        let comparison = Comparison { metric: plan.metric.clone(), measure, detector, arms };
        let setting = Setting { lines: plan.setting(&set, &device::name(device))?, options: json!(shared) };
        save(&comparison, &setting, &set.folder)?;
        comparisons.push((set.name, comparison));
    }
    if comparisons.len() > 1 {
        save_index(&comparisons, &plan.out)?;
    }
    println!("report: {}", plan.out.join("report.md").display());
    Ok(())
}

/// One data set of a comparison.
struct Set {
    name: String,
    data: Option<PathBuf>,
    folder: PathBuf,
}

/// The runs of a comparison, and what they share.
struct Plan {
    arms: Vec<Recipe>,
    first_seed: u64,
    seeds: u64,
    metric: String,
    kimg: f64,
    stop_hopeless: Option<f64>,
    more_data: Vec<PathBuf>,
    out: PathBuf,
    options: Options,
}

impl Plan {
    fn from_args(args: CompareArgs) -> Result<Self> {
        let mut options = args.options.with_file(args.config.as_deref())?;
        let preset = preset_of(&options)?;
        let pairing = options.pairing.or(preset.pairing).unwrap_or_default();
        let mut arms = arms_of(args.losses.as_deref(), pairing, &args.arms, &args.vary)?;
        // The record and the report say it, so that they stay true where the default changes.
        for arm in &mut arms {
            arm.options.pairing = Some(arm.options.clone().over(options.clone()).effective_pairing()?);
        }
        if arms.iter().any(|arm| arm.options.loss.is_some()) {
            ensure!(
                options.loss.is_none() && options.root_k.is_none() && options.root_slope_cap.is_none(),
                "cannot compare with --loss, --root-k or --root-slope-cap: the losses are those of --losses and --arm"
            );
        }
        ensure!(
            preset.root_slope_cap.is_none(),
            "cannot compare with --cfg {}: it caps the slope of every loss; take another, and name caps as rooted:K:SLOPE",
            options.cfg.as_deref().unwrap_or("auto")
        );
        options.kimg = options.kimg.or(preset.kimg);
        let kimg = options.kimg.context("say how long the runs are: pass --kimg")?;
        ensure!(args.seeds > 0, "cannot compare with 0 seeds; pass --seeds 1 or more");
        ensure!(
            args.stop_hopeless.is_none_or(|factor| factor > 1.0),
            "--stop-hopeless must be above 1: a run is ended where its metric is so many times that of the first arm"
        );
        let eval_kimg = args.eval_kimg.or(options.tick_kimg).unwrap_or(kimg / 10.0);
        let metric = prepare(&mut options, &args.out, Some(eval_kimg))?;
        let first_seed = options.seed.take().unwrap_or(0);
        Ok(Self {
            arms,
            first_seed,
            seeds: args.seeds,
            metric,
            kimg,
            stop_hopeless: args.stop_hopeless,
            more_data: args.more_data,
            out: args.out,
            options,
        })
    }

    /// Lists the data sets: a single one lies in the folder of the comparison itself, several in folders of their
    /// names.
    fn sets(&self) -> Vec<Set> {
        if self.more_data.is_empty() {
            return vec![Set { name: String::new(), data: self.options.data.clone(), folder: self.out.clone() }];
        }
        let mut sets: Vec<Set> = Vec::new();
        for data in self.options.data.iter().chain(&self.more_data) {
            let stem = data.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let numbered = (2..).map(|number| format!("{stem}-{number}"));
            let is_free = |name: &String| sets.iter().all(|set| set.name != *name);
            let name = std::iter::once(stem.clone()).chain(numbered).find(is_free).unwrap_or_default();
            sets.push(Set { folder: self.out.join(&name), name, data: Some(data.clone()) });
        }
        sets
    }

    /// Returns what has to be the same when a comparison goes on; seeds, arms and data sets may be added.
    fn shared(&self) -> Result<Map<String, Value>> {
        Ok(object([("options", common(&self.options)?), ("first_seed", json!(self.first_seed))]))
    }

    /// Returns what has a name in the folder: the arms with their options, and the folders of several data sets.
    fn named(&self) -> Result<[(&'static str, Map<String, Value>); 2]> {
        let arms = self.arms.iter().map(|arm| Ok((arm.slug.clone(), common(&arm.options)?)));
        let sets = self.sets().into_iter().filter(|set| !set.name.is_empty()).map(|set| (set.name, json!(set.data)));
        Ok([("arms", arms.collect::<Result<_>>()?), ("sets", sets.collect())])
    }

    fn seeds(&self) -> Range<u64> {
        self.first_seed..self.first_seed + self.seeds
    }

    /// Returns one run, with its folder and options.
    fn arm_run(&self, recipe: &Recipe, seed: u64, set: &Set) -> ArmRun {
        ArmRun {
            folder: set.folder.join(format!("{}-seed{seed}", recipe.slug)),
            options: Options {
                seed: Some(seed),
                data: set.data.clone(),
                outdir: Some(set.folder.clone()),
                ..recipe.options.clone().over(self.options.clone())
            },
        }
    }

    /// Makes sure that the runs lie where an earlier call put them, and tells which arms of it are left out now.
    fn check_folder(&self, claimed: &Claim) -> Result<()> {
        let (Some(sets), Some(arms)) = (claimed.names_before("sets"), claimed.names_before("arms")) else {
            return Ok(());
        };
        let one_or_more = |has_more: bool| if has_more { "several data sets" } else { "one data set" };
        let (before, now) = (!sets.is_empty(), !self.more_data.is_empty());
        ensure!(
            before == now,
            "'{}' holds a comparison on {}, whose runs lie elsewhere than those of one on {}; pass another --out",
            self.out.display(),
            one_or_more(before),
            one_or_more(now)
        );
        let left_out: Vec<_> = arms.into_iter().filter(|slug| self.arms.iter().all(|arm| arm.slug != *slug)).collect();
        if !left_out.is_empty() {
            say(format!(
                "the report leaves {} out, which an earlier call trained; name all arms to have them in it",
                left_out.join(", ")
            ));
        }
        Ok(())
    }

    /// Makes sure that every arm that is not trained yet could begin on every data set, so that a mistake in the last one is told
    /// before the first is trained.
    fn check(&self) -> Result<()> {
        let mut begin = Vec::new();
        for set in self.sets() {
            for recipe in &self.arms {
                for seed in self.seeds() {
                    let run = self.arm_run(recipe, seed, &set);
                    if run.trained_kimg()? < self.kimg {
                        begin.push((recipe.name.clone(), run.options));
                        break;
                    }
                }
            }
        }
        check_runs(&begin)
    }

    /// Trains the runs whose numbers are this process's, and waits for the others'.
    fn train_by_rank(&self, world: &World) -> Result<()> {
        let (sets, seeds) = (self.sets(), self.seeds());
        let runs = sets
            .iter()
            .flat_map(|set| seeds.clone().flat_map(move |seed| self.arms.iter().map(move |arm| (set, seed, arm))));
        for (number, (set, seed, recipe)) in (0..).zip(runs) {
            if number % world.size() == world.rank() {
                say(format!("process {}: {}, seed {seed}", world.rank(), recipe.name));
                self.train_arm(recipe, seed, set, None)?;
            }
        }
        world.gather(&[]).map(drop)
    }

    /// Trains every arm on a data set, seed by seed, so that an interrupted comparison has something to say of every
    /// arm.
    fn train_set(&self, set: &Set) -> Result<Vec<Arm>> {
        let (mut arms, total) = (Vec::<Arm>::new(), self.arms.len() as u64 * self.seeds);
        for seed in self.seeds() {
            let first = arms.len();
            for recipe in &self.arms {
                let of_set = if set.name.is_empty() { String::new() } else { format!(" on {}", set.name) };
                say(format!("run {} of {total}{of_set}: {}, seed {seed}", arms.len() + 1, recipe.name));
                arms.push(self.train_arm(recipe, seed, set, arms.get(first))?);
            }
        }
        arms.sort_by_key(|arm| self.arms.iter().position(|recipe| recipe.name == arm.name));
        Ok(arms)
    }

    /// Trains one run to its end, from where it is. `first` is the first arm with the same seed.
    fn train_arm(&self, recipe: &Recipe, seed: u64, set: &Set, first: Option<&Arm>) -> Result<Arm> {
        let run = self.arm_run(recipe, seed, set);
        fs::create_dir_all(&set.folder)
            .with_context(|| format!("cannot make the folder '{}'", set.folder.display()))?;
        // What fell apart stays so, but what was stopped is judged anew, as --stop-hopeless may be another one now.
        let mut ended = run.ended()?.filter(|ended| ended.collapsed);
        let half = self.kimg / 2.0;
        if let (None, Some(factor), Some(first)) = (&ended, self.stop_hopeless, first)
            && run.trained_kimg()? < self.kimg
        {
            ended = run.train_to(half)?;
            if let (None, Some(value), Some(level)) =
                (&ended, run.read_arm(&recipe.name, seed, &self.metric, None)?.value_at(half), first.value_at(half))
                && is_times_as_bad(value, factor, level)
            {
                let why = format!("it was at {value:.3} at half of the images, the first arm at {level:.3}");
                ended = Some(run.end(Ended { collapsed: false, why })?);
            }
        }
        if ended.is_none() {
            ended = run.train_to(self.kimg)?;
        }
        if let Some(ended) = &ended {
            say(format!("'{}' is not trained to its end: {}", run.folder.display(), ended.why));
        }
        run.read_arm(&recipe.name, seed, &self.metric, ended)
    }

    /// Says how the runs of a data set were made. The report may be of another program than the runs.
    fn setting(&self, set: &Set, device: &str) -> Result<Vec<String>> {
        let o = &self.options;
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let data = set.data.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let runs = self.arms.iter().flat_map(|arm| self.seeds().map(|seed| self.arm_run(arm, seed, set)));
        let programs = runs.map(|run| run.trained_by()).collect::<Result<BTreeSet<_>>>()?;
        let programs: Vec<String> = programs.into_iter().flatten().collect();
        let trained_by = match &programs[..] {
            [] => String::new(),
            programs => format!(" Trained by {}.", programs.join("; ")),
        };
        let mut lines = vec![
            format!(
                "{} thousand images a run of '{data}', measured every {}; {device}.{trained_by} Report of rootgan {}, {}.",
                number(o.kimg),
                number(o.tick_kimg),
                VERSION,
                time::OffsetDateTime::now_utc().date()
            ),
            format!("Options of all runs: `{}`.", shown(o)),
        ];
        if let Some(factor) = self.stop_hopeless {
            lines.push(format!(
                "A run is stopped where its metric is {factor} times that of the first arm at half of the images."
            ));
        }
        let own = self.arms.iter().map(|arm| format!("{}: `{}`", arm.name, shown(&arm.options)));
        lines.push(format!("Options of each arm: {}.", own.collect::<Vec<_>>().join("; ")));
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sets_have_folders_of_their_own() {
        let mut plan = Plan {
            arms: Vec::new(),
            first_seed: 0,
            seeds: 1,
            metric: String::new(),
            kimg: 1.0,
            stop_hopeless: None,
            more_data: ["cats", "old/cats.zip", "dogs"].map(PathBuf::from).to_vec(),
            out: "out".into(),
            options: Options { data: Some("cats-2".into()), ..Options::default() },
        };
        let names: Vec<String> = plan.sets().into_iter().map(|set| set.name).collect();
        assert_eq!(names, ["cats-2", "cats", "cats-3", "dogs"]);
        assert_eq!(plan.named().unwrap()[1].1["cats-3"], "old/cats.zip");
        plan.more_data.clear();
        assert!(plan.named().unwrap()[1].1.is_empty());
    }
}
