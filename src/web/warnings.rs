//! Says in plain words what is going wrong in a run, and what helps.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::points::{MetricPoint, TickPoint};

/// Mean sign of D(real) from which the discriminator knows the training pictures by heart (Karras et al., arXiv
/// 2006.06676, aim at 0.6).
const OVERFIT_SIGN: f64 = 0.9;
/// p above which transforms leak into the generator's pictures.
const LEAKING_P: f64 = 0.85;
/// A metric that is so many times its best has fallen apart.
const COLLAPSE_FACTOR: f64 = 2.0;
/// A largest slope from which single images dominate a batch.
const STEEP_SLOPE: f64 = 10.0;

/// Returns what is going wrong now, the most serious first.
pub(super) fn warnings(
    ticks: &[TickPoint],
    metrics: &BTreeMap<String, Vec<MetricPoint>>,
    options: &Map<String, Value>,
) -> Vec<String> {
    let mut found = Vec::new();
    let Some(last) = ticks.last() else {
        return found;
    };
    let mean = |name: &str| last.means.get(name).copied();
    for (name, points) in metrics.iter().filter(|(name, _)| is_distance(name)) {
        let best = points.iter().filter(|point| point.value.is_finite()).min_by(|a, b| a.value.total_cmp(&b.value));
        if let (Some(best), Some(now)) = (best, points.last())
            && now.value > COLLAPSE_FACTOR * best.value
        {
            found.push(format!(
                "The pictures have become worse: {name} is {:.3} now and was {:.3} at {:.1} kimg. best.json names the best \
                 snapshot; a higher --r1-gamma or lower learning rates may keep training stable.",
                now.value, best.value, best.kimg
            ));
        }
    }
    let skipped: f64 =
        last.means.iter().filter(|(name, _)| name.starts_with("Progress/skipped_")).map(|(_, n)| n).sum();
    if skipped > 0.0 {
        found.push(
            "Steps were skipped in the last tick, because a gradient was not finite; the log names the first. Lower learning \
             rates or a --root-slope-cap help."
                .to_owned(),
        );
    }
    if let Some(scale) = mean("Progress/lr_scale").filter(|&scale| scale < 1.0) {
        found.push(format!("Training has diverged and gone back: the learning rates are times {scale} now."));
    }
    let adapts = options.get("aug").and_then(Value::as_str) == Some("ada");
    let p = mean("Progress/augment").unwrap_or(0.0);
    if let Some(sign) = mean("Loss/signs/real").filter(|&sign| sign > OVERFIT_SIGN)
        && mean("Loss/scores/fake").is_some_and(|score| score < 0.0)
        && (!adapts || p > LEAKING_P)
    {
        found.push(format!(
            "The discriminator tells nearly all real pictures from generated ones (mean sign {sign:.2}): it may know them by \
             heart. More pictures, --aug ada or a higher --r1-gamma help."
        ));
    }
    if p > LEAKING_P {
        found.push(format!(
            "The augmentation's probability is {p:.2}: the generator may begin to make augmented pictures. More pictures would \
             help, or a higher --target."
        ));
    }
    if let Some(slope) = last.largest_slope.filter(|&slope| slope > STEEP_SLOPE) {
        found.push(format!(
            "Single images had slopes of up to {slope:.0} in the last tick and dominate their batch; a larger --root-k, a \
             --root-slope-cap or a higher --r1-gamma calms training."
        ));
    }
    found
}

/// Whether less of a metric is better.
fn is_distance(name: &str) -> bool {
    ["fid", "kid", "cmmd", "ppl"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(means: &[(&str, f64)], largest_slope: f64) -> TickPoint {
        let means = means.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        TickPoint { kimg: 1.0, means, largest_slope: Some(largest_slope) }
    }

    fn of(tick: TickPoint, values: &[f64], options: &str) -> Vec<String> {
        let points = (0..).zip(values).map(|(kimg, &value)| MetricPoint { kimg: f64::from(kimg), value }).collect();
        let metrics = BTreeMap::from([("fid2k_full".to_owned(), points)]);
        warnings(&[tick], &metrics, serde_json::from_str::<Value>(options).unwrap().as_object().unwrap())
    }

    #[test]
    fn a_run_that_goes_well_has_no_warnings() {
        let fine = tick(&[("Loss/signs/real", 0.6), ("Loss/scores/fake", -1.0), ("Progress/lr_scale", 1.0)], 1.5);
        assert!(of(fine, &[3.0, 1.0, 1.5], "{}").is_empty());
        assert!(warnings(&[], &BTreeMap::new(), &Map::new()).is_empty());
    }

    #[test]
    fn each_trouble_is_told() {
        let one = |tick, values: &[f64], options, word: &str| {
            let found = of(tick, values, options);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        };
        one(tick(&[], 1.0), &[3.0, 1.0, 2.5], "{}", "become worse");
        one(tick(&[("Progress/skipped_Gmain", 1.0)], 1.0), &[], "{}", "skipped");
        one(tick(&[("Progress/lr_scale", 0.5)], 1.0), &[], "{}", "gone back");
        one(tick(&[("Loss/signs/real", 0.95), ("Loss/scores/fake", -3.0)], 1.0), &[], "{}", "by heart");
        one(tick(&[("Progress/augment", 0.9)], 1.0), &[], r#"{"aug": "ada"}"#, "probability is 0.90");
        one(tick(&[], 40.0), &[], "{}", "slopes of up to 40");
        // ADA is there for that.
        let adapted = tick(&[("Loss/signs/real", 0.95), ("Loss/scores/fake", -3.0), ("Progress/augment", 0.4)], 1.0);
        assert!(of(adapted, &[], r#"{"aug": "ada"}"#).is_empty());
    }
}
