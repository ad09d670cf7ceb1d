//! Walks through latents for films: the ws of each frame on a way from one latent to the next.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::interpolation::{ClosedLoop, Easing, lerp, slerp};

/// The way between latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On the sphere in z; each z on it is mapped to ws.
    Z,
    /// Straight in w.
    W,
    /// In w on a smooth closed curve, which turns nowhere at once.
    Cubic,
}

/// The frames of a walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WalkTiming {
    /// Number of frames, at least 1.
    pub frames: usize,
    /// Whether the last latent leads back to the first. The frame after the last one is then the first.
    pub closed: bool,
    /// The speed from one latent to the next.
    pub easing: Easing,
}

impl WalkTiming {
    /// Returns the latent that a frame comes from, the one that it goes to, and the share of the way between them.
    fn place(&self, frame: usize, latents: usize) -> (usize, usize, f64) {
        let steps = if self.closed { latents } else { latents - 1 };
        let share = match (self.closed, self.frames) {
            (true, frames) => frame as f64 / frames as f64,
            (false, 1) => 0.0,
            (false, frames) => frame as f64 / (frames - 1) as f64,
        };
        let along = share * steps as f64;
        let from = (along.floor() as usize).min(steps.saturating_sub(1));
        (from, (from + 1) % latents, self.easing.at(along - from as f64))
    }
}

/// Returns the latents of all frames: ws, or z for [`Way::Z`].
///
/// # Shapes
/// `latents`: z [K, z_dim] for [`Way::Z`], else ws [K, num_ws, w_dim] -> [frames, ...].
///
/// # Errors
/// Fewer than two latents, or a curve that is not closed.
pub fn walk(latents: &Tensor, way: Way, timing: WalkTiming) -> Result<Tensor> {
    let count = latents.size().first().map_or(0, |&count| count as usize);
    ensure!(count >= 2, "cannot walk between {count} latents; pass two or more to each walk");
    ensure!(timing.closed || way != Way::Cubic, "a smooth curve is a loop; pass --no-loop with --way w or z");
    if way == Way::Cubic {
        let curve = ClosedLoop::new(latents.shallow_clone(), timing.easing)?;
        let at = |frame: usize| curve.at(frame as f64 / timing.frames as f64);
        return Ok(Tensor::stack(&(0..timing.frames).map(at).collect::<Vec<_>>(), 0));
    }
    let frame = |frame: usize| {
        let (from, to, share) = timing.place(frame, count);
        let (from, to) = (latents.narrow(0, from as i64, 1), latents.narrow(0, to as i64, 1));
        if way == Way::Z { slerp(&from, &to, share) } else { lerp(&from, &to, share) }
    };
    Ok(Tensor::cat(&(0..timing.frames).map(frame).collect::<Vec<_>>(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(frames: usize, closed: bool) -> WalkTiming {
        WalkTiming { frames, closed, easing: Easing::Linear }
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.flatten(0, -1).contiguous()).unwrap()
    }

    #[test]
    fn an_open_walk_begins_at_the_first_latent_and_ends_at_the_last() {
        let ws = Tensor::from_slice(&[0f32, 1.0, 3.0]).view([3, 1, 1]);
        let frames = walk(&ws, Way::W, timing(5, false)).unwrap();
        assert_eq!(numbers(&frames), [0.0, 0.5, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_loop_goes_back_to_the_first_latent_without_showing_it_twice() {
        let ws = Tensor::from_slice(&[0f32, 4.0]).view([2, 1, 1]);
        for way in [Way::W, Way::Cubic] {
            let frames = walk(&ws, way, timing(4, true)).unwrap();
            assert_eq!(numbers(&frames), [0.0, 2.0, 4.0, 2.0], "{way:?}");
        }
    }

    #[test]
    fn a_walk_on_the_sphere_keeps_the_length() {
        let z = Tensor::from_slice(&[3f32, 4.0, -4.0, 3.0]).view([2, 2]);
        let frames = walk(&z, Way::Z, timing(7, true)).unwrap();
        for frame in 0..7 {
            let length = frames.get(frame).square().sum(tch::Kind::Float).sqrt().double_value(&[]);
            assert!((length - 5.0).abs() < 1e-5, "{length}");
        }
    }

    #[test]
    fn a_walk_that_is_none_is_refused() {
        let ws = Tensor::from_slice(&[0f32, 4.0]).view([2, 1, 1]);
        assert!(walk(&ws.narrow(0, 0, 1), Way::W, timing(4, true)).is_err());
        assert!(walk(&ws, Way::Cubic, timing(4, false)).is_err());
        assert_eq!(numbers(&walk(&ws, Way::W, timing(1, false)).unwrap()), [0.0]);
    }
}
