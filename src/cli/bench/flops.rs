//! Counts the arithmetic of a training step from the shapes of the convolutions.

use crate::model::ScriptModule;

/// Returns the floating-point operations of all convolutions of a contract network for one image, forward; a
/// multiplication and an addition count as two. Resampling filters, linear layers and everything pointwise are left
/// out: under 2 % together (more in path length and R1, where filters are matrix products).
///
/// All convolutions count as direct ones, also where the networks get the same result by fewer multiplications
/// (`python/rootgan/networks/winograd.py`): a share of what the machine can do may then be above 1.
///
/// A transposed convolution of the generator works on its input's pixels, a strided one of the discriminator on its
/// output's: both have half the block's resolution.
pub fn of_convolutions(script: &ScriptModule, is_generator: bool) -> f64 {
    let halved: &[&str] = if is_generator { &["conv0"] } else { &["conv1", "skip"] };
    let of = |name: &str, size: &[i64]| {
        let parts: Vec<&str> = name.split('.').collect();
        let resolution = parts.iter().find_map(|part| part.strip_prefix('b')?.parse::<i64>().ok())?;
        let halves = parts.iter().any(|part| halved.contains(part)) && resolution > 4;
        let side = if halves { resolution / 2 } else { resolution };
        Some(2.0 * size.iter().product::<i64>() as f64 * (side * side) as f64)
    };
    let weights = script.parameters.iter().filter(|p| p.name.ends_with(".weight"));
    let of_parameter = |(name, size): (&String, Vec<i64>)| if size.len() == 4 { of(name, &size) } else { None };
    weights.filter_map(|p| of_parameter((&p.name, p.tensor.size()))).sum()
}

/// Returns the operations of a training iteration per image with the published intervals, from those of one forward
/// pass of G and D.
///
/// Forward is 1; the gradient with respect to activations another, that with respect to weights another. Gmain: 3 G, and 2 D
/// as D's weights get no gradient. Dmain: G, and 3 D for generated and for real images. Greg, every 4th time on half the
/// images, and Dreg, every 16th: forward, inner gradient, and both of their backward passes, 6 in all.
pub fn of_training(g: f64, d: f64) -> f64 {
    let (greg, dreg) = (6.0 / 2.0 / 4.0, 6.0 / 16.0);
    g * (3.0 + 1.0 + greg) + d * (2.0 + 6.0 + dreg)
}
