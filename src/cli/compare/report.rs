//! Writes the files of a comparison: `results.json`, `results.csv`, plots and `report.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::figures::{PairedDifferences, Spread, Verdict, number};
use crate::draw::plot::{Line, Plot, Scale};
use crate::files::atomic::{write_atomically, write_json};
use crate::run::comparison::{Arm, Comparison, Point};

/// The circumstances of a comparison, for its report.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Paragraphs for the report: command, machine, date.
    pub lines: Vec<String>,
    /// The options that all runs share, for `results.json`.
    pub options: serde_json::Value,
}

/// Writes report, plots and results into `folder`.
///
/// # Errors
/// A file that cannot be written, or no evaluation at all.
pub fn save(comparison: &Comparison, setting: &Setting, folder: &Path) -> Result<()> {
    let results = json!({ "comparison": comparison, "setting": setting.lines, "options": setting.options });
    write_json(&folder.join("results.json"), &results)?;
    write_text(&folder.join("results.csv"), &csv(comparison))?;
    plot(comparison, "thousands of images seen (kimg)", |point| point.kimg).save(&folder.join("metric-vs-kimg"))?;
    plot(comparison, "seconds of training", |point| point.seconds).save(&folder.join("metric-vs-time"))?;
    write_text(&folder.join("report.md"), &markdown(comparison, setting))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |file| Ok(file.write_all(text.as_bytes())?))
}

fn csv(comparison: &Comparison) -> String {
    let mut text = format!("arm,seed,kimg,seconds,{}\n", comparison.metric);
    for arm in &comparison.arms {
        for point in &arm.points {
            let name = arm.name.replace('"', "\"\"");
            let _ = writeln!(text, "\"{name}\",{},{},{},{}", arm.seed, point.kimg, point.seconds, point.value);
        }
    }
    text
}

/// Plots mean and standard deviation over seeds, one line an arm. Runs without an end are left out, unless an arm has no others.
fn plot(comparison: &Comparison, x_label: &str, x: impl Fn(&Point) -> f64) -> Plot {
    let line = |(name, arms): (&str, Vec<&Arm>)| {
        let whole: Vec<&Arm> = arms.iter().copied().filter(|arm| arm.ended.is_none()).collect();
        let label = format!("{name}{}", share(whole.len(), arms.len()));
        let arms = if whole.is_empty() { arms } else { whole };
        let evaluations = arms.iter().map(|arm| arm.points.len()).min().unwrap_or(0);
        let at = |index: usize| {
            let xs: Vec<f64> = arms.iter().map(|arm| x(&arm.points[index])).collect();
            let values: Vec<f64> = arms.iter().map(|arm| arm.points[index].value).collect();
            (Spread::from_values(&xs).mean, Spread::from_values(&values))
        };
        let spreads: Vec<(f64, Spread)> = (0..evaluations).map(at).collect();
        let band = |&(x, s): &(f64, Spread)| (x, s.mean - s.deviation, s.mean + s.deviation);
        Line {
            label,
            points: spreads.iter().map(|&(x, spread)| (x, spread.mean)).collect(),
            band: if arms.len() > 1 { spreads.iter().map(band).collect() } else { Vec::new() },
        }
    };
    let seeds = comparison.by_arm().first().map_or(0, |(_, arms)| arms.len());
    let over = match seeds {
        1 => "one seed".to_owned(),
        _ => format!("mean and standard deviation over {seeds} seeds"),
    };
    Plot {
        title: format!("{}: {over}", comparison.metric),
        x_label: x_label.to_owned(),
        y_label: comparison.measure.clone(),
        y_scale: Scale::Logarithmic,
        lines: comparison.by_arm().into_iter().map(line).collect(),
        level: None,
    }
}

fn markdown(comparison: &Comparison, setting: &Setting) -> String {
    let groups = comparison.by_arm();
    let seeds = groups.first().map_or(0, |(_, arms)| arms.len());
    let mut text = format!("# Arms compared by {}\n\n", comparison.metric);
    let _ = writeln!(
        text,
        "{}, less is better; detector {}. Every run starts from the same weights; runs of one seed see the same pictures \
         in the same order, the same latents and the same draws of the augmentation. Numbers are mean ± standard deviation \
         over {seeds} seed{}.\n",
        comparison.measure,
        comparison.detector,
        if seeds == 1 { "" } else { "s" }
    );
    setting.lines.iter().for_each(|line| text.push_str(&format!("{line}\n\n")));
    text.push_str(&final_table(&groups));
    text.push_str(&levels_table(comparison, &groups));
    text.push_str("## What the seeds allow to say\n\n");
    conclusions(&groups).iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    text.push_str("\n![metric against images](metric-vs-kimg.png)\n\n![metric against time](metric-vs-time.png)\n");
    text
}

fn final_table(groups: &[(&str, Vec<&Arm>)]) -> String {
    let mut text = String::from(
        "| arm | at the end | best | mean over the run | kimg to the baseline's end | fell apart | largest abs(dL/dlogit) | steps skipped | training, s |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let base = groups.get(baseline(groups)).map_or(&[][..], |(_, arms)| arms);
    for (name, arms) in groups {
        let spread =
            |of: fn(&Arm) -> f64| Spread::from_values(&arms.iter().map(|arm| of(arm)).collect::<Vec<_>>()).text();
        let slope = arms.iter().map(|arm| arm.largest_slope).fold(0.0, f64::max);
        let skipped: u64 = arms.iter().map(|arm| arm.skipped_steps).sum();
        let collapsed = collapsed(arms);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {collapsed} of {} | {} | {skipped} | {} |",
            in_table(name),
            end_of(arms),
            of_whole(arms, Arm::best),
            of_whole(arms, Arm::mean_over_run),
            kimg_to_the_end_of(base, arms),
            arms.len(),
            number(slope),
            spread(|arm| arm.seconds)
        );
    }
    text + "\n"
}

/// Formats a name for a table, in which a bar would begin a cell.
fn in_table(name: &str) -> String {
    name.replace('|', "\\|")
}

/// Formats the values at the end.
fn end_of(arms: &[&Arm]) -> String {
    of_whole(arms, Arm::last)
}

/// Formats a value of the runs that have an end; a shorter one has another mean and another best, and is no measure.
fn of_whole(arms: &[&Arm], of: fn(&Arm) -> f64) -> String {
    let whole = arms.iter().filter(|arm| arm.end().is_some());
    of_runs(&whole.map(|arm| of(arm)).collect::<Vec<_>>(), arms.len())
}

/// Counts the runs that fell apart.
fn collapsed(arms: &[&Arm]) -> usize {
    arms.iter().filter(|arm| arm.collapsed).count()
}

/// Formats the values of some of `runs` runs.
fn of_runs(values: &[f64], runs: usize) -> String {
    Spread::from_values(values).text() + &share(values.len(), runs)
}

/// Says how many of the runs are meant, where these are not all.
fn share(some: usize, all: usize) -> String {
    if some < all { format!(" ({some} of {all})") } else { String::new() }
}

/// Returns the thousands of images until a run is where the baseline's with the same seed ends.
fn kimg_to_the_end_of(base: &[&Arm], arms: &[&Arm]) -> String {
    let end_of = |seed: u64| base.iter().find(|arm| arm.seed == seed)?.end();
    let reached: Vec<f64> = arms.iter().filter_map(|arm| arm.kimg_to_reach(end_of(arm.seed)?)).collect();
    of_runs(&reached, arms.len())
}

/// Chooses levels that a reader can compare speeds at: the lowest that every seed of the baseline came to, and a
/// quarter, half and three quarters of the way to it from the start.
fn levels(comparison: &Comparison, groups: &[(&str, Vec<&Arm>)]) -> Vec<f64> {
    let baseline = groups.get(baseline(groups)).map_or(&[][..], |(_, arms)| arms);
    let reached = baseline.iter().map(|arm| arm.best()).fold(f64::NEG_INFINITY, f64::max);
    let start = comparison.arms.iter().find_map(|arm| arm.points.first()).map_or(f64::NAN, |point| point.value);
    let all = [0.25, 0.5, 0.75, 1.0].map(|share| start + (reached - start) * share);
    all.into_iter().filter(|level| level.is_finite() && start > *level).collect()
}

fn levels_table(comparison: &Comparison, groups: &[(&str, Vec<&Arm>)]) -> String {
    let levels = levels(comparison, groups);
    if levels.is_empty() {
        return format!("The baseline never came below the {} of the start.\n\n", comparison.metric);
    }
    let mut text = format!("Thousands of images until {} is reached:\n\n| arm |", comparison.metric);
    levels.iter().for_each(|level| text.push_str(&format!(" {} |", number(*level))));
    text.push_str("\n|---|");
    levels.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for (name, arms) in groups {
        let _ = write!(text, "| {} |", in_table(name));
        for &level in &levels {
            let reached: Vec<f64> = arms.iter().filter_map(|arm| arm.kimg_to_reach(level)).collect();
            let _ = write!(text, " {} |", of_runs(&reached, arms.len()));
        }
        text.push('\n');
    }
    text + "\n"
}

/// Returns the place of the arm that the others are compared with: the one called logistic, else the first.
fn baseline(groups: &[(&str, Vec<&Arm>)]) -> usize {
    groups.iter().position(|(name, _)| *name == "logistic").unwrap_or(0)
}

/// Says of every arm how it compares with the baseline.
fn conclusions(groups: &[(&str, Vec<&Arm>)]) -> Vec<String> {
    let Some((baseline, base_arms)) = groups.get(baseline(groups)) else {
        return Vec::new();
    };
    let mut lines = vec![format!("Baseline: {baseline}, {} at the end.", end_of(base_arms))];
    for (name, arms) in groups.iter().filter(|(name, _)| name != baseline) {
        let of_seed = |seed: u64| base_arms.iter().find(|arm| arm.seed == seed)?.end();
        let pairs: Vec<(f64, f64)> = arms.iter().filter_map(|arm| Some((arm.end()?, of_seed(arm.seed)?))).collect();
        let fell_apart = match collapsed(arms) {
            0 => String::new(),
            some => format!(" It fell apart with {some} of {} seeds.", arms.len()),
        };
        if pairs.is_empty() {
            let at_end = end_of(arms);
            lines.push(format!(
                "{name}: {at_end} at the end: not compared, as it has no end with a seed with which the baseline has one.{fell_apart}"
            ));
            continue;
        }
        // Where a run has no end, its seed is left out of both arms.
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let (end, base) = (Spread::from_values(&ours), Spread::from_values(&theirs));
        let verdict = Verdict::between(&ours, &theirs);
        let change = (base.mean > 0.0).then(|| format!(" ({:+.1} %)", (end.mean / base.mean - 1.0) * 100.0));
        let by_seed = if pairs.len() > 1 {
            format!(" Seed by seed: {}.", PairedDifferences::from_pairs(&pairs).words())
        } else {
            String::new()
        };
        let change = change.unwrap_or_default();
        let of = share(pairs.len(), arms.len().max(base_arms.len()));
        lines.push(format!("{name}: {}{of} at the end{change}: {}.{by_seed}{fell_apart}", end.text(), verdict.words()));
    }
    for arm in groups.iter().flat_map(|(_, arms)| arms) {
        if let Some(why) = &arm.ended {
            lines.push(format!("{}, seed {}, has no end: {why}.", arm.name, arm.seed));
        }
    }
    lines
}

/// Writes the page that leads to the comparisons of several data sets.
///
/// # Errors
/// The file cannot be written.
pub fn save_index(comparisons: &[(String, Comparison)], folder: &Path) -> Result<()> {
    let mut text = String::from("# Arms compared on several data sets\n");
    for (set, comparison) in comparisons {
        let _ = write!(
            text,
            "\n## [{set}]({set}/report.md)\n\n{}, less is better.\n\n{}",
            comparison.measure,
            final_table(&comparison.by_arm())
        );
    }
    write_text(&folder.join("report.md"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::comparison::arm;

    fn comparison() -> Comparison {
        let arms = vec![
            arm("logistic", 0, &[10.0, 7.0, 4.0]),
            arm("logistic", 1, &[10.0, 7.2, 4.2]),
            arm("rooted, k = 2", 0, &[10.0, 5.0, 2.0]),
            arm("rooted, k = 2", 1, &[10.0, 5.2, 2.2]),
            arm("rooted, k = 20", 0, &[10.0, 6.8, 4.1]),
            arm("rooted, k = 20", 1, &[10.0, 7.0, 4.3]),
        ];
        Comparison { metric: "fid2k_full".into(), measure: "FID".into(), detector: "inception".into(), arms }
    }

    #[test]
    fn the_report_has_the_tables_and_says_in_words_what_the_seeds_allow() {
        let setting = Setting { lines: vec!["On a machine.".into()], options: json!({}) };
        let text = markdown(&comparison(), &setting);
        for part in [
            "On a machine.",
            "| rooted, k = 2 | 2.10 ± 0.141 |",
            "Baseline: logistic, 4.10 ± 0.141 at the end.",
            "rooted, k = 2: 2.10 ± 0.141 at the end (-48.8 %): better than the baseline by more than the spread",
            "rooted, k = 20: 4.20 ± 0.141 at the end (+2.4 %): not told apart",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        // Levels: on the way from 10 to what both seeds of the baseline reached.
        assert!(text.contains("| arm | 8.55 | 7.10 | 5.65 | 4.20 |"), "{text}");
        assert!(text.contains("| rooted, k = 20 | ") && text.contains(" (1 of 2) |"), "{text}");
    }

    #[test]
    fn a_run_without_an_end_is_no_result() {
        let mut comparison = comparison();
        comparison.arms[3].ended = Some("steps in a row were skipped".into());
        comparison.arms[3].collapsed = true;
        let text = markdown(&comparison, &Setting { lines: Vec::new(), options: json!({}) });
        for part in [
            "| rooted, k = 2 | 2.00 (1 of 2) | 2.00 (1 of 2) | 5.50 (1 of 2) |",
            "rooted, k = 2: 2.00 (1 of 2) at the end (-50.0 %): one seed",
            "It fell apart with 1 of 2 seeds.",
            "rooted, k = 2, seed 1, has no end: steps in a row were skipped.",
            "rooted, k = 20: 4.20 ± 0.141 at the end",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        let lines = plot(&comparison, "kimg", |point| point.kimg).lines;
        assert_eq!((lines[1].label.as_str(), lines[1].points.len()), ("rooted, k = 2 (1 of 2)", 3));
        assert_eq!(lines[1].points[2], (8.0, 2.0));
    }

    #[test]
    fn all_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting { lines: Vec::new(), options: json!({ "kimg": 8 }) };
        save(&comparison(), &setting, folder.path()).unwrap();
        let csv = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        assert_eq!(csv.lines().count(), 1 + 6 * 3);
        assert!(csv.contains("\"rooted, k = 2\",1,4,1,5.2"), "{csv}");
        for name in ["results.json", "report.md", "metric-vs-kimg.svg", "metric-vs-time.png"] {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
    }
}
