//! Ways between latents: on the sphere in z, straight in w, and closed loops through keyframes in w.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// The sine of an angle between latents below which the way is taken to be straight.
const SMALL_SINE: f64 = 1e-6;

/// The speed along the way from one latent to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Easing {
    /// The same speed all the way: t.
    #[default]
    Linear,
    /// From rest to rest: 3 t^2 - 2 t^3.
    Smooth,
}

impl Easing {
    /// Returns the share of the way, 0 to 1, at the share `t` of the time.
    pub fn at(self, t: f64) -> f64 {
        match self {
            Easing::Linear => t,
            Easing::Smooth => t * t * (3.0 - 2.0 * t),
        }
    }
}

/// Interpolates on the sphere: `(sin((1 - t) angle) from + sin(t angle) to) / sin(angle)`, row by row.
///
/// The rows are taken as they were drawn, not normalised: their lengths differ little and go over into each other, and
/// the mapping normalises z anyway. Parallel and opposite rows are interpolated in a straight line.
///
/// # Shapes
/// `from` and `to`: z [N, z_dim]; `t` 0 to 1 -> float32 [N, z_dim].
///
/// # Source
/// Shoemake, Animating rotation with quaternion curves, 1985; for latents: White, arXiv 1609.04468.
pub fn slerp(from: &Tensor, to: &Tensor, t: f64) -> Tensor {
    let (from, to) = (from.to_kind(Kind::Double), to.to_kind(Kind::Double));
    let along = |tensor: &Tensor| tensor.sum_dim_intlist([-1i64].as_slice(), true, Kind::Double);
    let lengths = (along(&from.square()) * along(&to.square())).sqrt();
    let cosine = (along(&(&from * &to)) / lengths.clamp_min(f64::MIN_POSITIVE)).clamp(-1.0, 1.0);
    let angle = cosine.acos();
    let sine = angle.sin();
    let round = (((&angle * (1.0 - t)).sin() * &from) + ((&angle * t).sin() * &to)) / sine.clamp_min(SMALL_SINE);
    round.where_self(&sine.gt(SMALL_SINE), &lerp(&from, &to, t)).to_kind(Kind::Float)
}

/// Interpolates in a straight line, as is usual for w: `from + t (to - from)`, of any shape.
pub fn lerp(from: &Tensor, to: &Tensor, t: f64) -> Tensor {
    from.lerp(to, t)
}

/// A closed way through keyframes in w: the periodic Catmull-Rom spline, whose slope at a keyframe is half of the step from the
/// keyframe before to the one behind.
///
/// # Source
/// Catmull and Rom, A class of local interpolating splines, 1974.
#[derive(Debug)]
pub struct ClosedLoop {
    keyframes: Tensor,
    easing: Easing,
}

impl ClosedLoop {
    /// Makes a loop through `keyframes` [K, num_ws, w_dim], from the last of which it goes on to the first.
    ///
    /// # Errors
    /// There are fewer than two keyframes.
    pub fn new(keyframes: Tensor, easing: Easing) -> Result<Self> {
        let k = keyframes.size().first().copied().unwrap_or(0);
        ensure!(k >= 2, "cannot go in a loop through {k} latents; pass two or more");
        Ok(Self { keyframes, easing })
    }

    /// Returns ws [num_ws, w_dim] at a place of the loop: 0 is the first keyframe, 1 is again the first, and places beyond
    /// go round.
    pub fn at(&self, place: f64) -> Tensor {
        let k = self.keyframes.size()[0];
        let frames = place.rem_euclid(1.0) * k as f64;
        let (index, t) = (frames.floor() as i64, self.easing.at(frames.fract()));
        let parts = catmull_rom(t).into_iter().zip(index - 1..);
        parts.map(|(weight, frame)| self.keyframes.select(0, frame.rem_euclid(k)) * weight).sum()
    }
}

/// Returns the weights of the keyframes -1, 0, 1 and 2 at the share `t` of the way from keyframe 0 to 1; their sum is 1.
fn catmull_rom(t: f64) -> [f64; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [(-t + 2.0 * t2 - t3) / 2.0, (2.0 - 5.0 * t2 + 3.0 * t3) / 2.0, (t + 4.0 * t2 - 3.0 * t3) / 2.0, (t3 - t2) / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn furthest(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// Float32 has 24 bits, and the numbers are around 1.
    const ROUNDING: f64 = 1e-6;

    #[test]
    fn slerp_begins_and_ends_at_its_ends_and_keeps_the_length() {
        let (from, to) = (Tensor::from_slice(&[3f32, 4.0, 0.0]), Tensor::from_slice(&[0f32, 0.0, 5.0]));
        let (from, to) = (from.view([1, 3]), to.view([1, 3]));
        assert!(furthest(&slerp(&from, &to, 0.0), &from) < ROUNDING);
        assert!(furthest(&slerp(&from, &to, 1.0), &to) < ROUNDING);
        for t in [0.1, 0.5, 0.8] {
            let length = slerp(&from, &to, t).square().sum(Kind::Float).sqrt().double_value(&[]);
            assert!((length - 5.0).abs() < 5.0 * ROUNDING, "{length} at {t}");
        }
        // Halfway of a right angle both have the weight sin(45 degrees) = sqrt(1/2).
        assert!(furthest(&slerp(&from, &to, 0.5), &((from + to) * 0.5f64.sqrt())) < 5.0 * ROUNDING);
    }

    #[test]
    fn slerp_of_equal_and_opposite_rows_is_finite() {
        let rows = Tensor::from_slice(&[1f32, 2.0, 1.0, 2.0]).view([2, 2]);
        let others = Tensor::from_slice(&[1f32, 2.0, -1.0, -2.0]).view([2, 2]);
        let half = slerp(&rows, &others, 0.5);
        assert!(furthest(&half, &Tensor::from_slice(&[1f32, 2.0, 0.0, 0.0]).view([2, 2])) < ROUNDING);
    }

    fn keyframes() -> Tensor {
        Tensor::from_slice(&[0f64, 1.0, 3.0, -2.0, 0.5, 4.0, 2.0, 2.0]).view([4, 1, 2])
    }

    #[test]
    fn a_loop_meets_its_keyframes_and_closes() {
        for easing in [Easing::Linear, Easing::Smooth] {
            let around = ClosedLoop::new(keyframes(), easing).unwrap();
            for index in 0..4 {
                assert!(furthest(&around.at(index as f64 / 4.0), &keyframes().get(index)) < 1e-12);
            }
            assert!(furthest(&around.at(1.0), &keyframes().get(0)) < 1e-12);
            assert!(furthest(&around.at(1.3), &around.at(0.3)) < 1e-12);
        }
    }

    /// The slopes on both sides of a keyframe differ by the second derivative times the step, below 1e-3 here.
    #[test]
    fn a_loop_goes_through_its_keyframes_without_a_corner() {
        let step = 1e-6;
        for easing in [Easing::Linear, Easing::Smooth] {
            let around = ClosedLoop::new(keyframes(), easing).unwrap();
            for place in [0.0, 0.25, 0.5, 0.75] {
                let (before, here, behind) = (around.at(place - step), around.at(place), around.at(place + step));
                let (into, out) = ((&here - before) / step, (behind - &here) / step);
                assert!(furthest(&into, &out) < 1e-2, "at {place}");
            }
        }
    }

    #[test]
    fn one_keyframe_is_no_loop() {
        let message = ClosedLoop::new(keyframes().narrow(0, 0, 1), Easing::Linear).unwrap_err().to_string();
        assert!(message.contains("two or more"), "{message}");
    }

    #[test]
    fn smooth_easing_rests_at_both_ends() {
        assert_eq!([0.0, 0.5, 1.0].map(|t| Easing::Smooth.at(t)), [0.0, 0.5, 1.0]);
        assert!(Easing::Smooth.at(1e-3) < 1e-5 && 1.0 - Easing::Smooth.at(1.0 - 1e-3) < 1e-5);
    }
}
