//! What is wrong with a run, in plain words: the rule with its numbers, and what helps.

use serde::Serialize;

use super::metrics::Series;
use super::statistics::StatisticsColumns;
use crate::run::comparison::{COLLAPSE, has_fallen_apart};

/// Ticks over which a rule looks.
const TICKS: usize = 8;
/// The share of real pictures that the discriminator must know, as a mean sign, before it counts as overfitting.
const KNOWN_SIGN: f64 = 0.9;
/// The p above which transforms leak into the generator's pictures.
const LEAKING_P: f64 = crate::run::HIGH_P;
/// The slope |dL/dlogit| above which single pictures decide the steps: the logistic loss has 1 at most, and rooted losses
/// whose runs did not fall apart had less (docs/objectives.md).
const STEEP: f64 = 100.0;

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule in one word: `overfitting`, `leak`, `collapse`, `slope`, `skipped`.
    pub rule: &'static str,
    /// What is seen, with its numbers, and what it means.
    pub text: String,
    /// What helps.
    pub remedy: &'static str,
}

/// Applies every rule to a run.
pub fn of_run(statistics: &StatisticsColumns, metrics: &[Series]) -> Vec<Warning> {
    let rules = [overfitting(statistics), leak(statistics), slope(statistics), skipped(statistics)];
    rules.into_iter().flatten().chain(metrics.iter().filter_map(collapse)).collect()
}

fn mean_of_recent(statistics: &StatisticsColumns, name: &str) -> Option<f64> {
    let recent = statistics.recent(name, TICKS);
    (!recent.is_empty()).then(|| recent.iter().sum::<f64>() / recent.len() as f64)
}

fn overfitting(statistics: &StatisticsColumns) -> Option<Warning> {
    let mean = |name: &str| mean_of_recent(statistics, name);
    let (sign_real, sign_fake) = (mean("Loss/signs/real")?, mean("Loss/signs/fake")?);
    let (real, fake) = (mean("Loss/scores/real")?, mean("Loss/scores/fake")?);
    // One or two ticks say little.
    let enough = statistics.recent("Loss/signs/real", TICKS).len() >= TICKS / 2;
    (enough && sign_real > KNOWN_SIGN && sign_fake < -KNOWN_SIGN).then(|| Warning {
        rule: "overfitting",
        text: format!(
            "Overfitting: the discriminator tells nearly all real pictures from generated ones (mean sign {sign_real:.2} for \
             real, {sign_fake:.2} for generated; above {KNOWN_SIGN} and below -{KNOWN_SIGN} is too sure), and scores them \
             {:.1} apart. It may know your pictures by heart.",
            real - fake
        ),
        remedy: "More pictures, mirror images (--xflip), adaptive augmentation (--aug ada) or a higher --r1-gamma help.",
    })
}

fn leak(statistics: &StatisticsColumns) -> Option<Warning> {
    let p = statistics.last("Progress/augment")?;
    (p > LEAKING_P).then(|| Warning {
        rule: "leak",
        text: format!(
            "Leaking augmentation: p is {p:.2}, above {LEAKING_P}. The generator may begin to draw turned, shifted or \
             recoloured pictures, as the augmentation makes them."
        ),
        remedy: "More pictures or a higher --target help.",
    })
}

fn slope(statistics: &StatisticsColumns) -> Option<Warning> {
    let largest = |name: &str| statistics.recent(name, TICKS).into_iter().fold(0.0, f64::max);
    let (g, d) = (largest("Loss/G/slope"), largest("Loss/D/slope"));
    (g.max(d) > STEEP).then(|| Warning {
        rule: "slope",
        text: format!(
            "Steep loss: the slope |dL/dlogit| reached {:.0} in the last {TICKS} ticks ({}; above {STEEP} single pictures \
             decide the steps).",
            g.max(d),
            if g > d { "generator" } else { "discriminator" }
        ),
        remedy: "A --root-slope-cap, a larger --root-k or --loss logistic helps.",
    })
}

fn skipped(statistics: &StatisticsColumns) -> Option<Warning> {
    let phases = ["Gmain", "Greg", "Dmain", "Dreg"].map(|phase| format!("Progress/skipped_{phase}"));
    let count: f64 = phases.iter().flat_map(|name| statistics.recent(name, TICKS)).sum();
    (count > 0.0).then(|| Warning {
        rule: "skipped",
        text: format!("Skipped steps: {count:.0} in the last {TICKS} ticks had a gradient that is not finite."),
        remedy: "One now and then is harmless, in 16 bits above all; otherwise lower the learning rates or raise --r1-gamma.",
    })
}

fn collapse(series: &Series) -> Option<Warning> {
    let (last, best) = (series.first_values().last()?, series.best()?);
    let fell_apart = match series.lower_is_better {
        true => has_fallen_apart(last, best),
        false => !last.is_finite() || last < best / COLLAPSE,
    };
    fell_apart.then(|| Warning {
        rule: "collapse",
        text: format!(
            "Collapse: {} is at {last:.4}, more than {COLLAPSE} times as bad as its best, {best:.4}. Training has fallen apart.",
            series.metric
        ),
        remedy: "The best snapshot is kept (best.json). Lower learning rates or a higher --r1-gamma help.",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn statistics(values: &[(&str, f64)]) -> StatisticsColumns {
        let mut statistics = StatisticsColumns::default();
        for tick in 0..TICKS {
            let mut line = json!({ "Progress/kimg": { "mean": tick } });
            for (name, value) in values {
                line[*name] = json!({ "mean": value, "max": value, "num": value });
            }
            statistics.add(line.to_string().as_bytes());
        }
        statistics
    }

    fn rules(values: &[(&str, f64)]) -> Vec<&'static str> {
        of_run(&statistics(values), &[]).iter().map(|warning| warning.rule).collect()
    }

    #[test]
    fn each_rule_speaks_beyond_its_number_and_is_silent_before() {
        let signs = |real: f64, fake: f64| {
            [
                ("Loss/signs/real", real),
                ("Loss/signs/fake", fake),
                ("Loss/scores/real", 4.0),
                ("Loss/scores/fake", -5.0),
            ]
        };
        assert_eq!(rules(&signs(0.95, -0.95)), ["overfitting"]);
        assert!(of_run(&statistics(&signs(0.95, -0.95)), &[])[0].text.contains("9.0 apart"));
        assert!(rules(&signs(0.85, -0.95)).is_empty() && rules(&signs(0.95, -0.5)).is_empty());
        assert_eq!(rules(&[("Progress/augment", 0.86)]), ["leak"]);
        assert!(rules(&[("Progress/augment", 0.85)]).is_empty());
        assert_eq!(rules(&[("Loss/D/slope", 150.0), ("Loss/G/slope", 2.0)]), ["slope"]);
        assert!(rules(&[("Loss/D/slope", 64.0)]).is_empty());
        assert_eq!(rules(&[("Progress/skipped_Dreg", 1.0)]), ["skipped"]);
        assert!(rules(&[]).is_empty());
    }

    #[test]
    fn a_metric_twice_as_bad_as_its_best_is_a_collapse_whichever_way_is_better() {
        let of = |file: &str, values: &[Value]| {
            let mut series = Series::from_file_name(file).unwrap();
            for value in values {
                let values = vec![value.as_f64()];
                series.points.push(super::super::metrics::Evaluated { kimg: 0.0, values });
            }
            of_run(&StatisticsColumns::default(), &[series]).len()
        };
        assert_eq!(of("metric-fid2k.jsonl", &[json!(3.0), json!(6.1)]), 1);
        assert_eq!(of("metric-fid2k.jsonl", &[json!(3.0), json!(null)]), 1);
        assert_eq!(of("metric-fid2k.jsonl", &[json!(9.0), json!(3.0), json!(5.9)]), 0);
        assert_eq!(of("metric-is2k.jsonl", &[json!(3.0), json!(1.4)]), 1);
        assert_eq!(of("metric-is2k.jsonl", &[json!(1.0), json!(3.0)]), 0);
    }
}
