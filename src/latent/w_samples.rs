//! w of many latents, and how it is spread: what projecting and looking for directions begin with.

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::latent::seeds::NormalStream;
use crate::model::{Generator, Truncation};
use crate::tensor::no_grad;

/// Number of latents that the spread of w is measured on.
///
/// # Source
/// Karras et al., arXiv 1912.04958, appendix D.
pub const SAMPLES: usize = 10_000;
/// Number of latents that are mapped at a time.
const CHUNK: i64 = 1_000;

/// Draws `count` latents from a stream, one after the other, and maps them without truncation: w [count, w_dim] on the
/// CPU. `class` is the class of all of them.
///
/// # Errors
/// The generator has no mapping, the class does not fit it, or it gives w that are not finite.
pub fn drawn_w(generator: &Generator, class: Option<i64>, draws: &mut NormalStream, count: usize) -> Result<Tensor> {
    let (z_dim, device) = (generator.z_dim(), generator.script.device);
    let mut values = vec![0f32; count * z_dim as usize];
    draws.fill(&mut values);
    let z = Tensor::from_slice(&values).view([count as i64, z_dim]);
    let mut parts = Vec::new();
    for part in z.split(CHUNK, 0) {
        let c = generator.class_labels(class, part.size()[0])?;
        let ws = no_grad(|| generator.mapping(&part.to_device(device), c.as_ref(), Truncation::OFF, false))?;
        parts.push(ws.select(1, 0).to_device(Device::Cpu));
    }
    let w = Tensor::cat(&parts, 0);
    ensure!(
        w.isfinite().all().int64_value(&[]) == 1,
        "'{}' maps latents to w that are not finite: the weights are damaged or diverged; use others",
        generator.script.path.display()
    );
    Ok(w)
}

/// Returns the sizes of ws, (num_ws, w_dim).
///
/// # Errors
/// The generator only takes z.
pub fn sizes_of_ws(generator: &Generator) -> Result<(i64, i64)> {
    let spec = generator.spec().with_context(|| {
        format!(
            "'{}' only takes z: it has no w; use a generator of the contract (weights/README.md)",
            generator.script.path.display()
        )
    })?;
    Ok((spec.num_ws, spec.w_dim))
}

/// The middle of W, and how far latents lie from it.
#[derive(Debug)]
pub struct WSpread {
    /// The mean of w, [w_dim] in float32.
    pub mean: Tensor,
    /// The root of the mean squared distance from the mean, over all w_dim numbers together.
    pub deviation: f64,
}

impl WSpread {
    /// Measures the spread of w [N, w_dim], in float64.
    pub fn of(w: &Tensor) -> Self {
        let w = w.to_kind(Kind::Double);
        let mean = w.mean_dim([0i64].as_slice(), false, Kind::Double);
        let squares = (&w - &mean).square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        let deviation = squares.mean(Kind::Double).sqrt().double_value(&[]);
        Self { mean: mean.to_kind(Kind::Float), deviation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four corners of a rectangle of 6 by 8 lie 5 from its middle.
    #[test]
    fn the_deviation_is_the_distance_from_the_mean() {
        let w = Tensor::from_slice(&[1f32, 2.0, 7.0, 2.0, 1.0, 10.0, 7.0, 10.0]).view([4, 2]);
        let spread = WSpread::of(&w);
        assert_eq!(Vec::<f32>::try_from(spread.mean).unwrap(), [4.0, 6.0]);
        assert!((spread.deviation - 5.0).abs() < 1e-12);
    }
}
