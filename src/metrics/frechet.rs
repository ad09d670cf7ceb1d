//! The Frechet distance between two sets of features, each taken as a normal distribution; with Inception features it
//! is the FID. Few pictures bias it upwards, so that its numbers compare only at equal numbers of pictures.

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::feature_set::Needs;
use super::formula::{Amount, Formula, Measured, Sides};
use super::moments::Moments;

/// Largest value that rounding may leave of a variance of zero, relative to the largest variance and per feature.
const ROUNDING: f64 = 1e-15;
/// Size, relative to the largest variance, from which a negative variance means damage and not rounding.
const NEGATIVE: f64 = 1e-6;
/// Largest covariance, relative to the largest mean square, that rounding may leave of features that are all equal.
const NO_VARIANCE: f64 = 1e-12;

/// Returns `|mu_a - mu_b|^2 + Tr(S_a + S_b - 2 sqrt(S_a S_b))`, which is never complex: the last trace is the sum of
/// the roots of the eigenvalues of `R S_b R^T`, a symmetric matrix, where `R^T R = S_a`.
///
/// Directions in which the smaller set has no variance beyond rounding are left out, as they contribute nothing.
///
/// # Shapes
/// Moments of F features each -> one number.
///
/// # Source
/// Dowson and Landau (1982); Heusel et al., arXiv 1706.08500, section 4.
///
/// # Errors
/// Features of different widths, none at all, values that are not finite, or a covariance with negative variances.
pub fn frechet_distance(a: &Moments, b: &Moments) -> Result<f64> {
    ensure!(
        a.width() == b.width(),
        "cannot compare features of {} and {} numbers: they are of different detectors",
        a.width(),
        b.width()
    );
    ensure!(a.count > 0 && b.count > 0, "cannot compare {} pictures with {}", a.count, b.count);
    let (few, many) = if a.count <= b.count { (a, b) } else { (b, a) };
    let (few, many) = (few.to_device(Device::Cpu), many.to_device(Device::Cpu));
    let (s_few, s_many) = (few.covariance(), many.covariance());
    for covariance in [&s_few, &s_many] {
        ensure!(
            covariance.isfinite().all().int64_value(&[]) == 1,
            "the features have values that are not finite: the detector or the pictures are damaged"
        );
    }
    let mean_term = (few.mean() - many.mean()).square().sum(Kind::Double);
    let root = root_of(&few)?;
    let between = root.matmul(&s_many).matmul(&root.tr());
    let eigenvalues = ((&between + between.tr()) * 0.5).f_linalg_eigvalsh("L").context(UNSOLVED)?;
    let root_trace = eigenvalues.clamp_min(0.0).sqrt().sum(Kind::Double);
    let distance = mean_term + s_few.trace() + s_many.trace() - root_trace * 2.0;
    Ok(distance.double_value(&[]))
}

/// The message for eigenvalues that libtorch cannot find.
const UNSOLVED: &str = "cannot decompose the covariance of the features";

/// Returns R [r, F] with `R^T R = S`, r being the number of directions that have variance: none where all pictures are the same.
///
/// With more pictures than features R is mostly Cholesky's factor, which takes a tenth of the time of an
/// eigendecomposition.
fn root_of(moments: &Moments) -> Result<Tensor> {
    let (covariance, width) = (moments.covariance(), moments.width());
    let mean_squares = moments.outer.diagonal(0, 0, 1) / moments.count as f64;
    if covariance.abs().max().double_value(&[]) <= NO_VARIANCE * mean_squares.max().double_value(&[]) {
        return Ok(covariance.narrow(0, 0, 0));
    }
    if moments.count > width {
        let (factor, failed_at) = covariance.linalg_cholesky_ex(false, false);
        if failed_at.int64_value(&[]) == 0 {
            return Ok(factor.tr());
        }
    }
    let (variances, directions) = covariance.f_linalg_eigh("L").context(UNSOLVED)?;
    let largest = variances.select(0, width - 1).double_value(&[]);
    let smallest = variances.select(0, 0).double_value(&[]);
    ensure!(
        smallest >= -NEGATIVE * largest.max(0.0),
        "a covariance has the negative variance {smallest:.3e}, its largest is {largest:.3e}: the moments are damaged"
    );
    // The variances ascend, so those to keep are the last.
    let kept = variances.gt(largest * ROUNDING * width as f64).sum(Kind::Int64).int64_value(&[]);
    let first = width - kept;
    let scales = variances.narrow(0, first, kept).sqrt().unsqueeze(1);
    Ok(directions.narrow(1, first, kept).tr() * scales)
}

/// The metrics `fid50k` and `fid50k_full`.
#[derive(Debug)]
pub struct Frechet;

/// Number of pictures below which a distance is mostly bias, and gets a warning.
const FEW: usize = 2048;

impl Formula for Frechet {
    fn prefix(&self) -> &'static str {
        "fid"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        Amount::compared(rest)
    }

    fn lower_is_better(&self) -> bool {
        true
    }

    fn add_needs(&self, n: usize, needs: &mut Needs) {
        needs.moments.insert(n);
    }

    fn compute(&self, sides: &Sides<'_>) -> Result<Measured> {
        let (reals, fakes) = sides.moments()?;
        let distance = frechet_distance(&reals, &fakes)?;
        let warnings = warnings_of_few(sides, fakes.width() as usize);
        let measure = sides.detector().measure("FID", "Frechet distance");
        Ok(Measured { measure, values: vec![("", distance)], warnings })
    }
}

fn warnings_of_few(sides: &Sides<'_>, width: usize) -> Vec<String> {
    let counts = [("real pictures", sides.real_count), ("fakes", sides.fake_count)];
    let small = counts.into_iter().filter(|&(_, n)| n < FEW.max(width));
    small
        .map(|(side, n)| {
            let why = if n < width { format!("its {width} features") } else { FEW.to_string() };
            format!(
                "{n} {side} are fewer than {why}: the distance is biased upwards, compare it only with others \
                 of the same numbers (the kernel distance is unbiased)"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moments of a normal distribution with this mean and these variances along the axes.
    fn axes(mean: &[f64], variances: &[f64], count: i64) -> Moments {
        let n = count as f64;
        let mean = Tensor::from_slice(mean);
        let outer = (Tensor::from_slice(variances).diag(0) + mean.outer(&mean)) * n;
        Moments { count, sum: mean * n, outer }
    }

    #[test]
    fn along_axes_it_is_the_sum_of_squared_differences_of_means_and_deviations() {
        let a = axes(&[1.0, 2.0, 0.0], &[4.0, 9.0, 1.0], 100);
        let b = axes(&[1.5, 0.0, 0.0], &[1.0, 16.0, 1.0], 50);
        // The means differ by 0.25 + 4, the deviations by (2 - 1)^2 + (3 - 4)^2.
        assert!((frechet_distance(&a, &b).unwrap() - 6.25).abs() < 1e-12);
        assert!((frechet_distance(&b, &a).unwrap() - 6.25).abs() < 1e-12);
    }

    #[test]
    fn fewer_pictures_than_features_give_a_real_distance_of_zero_to_themselves() {
        let x = Tensor::randn([10, 40], (Kind::Double, Device::Cpu)) + 3.0;
        let moments = Moments::from_features(&x);
        assert!(frechet_distance(&moments, &moments).unwrap().abs() < 1e-9);
        // Without any variance in one set, Tr(S_a) and the means are left.
        let point = Moments::from_features(&Tensor::zeros([5, 40], (Kind::Double, Device::Cpu)));
        let expected = (moments.covariance().trace() + moments.mean().square().sum(Kind::Double)).double_value(&[]);
        assert!((frechet_distance(&moments, &point).unwrap() / expected - 1.0).abs() < 1e-12);
    }

    #[test]
    fn equal_pictures_have_a_distance_though_rounding_leaves_them_a_variance() {
        let many = Moments::from_features(&(Tensor::randn([300, 64], (Kind::Double, Device::Cpu)) * 3.0 + 2.0));
        for (count, scale) in [(20, 7.3), (200, 0.1), (2000, 1234.5)] {
            let row = Tensor::randn([1, 64], (Kind::Float, Device::Cpu)) * scale;
            let equal = Moments::from_features(&row.repeat([count, 1]));
            let row = row.squeeze().to_kind(Kind::Double);
            let means = (many.mean() - row).square().sum(Kind::Double);
            let expected = (means + many.covariance().trace()).double_value(&[]);
            assert!((frechet_distance(&many, &equal).unwrap() / expected - 1.0).abs() < 1e-6, "{count}");
            assert!(frechet_distance(&equal, &equal).unwrap().abs() < 1e-6 * scale * scale, "{count}");
        }
    }

    #[test]
    fn either_root_gives_the_same_distance() {
        let (a, b) =
            (Tensor::randn([60, 5], (Kind::Double, Device::Cpu)), Tensor::randn([90, 5], (Kind::Double, Device::Cpu)));
        let plain = frechet_distance(&Moments::from_features(&a), &Moments::from_features(&b)).unwrap();
        // A feature that never varies stops Cholesky and adds nothing.
        let padded = |x: &Tensor| Moments::from_features(&Tensor::cat(&[x, &x.narrow(1, 0, 1).zeros_like()], 1));
        assert!((frechet_distance(&padded(&a), &padded(&b)).unwrap() - plain).abs() < 1e-10);
    }

    #[test]
    fn damaged_moments_are_refused_instead_of_rooted() {
        let good = axes(&[0.0, 0.0], &[1.0, 1.0], 10);
        let message = |bad: &Moments| frechet_distance(bad, &good).unwrap_err().to_string();
        assert!(message(&axes(&[0.0, 0.0], &[1.0, -0.5], 5)).contains("negative variance"));
        assert!(message(&axes(&[0.0, f64::NAN], &[1.0, 1.0], 5)).contains("not finite"));
        assert!(message(&axes(&[0.0], &[1.0], 5)).contains("1 and 2 numbers"));
        assert!(message(&Moments::new(2, Device::Cpu)).contains("0 pictures"));
    }
}
