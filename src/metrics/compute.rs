//! Computes a metric from the features of both sides, and says which features that takes.

use anyhow::{Context, Result};

use super::feature_set::{FeatureSet, Needs};
use super::formula::{Measured, Sides};
use super::name::Metric;
use super::outcome::Outcome;

/// Adds the features that a metric needs of the fakes.
pub fn fake_needs(metric: &Metric, needs: &mut Needs) {
    metric.formula.add_needs(metric.fakes, needs);
}

/// Returns the features that metrics need of the real pictures, of which there are `total`.
pub fn real_needs(metrics: &[Metric], total: usize) -> Needs {
    let mut needs = Needs::default();
    for metric in metrics.iter().filter(|metric| metric.formula.needs_reals()) {
        metric.formula.add_needs(reals_of(metric, total), &mut needs);
    }
    needs
}

fn reals_of(metric: &Metric, total: usize) -> usize {
    metric.reals.map_or(total, |most| most.min(total))
}

/// Computes a metric; `reals` may be None for one that compares with none, and `seed` decides what is drawn at random.
///
/// # Errors
/// Features that are missing or too few.
pub fn outcome(metric: &Metric, reals: Option<&FeatureSet>, fakes: &FeatureSet, seed: u64) -> Result<Outcome> {
    let reals = reals.filter(|_| metric.formula.needs_reals());
    let n = reals.map(|set| reals_of(metric, set.record.total()));
    let sides = Sides {
        reals,
        real_count: n.unwrap_or(0),
        fakes,
        fake_count: metric.fakes,
        neighbours: metric.neighbours,
        seed,
    };
    let name = &metric.name;
    let Measured { measure, values, warnings } =
        metric.formula.compute(&sides).with_context(|| format!("cannot compute {name}"))?;
    Ok(Outcome {
        metric: name.clone(),
        measure,
        values: values.into_iter().map(|(ending, value)| (format!("{name}{ending}"), value)).collect(),
        detector: fakes.record.detector.clone(),
        pictures: fakes.record.pictures.clone(),
        fakes: metric.fakes,
        reals: n,
        warnings: warnings.into_iter().map(|warning| format!("warning: {name}: {warning}")).collect(),
    })
}
