//! Freezes the parameters that a run leaves as they are: FreezeD for the discriminator; mapping, coarse blocks and the
//! strengths of the noise for the generator.
//!
//! Freezing belongs to a run, not to the weights: files are saved with everything trainable again.

use anyhow::{Result, bail, ensure};

use super::{Discriminator, Generator, ScriptModule};

/// End of the names of the parameters that noise is multiplied by.
const NOISE_STRENGTH: &str = ".noise_strength";

/// The parts of both networks that a run does not train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreezeSettings {
    /// The number of frozen layers of the discriminator, counted from the highest resolution.
    pub d_layers: u64,
    /// The number of frozen blocks of the synthesis network, counted from 4x4.
    pub g_blocks: u64,
    /// Whether the mapping network is frozen.
    pub mapping: bool,
    /// Whether the strengths of the noise are frozen.
    pub noise: bool,
}

/// Freezes the first `count` layers of the discriminator (FreezeD), in the order from the highest resolution down and
/// in each block fromrgb, conv0, conv1, skip. The last block (4x4) is always trained.
///
/// # Source
/// Mo et al., "Freeze the Discriminator", arXiv 2002.10964.
///
/// # Errors
/// The discriminator has no blocks of those names, or fewer layers.
pub fn freeze_discriminator(d: &mut Discriminator, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let layers = discriminator_layers(&d.script);
    let (path, there) = (d.script.path.display(), layers.len());
    ensure!(there > 0, "cannot freeze layers of '{path}': its parameters have none of the names b64.conv0, ...");
    ensure!(
        count <= there as u64,
        "--freeze-d {count}: '{path}' has {there} layers before its last block; pass at most {there}"
    );
    let frozen: Vec<String> = layers.into_iter().take(count as usize).collect();
    d.script.freeze(|name| frozen.iter().any(|layer| name.starts_with(layer.as_str())));
    Ok(())
}

/// Freezes what the settings say of the generator: the mapping network, the synthesis blocks of the lowest resolutions
/// (4x4 is the first), the strengths of the noise.
///
/// # Errors
/// The generator has no parameters of those names, or fewer blocks, or nothing is left to train.
pub fn freeze_generator(g: &mut Generator, settings: FreezeSettings) -> Result<()> {
    let mut prefixes: Vec<String> = Vec::new();
    if settings.mapping {
        prefixes.push("mapping.".to_owned());
    }
    let named = (0..settings.g_blocks.min(32)).map(|block| format!("synthesis.b{}.", 4u64 << block));
    prefixes.extend(named);
    for prefix in &prefixes {
        let path = g.script.path.display();
        if !g.script.parameters.iter().any(|p| p.name.starts_with(prefix.as_str())) {
            let remedy = if prefix == "mapping." { "leave --freeze-mapping away" } else { "lower --freeze-g" };
            bail!("cannot freeze '{prefix}*' of '{path}': it has no such parameters; {remedy}");
        }
    }
    let is_noise = |name: &str| settings.noise && name.ends_with(NOISE_STRENGTH);
    ensure!(
        !settings.noise || g.script.parameters.iter().any(|p| is_noise(&p.name)),
        "cannot freeze the noise of '{}': it has no parameters '*{NOISE_STRENGTH}'; leave --freeze-noise away",
        g.script.path.display()
    );
    g.script.freeze(|name| is_noise(name) || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())));
    ensure!(
        g.script.parameters.iter().any(|p| p.trainable),
        "--freeze-g {} and --freeze-mapping leave nothing of '{}' to train; pass less",
        settings.g_blocks,
        g.script.path.display()
    );
    Ok(())
}

/// Returns prefixes of parameter names, such as `b64.conv0.`, in FreezeD's order, without those of the 4x4 block.
fn discriminator_layers(script: &ScriptModule) -> Vec<String> {
    let mut resolutions: Vec<u64> = script.parameters.iter().filter_map(|p| resolution_of(&p.name)).collect();
    resolutions.sort_unstable_by(|a, b| b.cmp(a));
    resolutions.dedup();
    let mut layers = Vec::new();
    for (place, resolution) in resolutions.into_iter().filter(|&resolution| resolution > 4).enumerate() {
        for layer in ["fromrgb", "conv0", "conv1", "skip"] {
            let prefix = format!("b{resolution}.{layer}.");
            // The skip architecture has one fromrgb a block; the published order counts the first only.
            let counts = layer != "fromrgb" || place == 0;
            if counts && script.parameters.iter().any(|p| p.name.starts_with(&prefix)) {
                layers.push(prefix);
            }
        }
    }
    layers
}

/// Returns the resolution in the name of a parameter, 64 for `b64.conv0.weight`, if it has one.
pub fn resolution_of(name: &str) -> Option<u64> {
    name.strip_prefix('b')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::resolution_of;

    #[test]
    fn blocks_are_told_by_their_names() {
        assert_eq!(resolution_of("b64.conv0.weight"), Some(64));
        assert_eq!(resolution_of("b4.out.bias"), Some(4));
        assert_eq!(resolution_of("bias.64"), None);
        assert_eq!(resolution_of("mapping.fc0.weight"), None);
    }
}
