//! Layer swapping: one generator of two of the same architecture, the low resolutions from one and the high ones from the
//! other.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use crate::model::{Generator, block_resolution};
use crate::tensor::no_grad;

/// The place where one generator goes over into the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap {
    /// The lowest resolution that is the other generator's, a power of two.
    pub resolution: i64,
    /// Width of the transition in octaves: 0 is a step, 1 mixes about two resolutions on either side.
    pub width: f64,
}

impl Swap {
    /// Returns the other generator's share of the parameters at resolution r:
    /// `1 / (1 + exp(-(log2(r / resolution) + 1/2) / width))`, whose limit for width 0 is 0 below `resolution` and 1 from it
    /// on. It is 1/2 between two resolutions.
    ///
    /// # Source
    /// Pinkney and Adler, arXiv 2010.05334, section 2.
    pub fn share(&self, r: i64) -> f64 {
        let octaves = (r as f64 / self.resolution as f64).log2() + 0.5;
        match self.width {
            0.0 => f64::from(octaves > 0.0),
            width => 1.0 / (1.0 + (-octaves / width).exp()),
        }
    }
}

/// Turns `generator` into the blend: at each resolution r, `a + share(r) (b - a)`; the mapping stays its own, so that
/// truncation does too.
///
/// # Errors
/// The two have different architectures, the resolution is none of theirs, or the width is negative; `generator` is then
/// unchanged.
pub fn blend(generator: &mut Generator, other: &Generator, swap: Swap) -> Result<()> {
    check(generator, other, swap)?;
    let mut steps = Vec::new();
    for own in &mut generator.script.parameters {
        let Some(r) = resolution_of(&own.name) else { continue };
        let found = other.script.parameters.iter().find(|parameter| parameter.name == own.name);
        let theirs = found.with_context(|| misfit(&other.script.path, &format!("it has no parameter {}", own.name)))?;
        ensure!(
            own.tensor.size() == theirs.tensor.size(),
            misfit(
                &other.script.path,
                &format!("{} has shape {:?}, not {:?}", own.name, theirs.tensor.size(), own.tensor.size())
            )
        );
        steps.push((&mut own.tensor, &theirs.tensor, swap.share(r)));
    }
    no_grad(|| {
        for (own, theirs, share) in steps {
            let blended: Tensor = own.lerp(&theirs.to_device(own.device()), share);
            own.copy_(&blended);
        }
    });
    Ok(())
}

fn check(generator: &Generator, other: &Generator, swap: Swap) -> Result<()> {
    let of = |generator: &Generator| {
        let path = generator.script.path.display();
        generator.spec().cloned().with_context(|| {
            format!("cannot blend '{path}': it only takes z; use a generator of the contract (weights/README.md)")
        })
    };
    let (own, theirs) = (of(generator)?, of(other)?);
    let sizes = [
        ("w_dim", own.w_dim, theirs.w_dim),
        ("img_resolution", own.img_resolution, theirs.img_resolution),
        ("img_channels", own.img_channels, theirs.img_channels),
    ];
    for (name, own, theirs) in sizes {
        ensure!(own == theirs, misfit(&other.script.path, &format!("{name} is {theirs}, not {own}")));
    }
    ensure!(
        own.g_architecture == theirs.g_architecture,
        misfit(&other.script.path, &format!("it is built as {}, not as {}", theirs.g_architecture, own.g_architecture))
    );
    let resolution = swap.resolution;
    ensure!(
        resolution.count_ones() == 1 && (4..=own.img_resolution).contains(&resolution),
        "cannot blend from the resolution {resolution} on; pass a power of two from 4 to {}",
        own.img_resolution
    );
    ensure!(
        swap.width.is_finite() && swap.width >= 0.0,
        "cannot blend with the width {}; pass a number of octaves, 0 or more",
        swap.width
    );
    Ok(())
}

fn misfit(other: &Path, what: &str) -> String {
    format!(
        "cannot blend with '{}': {what}; use two generators of one architecture, as those that were finetuned from one",
        other.display()
    )
}

/// Returns the resolution that a parameter acts at: 8 for `synthesis.b8.conv0.weight`; None for the mapping.
fn resolution_of(name: &str) -> Option<i64> {
    name.strip_prefix("synthesis.").and_then(block_resolution).map(|resolution| resolution as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_resolution_of_their_block() {
        assert_eq!(resolution_of("synthesis.b128.conv0.affine.weight"), Some(128));
        assert_eq!(resolution_of("synthesis.b4.const"), Some(4));
        assert_eq!(resolution_of("mapping.fc0.weight"), None);
        assert_eq!(resolution_of("synthesis.bias"), None);
    }

    #[test]
    fn without_width_the_share_is_a_step() {
        let swap = Swap { resolution: 16, width: 0.0 };
        assert_eq!([4, 8, 16, 32].map(|r| swap.share(r)), [0.0, 0.0, 1.0, 1.0]);
    }

    /// 1 / (1 + e^0.5) = 0.37754 just below and its complement just above.
    #[test]
    fn with_width_the_share_rises_evenly_around_the_place_between_two_resolutions() {
        let swap = Swap { resolution: 16, width: 1.0 };
        assert!((swap.share(8) - 0.377_540_668_8).abs() < 1e-9);
        assert!((swap.share(8) + swap.share(16) - 1.0).abs() < 1e-12);
        assert!((swap.share(4) + swap.share(32) - 1.0).abs() < 1e-12);
        let narrow = Swap { resolution: 16, width: 1e-6 };
        assert_eq!([4, 8, 16, 32].map(|r| narrow.share(r)), [0.0, 0.0, 1.0, 1.0]);
    }
}
