//! The inception score, which rewards confident and varied classes. It compares with no real pictures, so a copy of the
//! training set scores as well as new pictures.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::feature_set::Needs;
use super::formula::{Amount, Formula, Measured, Sides};

/// Returns mean and population standard deviation over contiguous splits of `exp(mean KL(p(y|x) || p(y)))`, where p(y)
/// is the mean over the split.
///
/// # Shapes
/// probabilities [N, classes], rows of sum 1 -> two numbers.
///
/// # Source
/// Salimans et al., arXiv 1606.03498, section 4; 10 splits there.
///
/// # Errors
/// Fewer pictures than splits, or rows that are no probabilities.
pub fn inception_score(probabilities: &Tensor, splits: i64) -> Result<(f64, f64)> {
    let n = probabilities.size()[0];
    ensure!(splits > 0 && n >= splits, "the inception score of {splits} splits needs as many pictures, there are {n}");
    let p = probabilities.to_kind(Kind::Double);
    let off = (p.sum_dim_intlist([1i64].as_slice(), false, Kind::Double) - 1.0).abs().max().double_value(&[]);
    ensure!(off < 1e-3, "the detector's outputs are no probabilities: a row is {off:.3} off the sum 1");
    let score = |i: i64| {
        let (first, end) = (i * n / splits, (i + 1) * n / splits);
        let p = p.narrow(0, first, end - first);
        let marginal = p.mean_dim([0i64].as_slice(), true, Kind::Double);
        // xlogy takes 0 log 0 as 0.
        let divergence = p.xlogy(&p) - p.xlogy(&marginal);
        divergence.sum_dim_intlist([1i64].as_slice(), false, Kind::Double).mean(Kind::Double).exp().double_value(&[])
    };
    let scores: Vec<f64> = (0..splits).map(score).collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / splits as f64;
    Ok((mean, variance.sqrt()))
}

/// The metric `is50k`.
#[derive(Debug)]
pub struct InceptionScore;

/// The number of splits in the publication.
const SPLITS: i64 = 10;

impl Formula for InceptionScore {
    fn prefix(&self) -> &'static str {
        "is"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        Amount::alone(rest)
    }

    fn lower_is_better(&self) -> bool {
        false
    }

    fn needs_reals(&self) -> bool {
        false
    }

    fn needs_classes(&self) -> bool {
        true
    }

    fn add_needs(&self, n: usize, needs: &mut Needs) {
        needs.probabilities = needs.probabilities.max(n);
    }

    fn compute(&self, sides: &Sides<'_>) -> Result<Measured> {
        let (mean, std) = inception_score(&sides.fakes.probabilities_of(sides.fake_count)?, SPLITS)?;
        Ok(Measured::new(
            sides.detector().measure("inception score", "class score"),
            vec![("_mean", mean), ("_std", std)],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn sure_and_evenly_spread_classes_score_their_number() {
        let rows = Tensor::eye(4, (Kind::Double, Device::Cpu)).repeat([5, 1]);
        let (mean, std) = inception_score(&rows, 5).unwrap();
        assert!((mean - 4.0).abs() < 1e-12 && std < 1e-12, "{mean} {std}");
    }

    #[test]
    fn one_class_for_all_scores_one() {
        let rows = Tensor::from_slice(&[0.2, 0.5, 0.3]).repeat([12, 1]);
        let (mean, std) = inception_score(&rows, 3).unwrap();
        assert!((mean - 1.0).abs() < 1e-12 && std < 1e-12);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let features = Tensor::from_slice(&[3.0, -1.0]).repeat([4, 1]);
        assert!(inception_score(&features, 2).unwrap_err().to_string().contains("no probabilities"));
        assert!(inception_score(&features, 5).unwrap_err().to_string().contains("there are 4"));
    }
}
