//! Means and spreads over seeds, and whether a difference is larger than what seeds make.

use rand::{Rng, SeedableRng};

/// The fewest seeds whose redrawn means say more than the differences themselves do.
const FEWEST_REDRAWN: usize = 6;

/// Mean and sample standard deviation over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The number of values.
    pub n: usize,
    /// The mean of the values.
    pub mean: f64,
    /// The standard deviation, with n - 1 as the divisor; 0 for one value.
    pub deviation: f64,
}

impl Spread {
    /// Takes the spread of values.
    pub fn from_values(values: &[f64]) -> Self {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        Self { n, mean, deviation }
    }

    /// Formats it as `12.3 ± 0.4`, or as the mean alone where there is one value.
    pub fn text(&self) -> String {
        match self.n {
            0 => "-".to_owned(),
            1 => number(self.mean),
            _ => format!("{} ± {}", number(self.mean), number(self.deviation)),
        }
    }
}

/// The differences of an arm's runs from those of the baseline with the same seeds; less is better.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedDifferences {
    /// The difference at the end, seed by seed.
    pub differences: Vec<f64>,
    /// Bounds between which 95 % of the means of as many differences, drawn with replacement, lie. None for fewer than
    /// six seeds, with which these would be the least and the largest difference.
    pub interval: Option<(f64, f64)>,
}

impl PairedDifferences {
    /// Takes (arm, baseline) of each seed.
    pub fn from_pairs(pairs: &[(f64, f64)]) -> Self {
        const DRAWS: usize = 10_000;
        let differences: Vec<f64> =
            pairs.iter().map(|(arm, baseline)| arm - baseline).filter(|d| d.is_finite()).collect();
        let n = differences.len();
        if n < FEWEST_REDRAWN {
            return Self { differences, interval: None };
        }
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let mut mean = || (0..n).map(|_| differences[rng.random_range(0..n)]).sum::<f64>() / n as f64;
        let mut means: Vec<f64> = (0..DRAWS).map(|_| mean()).collect();
        means.sort_by(f64::total_cmp);
        let interval = Some((means[DRAWS / 40], means[DRAWS - 1 - DRAWS / 40]));
        Self { differences, interval }
    }

    /// Says in words in how many seeds the arm is better, and by how much.
    pub fn words(&self) -> String {
        let (n, better) = (self.differences.len(), self.differences.iter().filter(|d| **d < 0.0).count());
        let text = format!(
            "better with {better} of {n} seeds, {} on average",
            signed(Spread::from_values(&self.differences).mean)
        );
        if n < 2 {
            return text;
        }
        let whole = || {
            let ends = |(low, high): (f64, f64), d: &f64| (low.min(*d), high.max(*d));
            self.differences.iter().fold((f64::INFINITY, f64::NEG_INFINITY), ends)
        };
        let what = if self.interval.is_some() { "95 % of the means of redrawn seeds " } else { "" };
        let (low, high) = self.interval.unwrap_or_else(whole);
        let chance = 100.0 * uneven(n, better);
        format!(
            "{text}, {what}between {} and {}; by chance at least as uneven in {chance:.0} %",
            signed(low),
            signed(high)
        )
    }
}

/// Returns the chance that n fair coins fall at least as unevenly as with so many heads: the sign test, two-sided.
fn uneven(n: usize, heads: usize) -> f64 {
    let fewer = heads.min(n - heads);
    // The binomial coefficients up to `fewer`, each from the one before.
    let mut ways = 1.0;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += ways;
        ways *= (n - k) as f64 / (k + 1) as f64;
    }
    (2.0 * tail / 2f64.powi(n as i32)).min(1.0)
}

fn signed(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "+" };
    format!("{sign}{}", number(value.abs()))
}

/// Formats a number with three significant digits, more before the point where there are more.
pub(super) fn number(value: f64) -> String {
    let digits =
        if value == 0.0 || !value.is_finite() { 2 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 6) };
    format!("{value:.*}", digits as usize)
}

/// The verdict that the seeds allow on a loss against the baseline; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The loss is better by more than the spread.
    Better,
    /// The loss is worse by more than the spread.
    Worse,
    /// The difference is within the spread.
    Within,
    /// There is one seed only, which has no spread.
    OneSeed,
}

impl Verdict {
    /// Compares the final values of two losses over the same seeds: the difference of the means against the standard
    /// deviation of one loss over its seeds (pooled over the two).
    pub fn between(loss: &[f64], baseline: &[f64]) -> Self {
        let (a, b) = (Spread::from_values(loss), Spread::from_values(baseline));
        if a.n < 2 || b.n < 2 {
            return Self::OneSeed;
        }
        let (free_a, free_b) = ((a.n - 1) as f64, (b.n - 1) as f64);
        let pooled = ((free_a * a.deviation.powi(2) + free_b * b.deviation.powi(2)) / (free_a + free_b)).sqrt();
        let difference = a.mean - b.mean;
        match difference {
            d if !d.is_finite() || d.abs() <= pooled => Self::Within,
            d if d < 0.0 => Self::Better,
            _ => Self::Worse,
        }
    }

    /// Says the verdict in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better than the baseline by more than the spread over seeds",
            Self::Worse => "worse than the baseline by more than the spread over seeds",
            Self::Within => "not told apart from the baseline: the difference is within the spread over seeds",
            Self::OneSeed => "one seed: its spread is unknown, so the difference says nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let spread = Spread::from_values(&[1.0, 3.0]);
        assert_eq!((spread.mean, spread.deviation), (2.0, 2f64.sqrt()));
        assert_eq!(spread.text(), "2.00 ± 1.41");
        assert_eq!(Spread::from_values(&[123.4]).text(), "123");
    }

    #[test]
    fn runs_of_one_seed_are_compared_with_each_other() {
        let paired = PairedDifferences::from_pairs(&[(1.0, 2.0), (2.0, 2.5), (3.0, 2.9)]);
        assert_eq!(
            paired.words(),
            "better with 2 of 3 seeds, -0.467 on average, between -1.00 and +0.100; by chance at least as uneven in 100 %"
        );
        let one = PairedDifferences::from_pairs(&[(1.0, 2.0), (f64::NAN, 1.0)]);
        assert_eq!(one.words(), "better with 1 of 1 seeds, -1.00 on average");
        let six = PairedDifferences::from_pairs(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|better| (0.0, better)));
        let (low, high) = six.interval.unwrap();
        assert!((-6.0..-4.0).contains(&low) && (-3.0..-1.0).contains(&high), "{low} {high}");
    }

    #[test]
    fn the_sign_test_counts_coins() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        close(uneven(3, 0), 0.25);
        close(uneven(3, 3), 0.25);
        close(uneven(3, 1), 1.0);
        close(uneven(6, 0), 2.0 / 64.0);
        close(uneven(10, 2), 2.0 * (1.0 + 10.0 + 45.0) / 1024.0);
        close(uneven(4, 2), 1.0);
    }

    #[test]
    fn a_difference_counts_when_it_is_larger_than_the_spread() {
        assert_eq!(Verdict::between(&[1.0, 1.2], &[2.0, 2.2]), Verdict::Better);
        assert_eq!(Verdict::between(&[2.0, 2.2], &[1.0, 1.2]), Verdict::Worse);
        assert_eq!(Verdict::between(&[1.0, 2.0], &[1.2, 2.2]), Verdict::Within);
        assert_eq!(Verdict::between(&[1.0], &[5.0]), Verdict::OneSeed);
        assert_eq!(Verdict::between(&[f64::NAN, 1.0], &[5.0, 5.0]), Verdict::Within);
    }
}
