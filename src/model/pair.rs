//! Do a generator and a discriminator belong together?

use super::{Discriminator, Generator, NoiseMode, Truncation};
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor, no_grad};

/// Checks sizes, that both can be trained, and, by one tiny forward pass, that they really work.
///
/// # Errors
/// Names both files and both values of what differs.
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
    no_grad(|| {
        let z = Tensor::zeros([2, generator.z_dim()], (Kind::Float, generator.script.device));
        let c = match generator.c_dim() {
            0 => None,
            c_dim => Some(Tensor::zeros([2, c_dim], (Kind::Float, generator.script.device))),
        };
        let images = generator.images(&z, c.as_ref(), Truncation::OFF, NoiseMode::Const, None)?;
        let logits = discriminator
            .logits(&images, c.as_ref())
            .with_context(|| format!("the discriminator does not take the images of '{g}'"))?;
        ensure!(
            logits.size() == [2, 1] || logits.size() == [2],
            "'{d}' is no discriminator: two images give logits of shape {:?}, [2, 1] is expected",
            logits.size()
        );
        Ok(())
    })
}
