//! Which metrics there are, under the names that the field knows them by: `fid50k_full`, `kid50k`, `pr50k3`, `dc50k5`,
//! `is50k`, `ppl2_wend`, with any number in place of 50k; other neighbours than those of `pr50k3` as in `pr500_k4`.

use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

use super::formula::{Amount, Formula};
use super::registry::FORMULAS;

/// One metric: what is computed, of how many pictures.
#[derive(Clone, Debug)]
pub struct Metric {
    /// As the user wrote it; results carry this name.
    pub name: String,
    /// The formula that is computed.
    pub formula: &'static dyn Formula,
    /// The k of nearest neighbours, where there are any.
    pub neighbours: i64,
    /// Pictures of the generator, or pairs of them for the path length.
    pub fakes: usize,
    /// At most so many real pictures, drawn at random; None: all.
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

/// The metrics in a list that is separated by commas, each once.
///
/// # Errors
/// An empty list, or a name that is none.
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

    /// Prefix, neighbours, fakes and reals.
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
