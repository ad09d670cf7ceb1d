//! Checks whether a generator and a discriminator belong together, before anything long begins.

use super::probe::probe_pair;
use super::{Discriminator, Generator};
use anyhow::{Result, ensure};

/// Checks that the sizes agree, that both networks can be trained, and, by trying them on a few images, that they work.
///
/// # Errors
/// The pair cannot be used; the message names the files, and both values where sizes differ.
pub fn check_pair(generator: &Generator, discriminator: &Discriminator) -> Result<()> {
    let (g, d) = (generator.script.path.display(), discriminator.script.path.display());
    if let Some(spec) = discriminator.spec() {
        let (r, c) = (generator.img_resolution(), generator.img_channels());
        ensure!(
            r == spec.img_resolution,
            "cannot finetune '{g}' with '{d}': the generator makes {r}x{r} images but the discriminator expects \
             {0}x{0}; pass a pair exported together (weights/README.md)",
            spec.img_resolution
        );
        ensure!(
            c == spec.img_channels,
            "cannot finetune '{g}' with '{d}': the generator makes images of {c} channels but the discriminator \
             expects {}; pass a pair exported together (weights/README.md)",
            spec.img_channels
        );
        ensure!(
            generator.c_dim() == spec.c_dim,
            "cannot finetune '{g}' with '{d}': the generator has {} classes but the discriminator {}; pass a pair \
             exported together (weights/README.md)",
            generator.c_dim(),
            spec.c_dim
        );
    }
    for script in [&generator.script, &discriminator.script] {
        ensure!(
            script.parameters.iter().any(|p| p.trainable),
            "cannot finetune '{}': it has no trainable parameters (a frozen module?); export it without torch.jit.freeze",
            script.path.display()
        );
    }
    probe_pair(generator, discriminator)
}
