//! Precision and recall, density and coverage, which measure fidelity and variety apart. Each feature is the centre of
//! a ball that reaches to its k-th nearest neighbour; the metrics count which features lie in which balls.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::feature_set::Needs;
use super::formula::{Amount, Formula, Measured, Sides};

/// Number of distances that are computed at a time: 64 MiB of float64.
const PAIRS_AT_A_TIME: i64 = 1 << 23;
/// Largest value that rounding may leave of a squared distance of zero, relative to the squared norms.
const ROUNDING: f64 = 1e-13;

/// The share of fakes that lie among reals, and of reals that lie among fakes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of fakes inside at least one ball around a real: fidelity.
    pub precision: f64,
    /// Share of reals inside at least one ball around a fake: variety.
    pub recall: f64,
}

/// Density and coverage: like precision and recall, but robust against outliers among the reals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DensityCoverage {
    /// Mean number of balls around reals that a fake lies in, over k: fidelity, may exceed 1.
    pub density: f64,
    /// Share of reals with at least one fake in their ball: variety.
    pub coverage: f64,
}

/// Computes precision and recall; a point is inside a ball where its distance is at most the radius.
///
/// # Shapes
/// reals [N, F], fakes [M, F].
///
/// # Source
/// Kynkaanniemi et al., arXiv 1904.06991, section 3; k = 3 there.
///
/// # Errors
/// Not more than k pictures on a side.
pub fn precision_recall(reals: &Tensor, fakes: &Tensor, k: i64) -> Result<PrecisionRecall> {
    let inside_any = |centres: &Tensor, points: &Tensor| -> Result<f64> {
        let radii = squared_radii(centres, k)?.unsqueeze(0);
        let inside = by_rows(points, centres, |_, squares| squares.le_tensor(&radii).any_dim(1, false));
        Ok(inside.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]))
    };
    Ok(PrecisionRecall { precision: inside_any(reals, fakes)?, recall: inside_any(fakes, reals)? })
}

/// Computes density `1 / (k M) sum_j sum_i [y_j in ball(x_i)]` and coverage `1 / N sum_i [some y_j in ball(x_i)]`.
///
/// # Shapes
/// reals x [N, F], fakes y [M, F].
///
/// # Source
/// Naeem et al., arXiv 2002.09797, section 3; k = 5 there.
///
/// # Errors
/// Not more than k reals, or no fakes.
pub fn density_coverage(reals: &Tensor, fakes: &Tensor, k: i64) -> Result<DensityCoverage> {
    let radii = squared_radii(reals, k)?;
    let m = fakes.size()[0];
    ensure!(m > 0, "density and coverage need fakes, there are none");
    let fakes_inside = by_rows(reals, fakes, |first, squares| {
        let radii = radii.narrow(0, first, squares.size()[0]).unsqueeze(1);
        squares.le_tensor(&radii).sum_dim_intlist([1i64].as_slice(), false, Kind::Double)
    });
    let density = fakes_inside.sum(Kind::Double) / (k * m) as f64;
    let coverage = fakes_inside.gt(0.0).to_kind(Kind::Double).mean(Kind::Double);
    Ok(DensityCoverage { density: density.double_value(&[]), coverage: coverage.double_value(&[]) })
}

/// Returns the squared distance of every point to its k-th nearest neighbour, itself not counted: [N, F] -> [N].
fn squared_radii(points: &Tensor, k: i64) -> Result<Tensor> {
    let n = points.size()[0];
    ensure!(k >= 1 && n > k, "balls up to neighbour {k} need more than {k} pictures on each side, there are {n}");
    Ok(by_rows(points, points, |first, squares| {
        // A point is at distance 0 from itself; infinity keeps it out of its k nearest.
        let own = Tensor::full_like(&squares.narrow(1, 0, 1), f64::INFINITY);
        let place = Tensor::arange(squares.size()[0], (Kind::Int64, squares.device())) + first;
        squares.scatter(1, &place.unsqueeze(1), &own).kthvalue(k, 1, false).0
    }))
}

/// Applies `reduce` to the squared distances of some rows of `a` [n, F] at a time to all of `b` [m, F], and joins the
/// results: [n].
///
/// The distances are `|a|^2 + |b|^2 - 2 a.b` in float64 of features that are moved to the mean of b, so that equal
/// features are at distance 0 and others as far as float32 can tell. `reduce` gets the number of the first row, and
/// [rows, m].
fn by_rows(a: &Tensor, b: &Tensor, reduce: impl Fn(i64, &Tensor) -> Tensor) -> Tensor {
    let b = b.to_kind(Kind::Double);
    let centre = b.mean_dim([0i64].as_slice(), true, Kind::Double);
    let b = b - &centre;
    let squared = |x: &Tensor| x.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Double);
    let of_b = squared(&b).tr();
    let (n, m) = (a.size()[0], b.size()[0]);
    let rows = (PAIRS_AT_A_TIME / m.max(1)).max(1);
    let part = |first: i64| {
        let some = a.narrow(0, first, rows.min(n - first)).to_kind(Kind::Double) - &centre;
        let norms = squared(&some) + &of_b;
        let squares = &norms - some.matmul(&b.tr()) * 2.0;
        reduce(first, &squares.where_scalarother(&squares.gt_tensor(&(norms * ROUNDING)), 0.0))
    };
    Tensor::cat(&(0..n).step_by(rows as usize).map(part).collect::<Vec<_>>(), 0)
}

/// The metrics `pr50k3` and `pr50k3_full`.
#[derive(Debug)]
pub struct PrecisionAndRecall;

impl Formula for PrecisionAndRecall {
    fn prefix(&self) -> &'static str {
        "pr"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        Amount::with_neighbours(rest, 3)
    }

    fn lower_is_better(&self) -> bool {
        false
    }

    fn is_of_vgg(&self) -> bool {
        true
    }

    fn add_needs(&self, n: usize, needs: &mut Needs) {
        needs.features = needs.features.max(n);
    }

    fn compute(&self, sides: &Sides<'_>) -> Result<Measured> {
        let (reals, fakes) = sides.features()?;
        let found = precision_recall(&reals, &fakes, sides.neighbours)?;
        let measure = format!("precision and recall, {}", sides.detector().features);
        Ok(Measured::new(measure, vec![("_precision", found.precision), ("_recall", found.recall)]))
    }
}

/// The metrics `dc50k5` and `dc50k5_full`.
#[derive(Debug)]
pub struct DensityAndCoverage;

impl Formula for DensityAndCoverage {
    fn prefix(&self) -> &'static str {
        "dc"
    }

    fn amount(&self, rest: &str) -> Option<Amount> {
        Amount::with_neighbours(rest, 5)
    }

    fn lower_is_better(&self) -> bool {
        false
    }

    fn is_of_vgg(&self) -> bool {
        true
    }

    fn add_needs(&self, n: usize, needs: &mut Needs) {
        needs.features = needs.features.max(n);
    }

    fn compute(&self, sides: &Sides<'_>) -> Result<Measured> {
        let (reals, fakes) = sides.features()?;
        let found = density_coverage(&reals, &fakes, sides.neighbours)?;
        let measure = format!("density and coverage, {}", sides.detector().features);
        Ok(Measured::new(measure, vec![("_density", found.density), ("_coverage", found.coverage)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(places: &[f32]) -> Tensor {
        Tensor::from_slice(places).view([-1, 1])
    }

    #[test]
    fn points_on_a_line_are_counted_by_hand() {
        // The reals' radii to their nearest neighbours are 1, 1, 2.
        let reals = line(&[0.0, 1.0, 3.0]);
        // 0.5 is in the balls of 0 and 1, 2 in those of 1 (on its edge) and 3, 9 in none. The fakes' radii are 1.5,
        // 1.5, 7.
        let fakes = line(&[0.5, 2.0, 9.0]);
        let found = precision_recall(&reals, &fakes, 1).unwrap();
        assert_eq!(found, PrecisionRecall { precision: 2.0 / 3.0, recall: 1.0 });
        let found = density_coverage(&reals, &fakes, 1).unwrap();
        assert_eq!(found, DensityCoverage { density: 4.0 / 3.0, coverage: 1.0 });
    }

    #[test]
    fn far_sets_have_nothing_in_common_and_equal_ones_everything() {
        let reals = line(&[0.0, 1.0, 2.0, 3.0]);
        let far = precision_recall(&reals, &(&reals + 100.0), 2).unwrap();
        assert_eq!((far.precision, far.recall), (0.0, 0.0));
        let same = density_coverage(&reals, &reals, 2).unwrap();
        // Every ball holds its own centre and two neighbours, and more where neighbours tie.
        assert!(same.density >= 1.0 && same.coverage == 1.0);
    }

    #[test]
    fn repeated_pictures_have_radius_zero_and_still_hold_each_other() {
        let repeated = Tensor::from_slice(&[1.1f32, 7.3]).repeat([5, 1]) * 1e3;
        let found = precision_recall(&repeated, &repeated, 3).unwrap();
        assert_eq!(found, PrecisionRecall { precision: 1.0, recall: 1.0 });
    }

    /// Computes the four numbers from whole matrices of distances, without the expansion of the square.
    fn by_whole_matrices(reals: &Tensor, fakes: &Tensor, k: i64) -> [f64; 4] {
        let squares = |a: &Tensor, b: &Tensor| -> Tensor {
            (0..a.size()[1]).map(|at| (a.narrow(1, at, 1) - b.narrow(1, at, 1).tr()).square()).sum()
        };
        // The nearest of all is the point itself.
        let radii = |points: &Tensor| squares(points, points).kthvalue(k + 1, 1, false).0;
        let between = squares(reals, fakes);
        let in_reals = between.le_tensor(&radii(reals).unsqueeze(1));
        let in_fakes = between.le_tensor(&radii(fakes).unsqueeze(0));
        let share = |inside: &Tensor, along: i64| {
            inside.any_dim(along, false).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
        };
        let density = in_reals.sum(Kind::Double).double_value(&[]) / (k * fakes.size()[0]) as f64;
        [share(&in_reals, 0), share(&in_fakes, 1), density, share(&in_reals, 1)]
    }

    /// 3500 points on a side are too many pairs for one part of rows; the second is of another length.
    #[test]
    fn numbers_do_not_depend_on_the_parts_that_distances_are_computed_in() {
        let n = 3500;
        assert!(n * n > PAIRS_AT_A_TIME && n * n < 2 * PAIRS_AT_A_TIME);
        tch::manual_seed(4);
        let normal = || Tensor::randn([n, 2], (Kind::Double, tch::Device::Cpu));
        let (reals, fakes) = (normal(), normal() * 1.5 + 0.3);
        let (pr, dc) = (precision_recall(&reals, &fakes, 3).unwrap(), density_coverage(&reals, &fakes, 3).unwrap());
        let found = [pr.precision, pr.recall, dc.density, dc.coverage];
        for (found, expected) in found.into_iter().zip(by_whole_matrices(&reals, &fakes, 3)) {
            assert!(expected > 0.1 && (found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn too_few_points_for_k_neighbours_are_refused() {
        let message = precision_recall(&line(&[0.0, 1.0, 2.0]), &line(&[0.0, 1.0]), 2).unwrap_err().to_string();
        assert!(message.contains("more than 2 pictures") && message.contains("there are 2"), "{message}");
    }
}
