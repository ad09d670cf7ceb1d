//! The augmentation of StyleGAN2-ADA: what the discriminator sees is transformed at random, generated and real images
//! alike, with a probability p that is fixed or follows how much the discriminator overfits.
//!
//! R1 differentiates through the augmentation: where that is asked for, everything is made of operations that can be
//! differentiated twice.
//!
//! # Source
//! Karras et al., arXiv 2006.06676.

mod affine;
mod axis;
mod colour;
mod corrupt;
mod draws;
mod filters;
mod geometry;
mod sampling;

use tch::Tensor;

use crate::tensor::arithmetic::is_deterministic;

pub use draws::Draws;

/// The transforms that a pipe has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The field's names.
pub struct Transforms {
    pub xflip: bool,
    pub rotate90: bool,
    pub xint: bool,
    pub scale: bool,
    pub rotate: bool,
    pub aniso: bool,
    pub xfrac: bool,
    pub brightness: bool,
    pub contrast: bool,
    pub lumaflip: bool,
    pub hue: bool,
    pub saturation: bool,
    /// Whether each frequency band gets a gain, lowest band first.
    pub imgfilter: [bool; 4],
    pub noise: bool,
    pub cutout: bool,
}

/// The number of times that augmented images are differentiated; each image depends on the same draws either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derivatives {
    /// The images are differentiated at most once, which is the fast way.
    First,
    /// The images are differentiated twice, as R1 needs it.
    Second,
}

impl Derivatives {
    /// Returns the order that chooses the sampler: always the second where deterministic, since the fast sampler adds
    /// up its derivative in no fixed order on a GPU.
    fn chosen(self) -> Self {
        if is_deterministic() { Self::Second } else { self }
    }
}

/// Names of the pipes.
pub const PIPES: [&str; 11] =
    ["blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"];

impl Transforms {
    /// Returns the pipe of this name: groups (blit, geom, color, filter, noise, cutout), or their initials one after
    /// the other.
    pub fn named(pipe: &str) -> Option<Self> {
        let blit = |t: Self| Self { xflip: true, rotate90: true, xint: true, ..t };
        let geom = |t: Self| Self { scale: true, rotate: true, aniso: true, xfrac: true, ..t };
        let color =
            |t: Self| Self { brightness: true, contrast: true, lumaflip: true, hue: true, saturation: true, ..t };
        let filter = |t: Self| Self { imgfilter: [true; 4], ..t };
        let noise = |t: Self| Self { noise: true, ..t };
        let cutout = |t: Self| Self { cutout: true, ..t };
        let none = Self::default();
        Some(match pipe {
            "blit" => blit(none),
            "geom" => geom(none),
            "color" => color(none),
            "filter" => filter(none),
            "noise" => noise(none),
            "cutout" => cutout(none),
            "bg" => geom(blit(none)),
            "bgc" => color(geom(blit(none))),
            "bgcf" => filter(color(geom(blit(none)))),
            "bgcfn" => noise(filter(color(geom(blit(none))))),
            "bgcfnc" => cutout(noise(filter(color(geom(blit(none)))))),
            _ => return None,
        })
    }

    fn any_geometry(&self) -> bool {
        self.xflip || self.rotate90 || self.xint || self.scale || self.rotate || self.aniso || self.xfrac
    }

    fn any_colour(&self) -> bool {
        self.brightness || self.contrast || self.lumaflip || self.hue || self.saturation
    }

    /// Transforms every image, each transform happening with probability `p` (0 to 1). With 0 the images are returned
    /// as they are.
    ///
    /// # Shapes
    /// images [N, 1 or 3, H, W] in about [-1, 1], of any size -> the same.
    pub fn apply(&self, images: &Tensor, p: f64, order: Derivatives, draws: &mut Draws) -> Tensor {
        let mut out = images.shallow_clone();
        if p <= 0.0 {
            return out;
        }
        if self.any_geometry() {
            out = geometry::apply(&out, self, p, order, draws);
        }
        if self.any_colour() {
            out = colour::apply(&out, self, p, draws);
        }
        if self.imgfilter.contains(&true) {
            out = corrupt::filter(&out, self, p, draws);
        }
        if self.noise {
            out = corrupt::noise(&out, p, draws);
        }
        if self.cutout {
            out = corrupt::cutout(&out, p, draws);
        }
        out
    }
}

/// The augmentation of one phase, through which images go to the discriminator. A clone draws the same numbers, but for the
/// noise of `noise`, which comes from libtorch's generator.
#[derive(Clone)]
pub struct Augment {
    transforms: Transforms,
    p: f64,
    draws: Draws,
}

impl Augment {
    /// Makes an augmentation of these transforms, each with probability `p`, drawn from `draws`.
    pub fn new(transforms: Transforms, p: f64, draws: Draws) -> Self {
        Self { transforms, p, draws }
    }

    /// Makes an augmentation that leaves images as they are.
    pub fn off() -> Self {
        Self::new(Transforms::default(), 0.0, Draws::Percentile(0.5))
    }

    /// Transforms images as [`Transforms::apply`] does.
    pub fn apply(&mut self, images: &Tensor, order: Derivatives) -> Tensor {
        self.transforms.apply(images, self.p, order, &mut self.draws)
    }
}
