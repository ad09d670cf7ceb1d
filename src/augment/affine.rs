//! Affine maps of the plane, in which the geometric transforms are expressed.

/// An affine map of the plane, in pixel offsets from the centre, x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine(pub(super) [[f64; 3]; 2]);

impl Affine {
    pub(super) const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    pub(super) fn shift(x: f64, y: f64) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y]])
    }

    pub(super) fn scale(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0]])
    }

    pub(super) fn rotation(angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }

    /// Returns the map that applies `other` first, then this.
    pub(super) fn after(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self(std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                a[row][0] * b[0][column] + a[row][1] * b[1][column] + if column == 2 { a[row][2] } else { 0.0 }
            })
        }))
    }

    pub(super) fn inverse(&self) -> Self {
        let [[a, b, x], [c, d, y]] = self.0;
        let determinant = a * d - b * c;
        let linear = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        Self(std::array::from_fn(|row| {
            let [p, q] = linear[row];
            [p, q, -(p * x + q * y)]
        }))
    }

    pub(super) fn apply(&self, x: f64, y: f64) -> [f64; 2] {
        self.0.map(|[a, b, c]| a * x + b * y + c)
    }

    /// Returns what the map does to the axes.
    pub(super) fn axes(&self) -> Axes {
        let [[a, b, x], [c, d, y]] = self.0;
        let is_nothing = |off: f64, diagonal: f64| off.abs() <= 1e-12 * diagonal.abs();
        if is_nothing(b, a) && is_nothing(c, d) {
            Axes::Kept([(a, x), (d, y)])
        } else if is_nothing(a, b) && is_nothing(d, c) {
            Axes::Swapped([(b, x), (c, y)])
        } else {
            Axes::Mixed
        }
    }
}

/// The effect of a map on the axes, with the (slope, offset) of its x and its y.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Axes {
    /// The new x depends on x alone, and y on y.
    Kept([(f64, f64); 2]),
    /// The new x depends on y alone, and y on x.
    Swapped([(f64, f64); 2]),
    /// The new x and y depend on both.
    Mixed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_undoes_its_map() {
        let map = Affine::shift(3.0, -1.0).after(&Affine::rotation(0.3)).after(&Affine::scale(2.0, 0.5));
        let [x, y] = map.inverse().after(&map).apply(5.0, 7.0);
        assert!((x - 5.0).abs() < 1e-12 && (y - 7.0).abs() < 1e-12);
    }

    #[test]
    fn quarter_turns_keep_or_swap_the_axes_and_other_angles_mix_them() {
        let turned =
            |quarters: f64| Affine::scale(2.0, 0.5).after(&Affine::rotation(quarters * 0.5 * std::f64::consts::PI));
        assert!(matches!(turned(0.0).axes(), Axes::Kept(_)) && matches!(turned(2.0).axes(), Axes::Kept(_)));
        assert!(matches!(turned(1.0).axes(), Axes::Swapped(_)) && matches!(turned(3.0).axes(), Axes::Swapped(_)));
        assert_eq!(turned(0.1).axes(), Axes::Mixed);
    }
}
