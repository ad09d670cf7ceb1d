//! Each metric's number from the features of both sides, with the warnings that belong to it.

use anyhow::{Context, Result, bail};
use tch::Tensor;

use super::feature_set::{FeatureSet, Needs};
use super::frechet::frechet_distance;
use super::inception_score::inception_score;
use super::kernel::{KernelSettings, kernel_distance};
use super::manifold::{density_coverage, precision_recall};
use super::name::{Metric, MetricKind};
use super::outcome::Outcome;

/// Splits of the inception score.
const SPLITS: i64 = 10;
/// Fewer pictures make a Frechet distance that is mostly bias.
const FEW: usize = 2048;

/// Adds what a metric needs of the fakes.
pub fn fake_needs(metric: &Metric, needs: &mut Needs) {
    add(metric.kind, metric.fakes, needs);
}

/// What metrics need of `total` real pictures.
pub fn real_needs(metrics: &[Metric], total: usize) -> Needs {
    let mut needs = Needs::default();
    for metric in metrics.iter().filter(|metric| metric.kind.needs_reals()) {
        add(metric.kind, reals_of(metric, total), &mut needs);
    }
    needs
}

fn add(kind: MetricKind, n: usize, needs: &mut Needs) {
    match kind {
        MetricKind::Frechet => {
            needs.moments.insert(n);
        }
        MetricKind::InceptionScore => needs.probabilities = needs.probabilities.max(n),
        MetricKind::PathLength => {}
        _ => needs.features = needs.features.max(n),
    }
}

fn reals_of(metric: &Metric, total: usize) -> usize {
    metric.reals.map_or(total, |most| most.min(total))
}

/// Computes a metric.
///
/// # Errors
/// Features that are missing or too few.
pub fn outcome(metric: &Metric, reals: Option<&FeatureSet>, fakes: &FeatureSet, seed: u64) -> Result<Outcome> {
    let reals = reals.filter(|_| metric.kind.needs_reals());
    let n = reals.map(|set| reals_of(metric, set.record.total()));
    let id = &fakes.record.detector;
    let mut warnings = Vec::new();
    let mut attempt = || -> Result<(String, Vec<(String, f64)>)> {
        let name = |ending: &str| format!("{}{ending}", metric.name);
        let both = || -> Result<(Tensor, Tensor)> {
            let reals = reals.context("there are no real pictures")?.features_of(n.unwrap_or(0))?;
            let fakes = fakes.features_of(metric.fakes)?;
            // One side may come from a file.
            let device = if fakes.device().is_cuda() { fakes.device() } else { reals.device() };
            Ok((reals.to_device(device), fakes.to_device(device)))
        };
        Ok(match metric.kind {
            MetricKind::Frechet => {
                let set = reals.context("there are no real pictures")?;
                let of_reals = set.moments_of(n.unwrap_or(0))?;
                let of_fakes = fakes.moments_of(metric.fakes)?;
                warnings = few(metric, n.unwrap_or(0), of_fakes.width() as usize);
                let distance = frechet_distance(&of_reals, &of_fakes)?;
                (id.measure("FID", "Frechet distance"), vec![(name(""), distance)])
            }
            MetricKind::Kernel => {
                let (x, y) = both()?;
                let (mean, std) = kernel_distance(&x, &y, &KernelSettings { seed, ..KernelSettings::default() })?;
                (id.measure("KID", "kernel distance"), vec![(name(""), mean), (name("_std"), std)])
            }
            MetricKind::PrecisionRecall(k) => {
                let (x, y) = both()?;
                let found = precision_recall(&x, &y, k)?;
                let values = vec![(name("_precision"), found.precision), (name("_recall"), found.recall)];
                (format!("precision and recall, {}", id.features), values)
            }
            MetricKind::DensityCoverage(k) => {
                let (x, y) = both()?;
                let found = density_coverage(&x, &y, k)?;
                let values = vec![(name("_density"), found.density), (name("_coverage"), found.coverage)];
                (format!("density and coverage, {}", id.features), values)
            }
            MetricKind::InceptionScore => {
                let (mean, std) = inception_score(&fakes.probabilities_of(metric.fakes)?, SPLITS)?;
                (id.measure("inception score", "class score"), vec![(name("_mean"), mean), (name("_std"), std)])
            }
            MetricKind::PathLength => bail!("it needs a generator"),
        })
    };
    let (measure, values) = attempt().with_context(|| format!("cannot compute {}", metric.name))?;
    Ok(Outcome {
        metric: metric.name.clone(),
        measure,
        values,
        detector: id.clone(),
        pictures: fakes.record.pictures.clone(),
        fakes: metric.fakes,
        reals: n,
        warnings,
    })
}

/// What there is to say of few pictures.
fn few(metric: &Metric, reals: usize, width: usize) -> Vec<String> {
    let least = FEW.max(width);
    let sides = [("real pictures", reals), ("fakes", metric.fakes)];
    let small = sides.into_iter().filter(|&(_, n)| n < least);
    small
        .map(|(side, n)| {
            let why = if n < width { format!("its {width} features") } else { FEW.to_string() };
            format!(
                "warning: {}: {n} {side} are fewer than {why}: the distance is biased upwards, compare it only with others \
                 of the same numbers (the kernel distance is unbiased)",
                metric.name
            )
        })
        .collect()
}
