//! Finds the max-margin direction of separable points: the hard-margin support vector machine without bias.

use anyhow::{Result, ensure};

/// Number of sweeps after which points count as not separable.
const MAX_SWEEPS: usize = 200_000;
/// KKT residual below which a solution is taken, in units of the margin, which is 1 in the problem solved.
const TOLERANCE: f64 = 1e-11;

/// The direction of the largest margin, and what is known of it.
#[derive(Clone, Debug)]
pub struct MaxMargin {
    /// Direction, a vector of length 1.
    pub direction: Vec<f64>,
    /// Margin `min_i a_i . direction`.
    pub margin: f64,
    /// Number of points that lie on the margin.
    pub support: usize,
    /// Largest violation of the Karush-Kuhn-Tucker conditions, see [`kkt_residual`].
    pub kkt_residual: f64,
}

/// Maximises `min_i a_i . u` over unit vectors u, where `a_i = y_i x_i` are points times their labels.
///
/// The problem is solved as `min |w|^2 / 2` with `a_i . w >= 1`, whose dual is `min |A^T alpha|^2 / 2 - sum alpha` with
/// `alpha >= 0`: one coordinate after the other is minimised exactly, and `w = A^T alpha` is kept beside it. Then
/// `u = w / |w|` has the margin `1 / |w|`.
///
/// # Source
/// Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008, algorithm 1 with C infinite.
///
/// # Errors
/// The points are not separable through the origin, or too narrowly.
pub fn max_margin(points: &[Vec<f64>]) -> Result<MaxMargin> {
    let dimension = points.first().map_or(0, Vec::len);
    let (mut alpha, mut w) = (vec![0.0; points.len()], vec![0.0; dimension]);
    let mut residual = f64::INFINITY;
    for _ in 0..MAX_SWEEPS {
        for (point, alpha) in points.iter().zip(&mut alpha) {
            let wanted = (*alpha + (1.0 - dot(point, &w)) / dot(point, point)).max(0.0);
            let change = wanted - *alpha;
            *alpha = wanted;
            w.iter_mut().zip(point).for_each(|(w, x)| *w += change * x);
        }
        residual = kkt_residual(points, &alpha, &w);
        if residual < TOLERANCE {
            break;
        }
    }
    ensure!(
        residual < TOLERANCE,
        "cannot separate the {} points: after {MAX_SWEEPS} sweeps the KKT residual is {residual:e}, not below \
         {TOLERANCE:e}; pass points with a wider margin",
        points.len()
    );
    let length = dot(&w, &w).sqrt();
    Ok(MaxMargin {
        direction: w.iter().map(|w| w / length).collect(),
        margin: 1.0 / length,
        support: alpha.iter().filter(|&&alpha| alpha > 0.0).count(),
        kkt_residual: residual,
    })
}

/// Returns the largest of: `1 - a_i . w` (a point inside the margin), `|alpha_i (a_i . w - 1)|` (a weight off it),
/// `-alpha_i`, and the entries of `|w - A^T alpha|`.
pub fn kkt_residual(points: &[Vec<f64>], alpha: &[f64], w: &[f64]) -> f64 {
    let of_points = points.iter().zip(alpha).map(|(point, &alpha)| {
        let slack = dot(point, w) - 1.0;
        (-slack).max((alpha * slack).abs()).max(-alpha)
    });
    let of_entries = w.iter().enumerate().map(|(entry, w)| {
        let sum: f64 = points.iter().zip(alpha).map(|(point, alpha)| alpha * point[entry]).sum();
        (w - sum).abs()
    });
    of_points.chain(of_entries).fold(0.0, f64::max)
}

/// Returns the scalar product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Returns the angle between a vector and a unit vector in degrees, exact for small ones too (an arc cosine is not).
pub fn angle_degrees(vector: &[f64], unit: &[f64]) -> f64 {
    let along = dot(vector, unit);
    let across: f64 = vector.iter().zip(unit).map(|(v, u)| (v - along * u).powi(2)).sum();
    across.sqrt().atan2(along).to_degrees()
}
