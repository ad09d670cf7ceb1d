//! Which metrics there are, under the names that the field knows them by: `fid50k_full`, `kid50k`, `pr50k3`, `dc50k5`,
//! `is50k`, `ppl2_wend`, with any number in place of 50k; other neighbours than those of `pr50k3` as in `pr500_k4`.

use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

/// One metric: what is computed, of how many pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As the user wrote it; results carry this name.
    pub name: String,
    /// What is computed.
    pub kind: MetricKind,
    /// Pictures of the generator, or pairs of them for the path length.
    pub fakes: usize,
    /// At most so many real pictures, drawn at random; None: all.
    pub reals: Option<usize>,
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// FID, where the features are Inception's.
    Frechet,
    /// KID.
    Kernel,
    /// Precision and recall by balls up to the k-th neighbour.
    PrecisionRecall(i64),
    /// Density and coverage, likewise.
    DensityCoverage(i64),
    /// IS; needs no real pictures.
    InceptionScore,
    /// PPL in W; needs a generator and no real pictures.
    PathLength,
}

impl MetricKind {
    /// Whether there is anything to compare with.
    pub fn needs_reals(self) -> bool {
        !matches!(self, Self::InceptionScore | Self::PathLength)
    }

    /// Whether the field computes it with VGG16 instead of Inception.
    pub fn of_vgg(self) -> bool {
        matches!(self, Self::PrecisionRecall(_) | Self::DensityCoverage(_) | Self::PathLength)
    }
}

/// What `ppl2_wend` alone means.
const PAIRS: usize = 50_000;

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some((kind, count, full)) = parse(name) else {
            bail!(
                "unknown metric '{name}'; there are fid50k, kid50k, pr50k3, dc50k5 (each also with _full: all real \
                 pictures), is50k and ppl2_wend, with any number in place of 50k, as in fid2k_full or ppl2_wend_2k"
            );
        };
        ensure!(count > 0, "metric '{name}' is of 0 pictures; write a number of at least 1");
        Ok(Self { name: name.to_owned(), kind, fakes: count, reals: (!full).then_some(count) })
    }
}

/// The metrics in a list that is separated by commas, each once.
///
/// # Errors
/// An empty list, or a name that is none.
pub fn parse_list(text: &str) -> Result<Vec<Metric>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let metric: Metric = name.parse()?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    ensure!(!metrics.is_empty(), "no metric is named; pass for instance --metrics fid50k_full,kid50k_full");
    Ok(metrics)
}

fn parse(name: &str) -> Option<(MetricKind, usize, bool)> {
    if let Some(rest) = name.strip_prefix("ppl2_wend") {
        let count = if rest.is_empty() { PAIRS } else { whole_count(rest.strip_prefix('_')?)? };
        return Some((MetricKind::PathLength, count, true));
    }
    if let Some(rest) = name.strip_prefix("is") {
        return Some((MetricKind::InceptionScore, whole_count(rest)?, true));
    }
    let (name, full) = name.strip_suffix("_full").map_or((name, false), |name| (name, true));
    if let Some(rest) = name.strip_prefix("fid") {
        return Some((MetricKind::Frechet, whole_count(rest)?, full));
    }
    if let Some(rest) = name.strip_prefix("kid") {
        return Some((MetricKind::Kernel, whole_count(rest)?, full));
    }
    let neighbours = |rest: &str, default: i64| {
        let (count, k) = leading_count(rest)?;
        let k = k.strip_prefix("_k").unwrap_or(k);
        let k = if k.is_empty() { default } else { k.parse().ok().filter(|&k| k > 0)? };
        Some((count, k))
    };
    if let Some(rest) = name.strip_prefix("pr") {
        let (count, k) = neighbours(rest, 3)?;
        return Some((MetricKind::PrecisionRecall(k), count, full));
    }
    let (count, k) = neighbours(name.strip_prefix("dc")?, 5)?;
    Some((MetricKind::DensityCoverage(k), count, full))
}

fn whole_count(text: &str) -> Option<usize> {
    leading_count(text).filter(|(_, rest)| rest.is_empty()).map(|(count, _)| count)
}

/// `50k3` as (50000, "3"), `500` as (500, "").
fn leading_count(text: &str) -> Option<(usize, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: usize = text[..digits].parse().ok()?;
    match text[digits..].strip_prefix('k') {
        Some(rest) => Some((count.checked_mul(1000)?, rest)),
        None => Some((count, &text[digits..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> (MetricKind, usize, Option<usize>) {
        let metric: Metric = name.parse().unwrap();
        (metric.kind, metric.fakes, metric.reals)
    }

    #[test]
    fn the_names_of_the_field_are_known_and_any_number_fits() {
        assert_eq!(of("fid50k_full"), (MetricKind::Frechet, 50_000, None));
        assert_eq!(of("fid500"), (MetricKind::Frechet, 500, Some(500)));
        assert_eq!(of("kid2k"), (MetricKind::Kernel, 2000, Some(2000)));
        assert_eq!(of("pr50k3"), (MetricKind::PrecisionRecall(3), 50_000, Some(50_000)));
        assert_eq!(of("pr2k5_full"), (MetricKind::PrecisionRecall(5), 2000, None));
        assert_eq!(of("pr500_k4").0, MetricKind::PrecisionRecall(4));
        assert_eq!(of("dc100"), (MetricKind::DensityCoverage(5), 100, Some(100)));
        assert_eq!(of("is50k"), (MetricKind::InceptionScore, 50_000, None));
        assert_eq!(of("ppl2_wend"), (MetricKind::PathLength, 50_000, None));
        assert_eq!(of("ppl2_wend_100"), (MetricKind::PathLength, 100, None));
    }

    #[test]
    fn what_is_no_metric_is_named() {
        for name in ["fid", "fid50kk", "fid50k_half", "is50k_full", "pr50k0", "prk3", "ppl", "ppl2_wend50", "fid-1", ""]
        {
            let message = Metric::from_str(name).unwrap_err().to_string();
            assert!(message.contains(&format!("'{name}'")) && message.contains("fid50k"), "{message}");
        }
        assert!(Metric::from_str("fid0").unwrap_err().to_string().contains("0 pictures"));
        assert!(parse_list(" ,").is_err());
        assert_eq!(parse_list("fid2k, kid2k,fid2k").unwrap().len(), 2);
    }
}
