//! The names of metrics as the field knows them: `fid50k_full`, `kid50k`, `pr50k3`, `dc50k5`, `is50k`, `ppl2_wend`,
//! with any number in place of 50k. `pr500_k4` asks for 4 neighbours: without `_k` that digit would join a number of
//! pictures that does not end in k.

use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

use super::formula::{Amount, Formula};
use super::registry::FORMULAS;

/// A metric as its name asks for it: what is computed, and of how many pictures.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Name as the user wrote it; results carry it.
    pub name: String,
    /// The formula that is computed.
    pub formula: &'static dyn Formula,
    /// The k of nearest neighbours; 0 for metrics that use none.
    pub neighbours: i64,
    /// Number of generated pictures, or of pairs of them for the path length.
    pub fakes: usize,
    /// Number of real pictures, at most, which are drawn at random; None takes all.
    pub reals: Option<usize>,
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found =
            FORMULAS.iter().find_map(|formula| Some((*formula, formula.amount(name.strip_prefix(formula.prefix())?)?)));
        let Some((formula, Amount { count, all_reals, neighbours })) = found else {
            bail!(
                "unknown metric '{name}'; there are fid50k, kid50k, pr50k3, dc50k5 (each also with _full: all real \
                 pictures), is50k and ppl2_wend, with any number in place of 50k, as in fid2k_full or ppl2_wend_2k"
            );
        };
        ensure!(count > 0, "metric '{name}' is of 0 pictures; write a number of at least 1");
        Ok(Self { name: name.to_owned(), formula, neighbours, fakes: count, reals: (!all_reals).then_some(count) })
    }
}

/// Reads a list of metrics that is separated by commas, and keeps each once.
///
/// # Errors
/// An empty list, or a name that is no metric's.
pub fn parse_list(text: &str) -> Result<Vec<Metric>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let metric: Metric = name.parse()?;
        if metrics.iter().all(|known| known.name != metric.name) {
            metrics.push(metric);
        }
    }
    ensure!(!metrics.is_empty(), "no metric is named; pass for instance --metrics fid50k_full,kid50k_full");
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns prefix, neighbours, fakes and reals that a name is read as.
    fn read(name: &str) -> (&'static str, i64, usize, Option<usize>) {
        let metric: Metric = name.parse().unwrap();
        (metric.formula.prefix(), metric.neighbours, metric.fakes, metric.reals)
    }

    #[test]
    fn the_names_of_the_field_are_known_and_any_number_fits() {
        assert_eq!(read("fid50k_full"), ("fid", 0, 50_000, None));
        assert_eq!(read("fid500"), ("fid", 0, 500, Some(500)));
        assert_eq!(read("kid2k"), ("kid", 0, 2000, Some(2000)));
        assert_eq!(read("pr50k3"), ("pr", 3, 50_000, Some(50_000)));
        assert_eq!(read("pr2k5_full"), ("pr", 5, 2000, None));
        assert_eq!(read("pr500_k4"), ("pr", 4, 500, Some(500)));
        assert_eq!(read("dc100"), ("dc", 5, 100, Some(100)));
        assert_eq!(read("is50k"), ("is", 0, 50_000, None));
        assert_eq!(read("ppl2_wend"), ("ppl2_wend", 0, 50_000, None));
        assert_eq!(read("ppl2_wend_100"), ("ppl2_wend", 0, 100, None));
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
