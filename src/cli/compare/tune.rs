//! `rootgan tune`: which R1 gamma, and which learning rate, suit these pictures? Short runs that race: after a quarter and a
//! half of the images the worse half of them ends.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::arm_run::{ArmRun, claim, common, object, prepare, shown, values_of};
use super::figures::{Spread, Verdict, number};
use super::recipe::Recipe;
use super::report::{Setting, save};
use crate::cli::confine::write_only_to_and_cache;
use crate::cli::finetune::{check_runs, device_of, with_networks};
use crate::config::{Options, preset_of};
use crate::files::bounded::read_text;
use crate::run::comparison::{Arm, Comparison, measure_of};
use crate::system::ui::{say, shell_command};
use crate::tensor::device;

/// The shares of the images after which the worse half ends.
const ROUNDS: [f64; 3] = [0.25, 0.5, 1.0];
/// The share of a metric by which two runs differ that only differ in their seeds; it stands in for the spread where there is
/// one seed. Over three seeds the standard deviation was 0.11 of the mean (the median of 70 evaluations,
/// docs/objectives.md), and that of a difference of two runs is sqrt(2) times as large.
const SEEDS_DIFFER: f64 = 0.15;

/// Find the R1 gamma and learning rate for these pictures, by short runs that race.
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// Weights of R1 to try, separated by commas; auto is the rule that finetune goes by
    #[arg(long, value_name = "LIST", default_value = "auto,0.5,2,8,32")]
    pub gammas: String,
    /// Factors on both learning rates to try with the best gamma, as in 0.5,2 [default: none]
    #[arg(long, value_name = "LIST")]
    pub rates: Option<String>,
    /// Seeds of each run: --seed and those after it. More of them tell more surely, and take as much longer
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seeds: u64,
    /// Folder of the runs; where it was interrupted, the same call goes on
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
/// Options that do not fit, another search in the folder, or a run that fails.
pub fn run(args: TuneArgs) -> Result<()> {
    ensure!(args.seeds > 0, "cannot tune with 0 seeds; pass --seeds 1 or more");
    let mut options = args.options.with_file(args.config.as_deref())?;
    let given = options.clone();
    ensure!(
        options.r1_gamma.is_none(),
        "cannot tune --r1-gamma where it is given, here or in --config; leave it away there and name values to try with --gammas"
    );
    options.kimg = options.kimg.or(Some(8.0));
    let kimg = options.kimg.unwrap_or(8.0);
    // The record and the report say it, so that they stay true where the default changes.
    options.pairing = Some(options.effective_pairing()?);
    let metric = prepare(&mut options, &args.out, Some(kimg / 8.0))?;
    let gammas = gammas_of(&args.gammas, preset_of(&options)?.r1_gamma)?;
    let factors = args.rates.as_deref().map(factors_of).transpose()?;
    let wanted = object([("tune", json!({ "options": common(&options)?, "seeds": args.seeds }))]);
    let claimed = claim(&args.out, &wanted, &[])?;
    let first_seed = options.seed.take().unwrap_or(0);
    let device = device_of(&options)?;
    let options = with_networks(options)?;
    write_only_to_and_cache(&[&args.out], None, device);
    let mut race = Race {
        out: args.out.clone(),
        options,
        kimg,
        metric,
        device: device::name(device),
        seeds: first_seed..first_seed + args.seeds,
        arms: Vec::new(),
        verdicts: Vec::new(),
    };
    let new = gammas.iter().filter(|recipe| !race.folder(recipe, first_seed).exists());
    check_runs(&new.map(|recipe| (recipe.name.clone(), race.options_of(recipe, first_seed))).collect::<Vec<_>>())?;
    let _lock = claimed.record()?;

    let mut best = race.run(gammas)?;
    if let Some(factors) = factors {
        best = race.run(rates_of(&factors, &best, &race)?)?;
    }
    let mut found = vec![format!("best: {}", best.name)];
    found.extend(race.verdicts.iter().map(|verdict| format!("      {}", verdict.words)));
    found.push(format!("use:  {}", race.command_of(&best, &given)?));
    // What is as good as the best gamma need not be as good as the best rate.
    if let Some(equal) = race.verdicts.last().and_then(|verdict| verdict.equal.as_ref()) {
        found.push(format!("or:   {}", race.command_of(equal, &given)?));
    }
    race.report(&found)?;
    println!("report: {}", args.out.join("report.md").display());
    found.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// The runs of a search.
struct Race {
    out: PathBuf,
    options: Options,
    kimg: f64,
    metric: String,
    /// Name of the device, for the report.
    device: String,
    seeds: std::ops::Range<u64>,
    /// What every run came to, in the order in which they were first trained.
    arms: Vec<Arm>,
    /// How the best of each race stands to its first recipe, where that is another one.
    verdicts: Vec<FirstAgainstBest>,
}

/// How the best of a race stands to its first recipe.
#[derive(Debug)]
struct FirstAgainstBest {
    words: String,
    /// The first recipe, where it is as good.
    equal: Option<Recipe>,
}

/// What a recipe came to.
struct RaceResult {
    recipe: Recipe,
    /// The metric of each seed; NaN for a run that fell apart.
    values: Vec<f64>,
}

impl RaceResult {
    /// Mean and spread over the seeds; NaN where a run fell apart.
    fn spread(&self) -> Spread {
        Spread::from_values(&self.values)
    }

    fn mean(&self) -> f64 {
        self.spread().mean
    }
}

/// Says how the best of sorted results stands to the first recipe, where that is another one.
fn first_against_best(results: &[RaceResult], first: &Recipe) -> Option<FirstAgainstBest> {
    let best = results.first()?;
    let level = results.iter().find(|result| result.recipe.slug == first.slug)?;
    if level.mean().is_nan() {
        return Some(FirstAgainstBest { words: format!("{} fell apart", first.name), equal: None });
    }
    if best.recipe.slug == first.slug {
        return None;
    }
    let numbers = format!("{} against {}", level.spread().text(), best.spread().text());
    let (is_worse, spread) = match Verdict::between(&level.values, &best.values) {
        Verdict::Worse => (true, ""),
        Verdict::OneSeed => {
            (level.mean() > best.mean() + SEEDS_DIFFER * best.mean().abs(), "runs of two seeds differ by about 15 %")
        }
        Verdict::Within | Verdict::Better => (false, "the difference is within the spread over seeds"),
    };
    Some(match is_worse {
        true => FirstAgainstBest { words: format!("{} is worse ({numbers})", first.name), equal: None },
        false => FirstAgainstBest {
            words: format!("{} is as good ({numbers}): {spread}", first.name),
            equal: Some(first.clone()),
        },
    })
}

impl Race {
    /// Trains all of these, then the better half further, and so on; returns the best. The first one runs to the end too,
    /// because what is ahead after a few images need not stay so.
    fn run(&mut self, mut recipes: Vec<Recipe>) -> Result<Recipe> {
        let first = recipes.first().context("there is nothing to try; pass --gammas with one value or more")?.clone();
        for share in ROUNDS {
            let mut results = Vec::new();
            for recipe in std::mem::take(&mut recipes) {
                let result = RaceResult { values: self.train(&recipe, self.kimg * share)?, recipe };
                say(format!("{}: {} after {} kimg", result.recipe.name, number(result.mean()), self.kimg * share));
                results.push(result);
            }
            // What fell apart has no number, and goes last.
            results.sort_by(|a, b| a.mean().total_cmp(&b.mean()));
            let better = results.len().div_ceil(2);
            if share == 1.0 {
                self.verdicts.extend(first_against_best(&results, &first));
            }
            if !results[0].mean().is_finite() {
                self.report(&[])?;
                bail!(
                    "the arms that were left fell apart within {} kimg ('{}' has the numbers): try larger weights of R1, as in --gammas \
                     32,128,512, or lower learning rates (--g-lr, --d-lr)",
                    self.kimg * share,
                    self.out.join("report.md").display()
                );
            }
            for (place, result) in results.into_iter().enumerate() {
                if place < better || result.recipe.slug == first.slug {
                    recipes.push(result.recipe);
                } else if share < 1.0 {
                    self.drop_arm(&result.recipe, self.kimg * share);
                }
            }
        }
        Ok(recipes.swap_remove(0))
    }

    /// Records that the race went on without an arm, so that the report does not compare its end with that of longer runs.
    fn drop_arm(&mut self, recipe: &Recipe, kimg: f64) {
        for arm in self.arms.iter_mut().filter(|arm| arm.name == recipe.name && arm.ended.is_none()) {
            arm.ended = Some(format!("it was behind after {kimg} kimg"));
        }
    }

    /// Trains an arm to so many thousand images with every seed; returns the metric of each there.
    fn train(&mut self, recipe: &Recipe, kimg: f64) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for seed in self.seeds.clone() {
            let run = ArmRun { folder: self.folder(recipe, seed), options: self.options_of(recipe, seed) };
            let ended = match run.ended()? {
                Some(ended) => Some(ended),
                None => run.train_to(kimg)?,
            };
            let is_over = ended.is_some();
            let arm = run.read_arm(&recipe.name, seed, &self.metric, ended)?;
            let value = if is_over { Some(f64::NAN) } else { arm.value_from(kimg) };
            values.push(value.with_context(|| {
                format!(
                    "'{folder}' has no {} after {kimg} thousand images, as the evaluation failed (log.txt there says why); mend the \
                     cause, delete '{folder}' and call again",
                    self.metric,
                    folder = run.folder.display()
                )
            })?);
            match self.arms.iter_mut().find(|other| other.name == arm.name && other.seed == seed) {
                Some(shorter) => *shorter = arm,
                None => self.arms.push(arm),
            }
        }
        Ok(values)
    }

    fn folder(&self, recipe: &Recipe, seed: u64) -> PathBuf {
        self.out.join(format!("{}-seed{seed}", recipe.slug))
    }

    fn options_of(&self, recipe: &Recipe, seed: u64) -> Options {
        Options { seed: Some(seed), ..recipe.options.clone().over(self.options.clone()) }
    }

    /// An option of a run as it was resolved, as in the gamma of auto's rule.
    fn option_of(&self, recipe: &Recipe, key: &str) -> Result<Value> {
        let path = self.folder(recipe, self.seeds.start).join("training_options.json");
        let options: Value =
            serde_json::from_str(&read_text(&path)?).with_context(|| format!("'{}' is damaged", path.display()))?;
        Ok(options[key].clone())
    }

    /// The command line that finetunes as a recipe says, with the options `given` for all runs.
    fn command_of(&self, recipe: &Recipe, given: &Options) -> Result<String> {
        let mut found = given.clone();
        found.r1_gamma = self.option_of(recipe, "r1_gamma")?.as_f64();
        found.g_lr = recipe.options.g_lr.or(found.g_lr);
        found.d_lr = recipe.options.d_lr.or(found.d_lr);
        (found.kimg, found.metrics, found.detector) = (None, None, None);
        found.outdir = Some("runs".into());
        Ok(finetune_command(&found))
    }

    /// Writes the report; `found` are the lines that the search ends with.
    fn report(&self, found: &[String]) -> Result<()> {
        let finished =
            self.arms.iter().find(|arm| !arm.points.is_empty()).context("no run came as far as an evaluation")?;
        let (measure, detector) = measure_of(&finished.folder, &self.metric)?;
        let comparison = Comparison { metric: self.metric.clone(), measure, detector, arms: self.arms.clone() };
        let mut lines = vec![
            format!(
                "A race: all runs saw {} thousand images, the better half and the first arm {}, the best of those and the first arm {}; {}; rootgan {}; {}.",
                self.kimg * ROUNDS[0],
                self.kimg * ROUNDS[1],
                self.kimg,
                self.device,
                crate::cli::version::VERSION,
                time::OffsetDateTime::now_utc().date()
            ),
            format!("Options of all runs: `{}`.", shown(&self.options)),
        ];
        if !found.is_empty() {
            lines.push(format!("```text\n{}\n```", found.join("\n")));
        }
        save(&comparison, &Setting { lines, options: json!({}) }, &self.out)
    }
}

/// The arms of a list of gammas. `of_preset` is the gamma that a run without one takes from its preset; it is tried once.
fn gammas_of(list: &str, of_preset: Option<f64>) -> Result<Vec<Recipe>> {
    let arm = |text: &str| -> Result<Recipe> {
        let text = text.trim();
        if text == "auto" {
            let name = of_preset
                .map_or("r1_gamma = auto".to_owned(), |gamma| format!("r1_gamma = auto (the preset's {gamma})"));
            let slug = "auto".to_owned();
            return Ok(Recipe { name, slug, options: Options::default() });
        }
        let gamma = text.parse::<f64>().ok().filter(|gamma| gamma.is_finite() && *gamma >= 0.0);
        let gamma = gamma
            .with_context(|| format!("cannot try '{text}' as R1's weight; write numbers of 0 or more, or auto"))?;
        let options = Options { r1_gamma: Some(gamma), ..Options::default() };
        Ok(Recipe { name: format!("r1_gamma = {gamma}"), slug: format!("gamma{gamma}"), options })
    };
    let arms = list.split(',').map(arm).collect::<Result<Vec<_>>>()?;
    for (index, arm) in arms.iter().enumerate() {
        ensure!(
            !arms[..index].iter().any(|other| other.slug == arm.slug),
            "'{}' is there twice; name each once",
            arm.name
        );
    }
    let is_auto = |arm: &Recipe| arm.options.r1_gamma.is_none();
    let has_auto = arms.iter().any(is_auto);
    Ok(arms.into_iter().filter(|arm| is_auto(arm) || !has_auto || arm.options.r1_gamma != of_preset).collect())
}

/// The factors of a list of them.
fn factors_of(list: &str) -> Result<Vec<f64>> {
    let mut factors = Vec::new();
    for text in list.split(',').map(str::trim) {
        let factor = text.parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor > 0.0);
        let factor =
            factor.with_context(|| format!("cannot try '{text}' times the learning rate; write numbers above 0"))?;
        ensure!(factor != 1.0, "--rates {list}: the rate itself, 1, is tried in any case; leave it away");
        ensure!(!factors.contains(&factor), "--rates {list}: {factor} is there twice; name each once");
        factors.push(factor);
    }
    Ok(factors)
}

/// The best arm, and the same with other learning rates.
fn rates_of(factors: &[f64], best: &Recipe, race: &Race) -> Result<Vec<Recipe>> {
    let rate = |key: &str| -> Result<f64> { race.option_of(best, key)?.as_f64().context("a run has a learning rate") };
    let (g_lr, d_lr) = (rate("g_lr")?, rate("d_lr")?);
    let arm = |factor: &f64| Recipe {
        name: format!("{}, {factor} times the rate", best.name),
        slug: format!("{}-rate{factor}", best.slug),
        options: Options { g_lr: Some(g_lr * factor), d_lr: Some(d_lr * factor), ..best.options.clone() },
    };
    Ok(std::iter::once(best.clone()).chain(factors.iter().map(arm)).collect())
}

/// The command line of a finetuning with these options.
fn finetune_command(options: &Options) -> String {
    let mut words = vec!["rootgan".to_owned(), "finetune".to_owned()];
    for (name, text) in values_of(options) {
        words.extend([format!("--{}", name.replace('_', "-")), text]);
    }
    shell_command(words.iter().map(|word| std::ffi::OsStr::new(word.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gammas_are_numbers_or_the_rule() {
        let arms = gammas_of("auto, 0.5,8", None).unwrap();
        let gammas: Vec<_> = arms.iter().map(|arm| (arm.slug.as_str(), arm.options.r1_gamma)).collect();
        assert_eq!(gammas, [("auto", None), ("gamma0.5", Some(0.5)), ("gamma8", Some(8.0))]);
        for list in ["", "a", "-1", "1,1.0", "inf"] {
            assert!(gammas_of(list, None).is_err(), "{list}");
        }
        let names = |list: &str, of_preset| -> Vec<String> {
            gammas_of(list, of_preset).unwrap().into_iter().map(|arm| arm.name).collect()
        };
        assert_eq!(names("auto,2,8", Some(8.0)), ["r1_gamma = auto (the preset's 8)", "r1_gamma = 2"]);
        assert_eq!(names("2,8", Some(8.0)), ["r1_gamma = 2", "r1_gamma = 8"]);
    }

    #[test]
    fn factors_are_numbers_above_zero_each_once_and_not_one() {
        assert_eq!(factors_of("0.5, 2").unwrap(), [0.5, 2.0]);
        for list in ["", "0.5,x", "0", "-1", "1", "2,1.0", "2,2.0", "inf"] {
            assert!(factors_of(list).is_err(), "{list}");
        }
    }

    /// The verdict on auto and gamma 2 with these values.
    fn verdict_of(auto: &[f64], two: &[f64]) -> String {
        let recipes = gammas_of("auto,2", None).unwrap();
        let first = recipes[0].clone();
        let mut results: Vec<_> = recipes
            .into_iter()
            .zip([auto, two])
            .map(|(recipe, values)| RaceResult { recipe, values: values.to_vec() })
            .collect();
        results.sort_by(|a, b| a.mean().total_cmp(&b.mean()));
        let found = first_against_best(&results, &first);
        let is_equal =
            found.as_ref().is_some_and(|found| found.equal.as_ref().is_some_and(|equal| equal.slug == "auto"));
        let words = found.map(|found| found.words).unwrap_or_default();
        assert_eq!(is_equal, words.contains("as good"), "{words}");
        words
    }

    #[test]
    fn with_one_seed_the_first_is_as_good_within_what_seeds_differ_by() {
        assert_eq!(verdict_of(&[1.0], &[1.1]), "");
        assert_eq!(
            verdict_of(&[1.0], &[0.88]),
            "r1_gamma = auto is as good (1.00 against 0.880): runs of two seeds differ by about 15 %"
        );
        assert_eq!(verdict_of(&[1.0], &[0.86]), "r1_gamma = auto is worse (1.00 against 0.860)");
        assert_eq!(verdict_of(&[3.0], &[2.0]), "r1_gamma = auto is worse (3.00 against 2.00)");
        assert_eq!(verdict_of(&[f64::NAN], &[2.0]), "r1_gamma = auto fell apart");
    }

    #[test]
    fn with_several_seeds_the_first_is_as_good_within_their_spread() {
        assert_eq!(
            verdict_of(&[2.0, 3.0], &[1.8, 2.8]),
            "r1_gamma = auto is as good (2.50 ± 0.707 against 2.30 ± 0.707): the difference is within the spread over seeds"
        );
        // By less than the share for one seed, but by more than these seeds differ.
        assert_eq!(
            verdict_of(&[1.04, 1.06], &[1.0, 1.02]),
            "r1_gamma = auto is worse (1.05 ± 0.0141 against 1.01 ± 0.0141)"
        );
        assert_eq!(verdict_of(&[1.0, f64::NAN], &[2.0, 2.1]), "r1_gamma = auto fell apart");
    }

    #[test]
    fn the_command_can_be_pasted() {
        let options = Options { r1_gamma: Some(8.0), data: Some("my pictures".into()), ..Options::default() };
        assert_eq!(finetune_command(&options), "rootgan finetune --data 'my pictures' --r1-gamma 8.0");
    }
}
