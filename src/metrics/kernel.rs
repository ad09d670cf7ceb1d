//! The kernel distance KID. Its estimate is unbiased: it suits few pictures, and may be negative.

use anyhow::{Result, ensure};
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Kind, Tensor};

use super::feature_set::Needs;
use super::formula::{Amount, Formula, Measured, Sides};

/// The subsets over which KID is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelSettings {
    /// Number of pairs of subsets.
    pub subsets: usize,
    /// Number of pictures in a subset, at most.
    pub subset_size: usize,
    /// Seed of the subsets.
    pub seed: u64,
}

impl Default for KernelSettings {
    fn default() -> Self {
        Self { subsets: 100, subset_size: 1000, seed: 0 }
    }
}

/// Returns mean and standard deviation of [`squared_mmd`] over pairs of subsets, each drawn without repetition. There is no standard
/// deviation where a subset is a whole side: it would not say how much other pictures change the distance.
///
/// # Shapes
/// reals [N, F], fakes [M, F] -> two numbers.
///
/// # Source
/// Binkowski et al., arXiv 1801.01401, section 4 (kernel) and appendix.
///
/// # Errors
/// Fewer than two pictures on a side, or no subset.
pub fn kernel_distance(reals: &Tensor, fakes: &Tensor, settings: &KernelSettings) -> Result<(f64, Option<f64>)> {
    let (n, m) = (reals.size()[0] as usize, fakes.size()[0] as usize);
    let size = settings.subset_size.min(n).min(m);
    ensure!(size >= 2, "the kernel distance needs two pictures on each side, there are {n} and {m}");
    ensure!(settings.subsets > 0, "the kernel distance needs at least one subset");
    let subsets = if size == n && size == m { 1 } else { settings.subsets };
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut draw = |set: &Tensor, length: usize| {
        let places: Vec<i64> = index::sample(&mut rng, length, size).iter().map(|place| place as i64).collect();
        set.index_select(0, &Tensor::from_slice(&places).to_device(set.device()))
    };
    let values: Vec<f64> = (0..subsets).map(|_| squared_mmd(&draw(reals, n), &draw(fakes, m))).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    Ok((mean, (size < n.min(m)).then(|| variance.sqrt())))
}

/// Returns the unbiased squared maximum mean discrepancy:
/// `sum_{i != j} k(x_i, x_j) / (n (n - 1)) + sum_{i != j} k(y_i, y_j) / (m (m - 1)) - 2 mean k(x_i, y_j)`.
///
/// # Shapes
/// x [n, F], y [m, F], n and m at least 2 -> one number, computed in float64.
///
/// # Source
/// Gretton et al., JMLR 13 (2012), lemma 6.
pub fn squared_mmd(x: &Tensor, y: &Tensor) -> f64 {
    let (x, y) = (x.to_kind(Kind::Double), y.to_kind(Kind::Double));
    let within = |set: &Tensor| {
        let (kernel, n) = (cubic_kernel(set, set), set.size()[0] as f64);
        (kernel.sum(Kind::Double) - kernel.trace()) / (n * (n - 1.0))
    };
    (within(&x) + within(&y) - cubic_kernel(&x, &y).mean(Kind::Double) * 2.0).double_value(&[])
}

/// Computes `k(x, y) = (x . y / F + 1)^3` of every pair: x [n, F], y [m, F] -> [n, m].
fn cubic_kernel(x: &Tensor, y: &Tensor) -> Tensor {
    (x.matmul(&y.tr()) / x.size()[1] as f64 + 1.0).pow_tensor_scalar(3)
}

/// The metrics `kid50k` and `kid50k_full`.
#[derive(Debug)]
pub struct Kernel;

impl Formula for Kernel {
    fn prefix(&self) -> &'static str {
        "kid"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        Amount::compared(rest)
    }

    fn lower_is_better(&self) -> bool {
        true
    }

    fn add_needs(&self, n: usize, needs: &mut Needs) {
        needs.features = needs.features.max(n);
    }

    fn compute(&self, sides: &Sides<'_>) -> Result<Measured> {
        let (reals, fakes) = sides.features()?;
        let settings = KernelSettings { seed: sides.seed, ..KernelSettings::default() };
        let (mean, std) = kernel_distance(&reals, &fakes, &settings)?;
        let values = std::iter::once(("", mean)).chain(std.map(|std| ("_std", std))).collect();
        Ok(Measured::new(sides.detector().measure("KID", "kernel distance"), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn two_points_against_two_are_done_by_hand() {
        let (x, y) = (Tensor::from_slice(&[0f32, 1.0]).view([2, 1]), Tensor::from_slice(&[1f32, 2.0]).view([2, 1]));
        // Within the sets k(0, 1) = 1 and k(1, 2) = 27; between them k = 1, 1, 8, 27.
        assert!((squared_mmd(&x, &y) - (1.0 + 27.0 - 2.0 * 37.0 / 4.0)).abs() < 1e-12);
    }

    #[test]
    fn it_is_unbiased_so_equal_distributions_average_to_nothing() {
        tch::manual_seed(1);
        let draw = || Tensor::randn([400, 8], (Kind::Float, Device::Cpu));
        let settings = KernelSettings { subsets: 200, subset_size: 50, seed: 3 };
        let (mean, std) = kernel_distance(&draw(), &draw(), &settings).unwrap();
        assert!(mean.abs() < 0.1 && std.unwrap() > 0.0, "{mean} {std:?}");
        let shifted = kernel_distance(&draw(), &(draw() + 1.0), &settings).unwrap().0;
        assert!(shifted > 1.0, "{shifted}");
    }

    #[test]
    fn one_subset_of_everything_is_the_plain_estimate_and_has_no_deviation() {
        let (x, y) =
            (Tensor::randn([20, 4], (Kind::Double, Device::Cpu)), Tensor::randn([20, 4], (Kind::Double, Device::Cpu)));
        let (mean, std) = kernel_distance(&x, &y, &KernelSettings { seed: 9, ..KernelSettings::default() }).unwrap();
        assert!((mean - squared_mmd(&x, &y)).abs() < 1e-12);
        assert_eq!(std, None);
        // All of the fakes against subsets of the reals: how much other fakes would change stays unknown.
        assert_eq!(kernel_distance(&x, &y.narrow(0, 0, 10), &KernelSettings::default()).unwrap().1, None);
        assert!(kernel_distance(&x.narrow(0, 0, 1), &y, &KernelSettings::default()).is_err());
    }
}
