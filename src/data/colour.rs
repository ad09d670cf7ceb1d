//! Colour profiles (ICC) of pictures: values are converted to sRGB, which the networks see, by the crate moxcms.
//!
//! Matrix, grey and table profiles are converted with their own rendering intent. Values of 16 bits and floats are
//! converted after they were rounded to 8. A profile that is sRGB changes nothing, not even by rounding.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use image::DynamicImage;
use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};
use sha2::{Digest, Sha256};

/// Number of profiles whose conversion is kept: cameras and programs use a few.
const MOST_KEPT: usize = 64;
/// Number of bytes of the largest profile that is looked at; a larger one is no photograph's, and would take long.
pub(super) const MOST_PROFILE_BYTES: u64 = 16 << 20;
/// Difference that rounding may make where a profile is sRGB.
const SRGB_TOLERANCE: u8 = 1;

/// The conversion of a picture's values.
#[derive(Clone)]
enum Conversion {
    /// The values are sRGB already.
    Identity,
    /// The values are transformed by the channel layout of the source: colour without and with alpha.
    Colour { rgb: Arc<Transform8BitExecutor>, rgba: Arc<Transform8BitExecutor> },
    /// The values are looked up: the sRGB value of each grey value.
    Grey(Arc<[u8; 256]>),
    /// The profile cannot be used.
    Unusable,
}

/// The outcome for a picture's colour profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// The picture had no profile, or it is sRGB.
    None,
    /// The values were converted to sRGB.
    Converted,
    /// The profile cannot be converted: the values were taken as sRGB.
    Unusable,
}

/// Converts a picture to sRGB; where that changes anything, the result has 8 bits.
pub(super) fn to_srgb(image: DynamicImage, icc: &[u8]) -> (DynamicImage, Profile) {
    let converted = match conversion(icc) {
        Conversion::Identity => return (image, Profile::None),
        Conversion::Unusable => None,
        Conversion::Grey(table) => grey_to_srgb(&image, &table),
        Conversion::Colour { rgb, rgba } => colour_to_srgb(&image, &*rgb, &*rgba),
    };
    converted.map_or((image, Profile::Unusable), |image| (image, Profile::Converted))
}

/// Converts a grey picture; None where the picture has colour, as the profile is then of another picture.
fn grey_to_srgb(image: &DynamicImage, table: &[u8; 256]) -> Option<DynamicImage> {
    if image.color().has_color() {
        return None;
    }
    if image.color().has_alpha() {
        let mut pixels = image.to_luma_alpha8();
        pixels.pixels_mut().for_each(|pixel| pixel[0] = table[usize::from(pixel[0])]);
        return Some(pixels.into());
    }
    let mut pixels = image.to_luma8();
    pixels.pixels_mut().for_each(|pixel| pixel[0] = table[usize::from(pixel[0])]);
    Some(pixels.into())
}

/// Converts a picture that has colour; None where it is grey, or the conversion fails.
fn colour_to_srgb(
    image: &DynamicImage,
    rgb: &Transform8BitExecutor,
    rgba: &Transform8BitExecutor,
) -> Option<DynamicImage> {
    if !image.color().has_color() {
        return None;
    }
    if image.color().has_alpha() {
        let source = image.to_rgba8();
        let mut target = image::RgbaImage::new(source.width(), source.height());
        rgba.transform(&source, &mut target).ok()?;
        return Some(target.into());
    }
    let source = image.to_rgb8();
    let mut target = image::RgbImage::new(source.width(), source.height());
    rgb.transform(&source, &mut target).ok()?;
    Some(target.into())
}

/// Returns the conversion of a profile, and keeps it for the next picture.
fn conversion(icc: &[u8]) -> Conversion {
    static KEPT: LazyLock<Mutex<HashMap<[u8; 32], Conversion>>> = LazyLock::new(Mutex::default);
    let key: [u8; 32] = Sha256::digest(icc).into();
    if let Some(known) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.clone();
    }
    let made = make_conversion(icc).unwrap_or(Conversion::Unusable);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < MOST_KEPT {
        kept.insert(key, made.clone());
    }
    made
}

fn make_conversion(icc: &[u8]) -> Result<Conversion> {
    ensure!(icc.len() as u64 <= MOST_PROFILE_BYTES, "the profile has {} bytes", icc.len());
    let profile = ColorProfile::new_from_slice(icc).context("the profile is damaged")?;
    let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
    let transform = |from, to| profile.create_transform_8bit(from, &srgb, to, options).context("no such conversion");
    if profile.color_space == DataColorSpace::Gray {
        let values: Vec<u8> = (0..=255).collect();
        let mut colours = vec![0; 3 * 256];
        transform(Layout::Gray, Layout::Rgb)?.transform(&values, &mut colours).context("the conversion fails")?;
        let mut table = [0; 256];
        table.iter_mut().zip(colours.chunks_exact(3)).for_each(|(value, rgb)| *value = rgb[1]);
        return Ok(if is_near(&table, &values) { Conversion::Identity } else { Conversion::Grey(Arc::new(table)) });
    }
    ensure!(profile.color_space == DataColorSpace::Rgb, "it is no profile of RGB or grey values");
    let rgb = transform(Layout::Rgb, Layout::Rgb)?;
    let probe: Vec<u8> = colour_cube();
    let mut found = vec![0; probe.len()];
    rgb.transform(&probe, &mut found).context("the conversion fails")?;
    if is_near(&found, &probe) {
        return Ok(Conversion::Identity);
    }
    Ok(Conversion::Colour { rgb, rgba: transform(Layout::Rgba, Layout::Rgba)? })
}

/// Returns 4,913 colours over the whole cube.
fn colour_cube() -> Vec<u8> {
    let steps = || (0..=16u8).map(|step| step.saturating_mul(16));
    steps().flat_map(|r| steps().flat_map(move |g| steps().flat_map(move |b| [r, g, b]))).collect()
}

fn is_near(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= SRGB_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn of(colour: [u8; 3]) -> DynamicImage {
        RgbImage::from_pixel(3, 2, Rgb(colour)).into()
    }

    #[test]
    fn srgb_itself_changes_no_bit() {
        let icc = ColorProfile::new_srgb().encode().unwrap();
        let picture = of([200, 30, 41]);
        assert_eq!(to_srgb(picture.clone(), &icc), (picture, Profile::None));
    }

    #[test]
    fn wide_colours_are_converted_with_and_without_alpha() {
        let icc = ColorProfile::new_display_p3().encode().unwrap();
        let (converted, profile) = to_srgb(of([200, 30, 40]), &icc);
        assert_eq!(profile, Profile::Converted);
        // LittleCMS gives 218, 0, 32 with this curve.
        let Rgb(found) = *converted.to_rgb8().get_pixel(0, 0);
        assert!(found[0] > 214 && found[1] < 6 && found[2] < 36, "{found:?}");
        let with_alpha = DynamicImage::from(RgbaImage::from_pixel(3, 2, Rgba([200, 30, 40, 90])));
        let (converted, _) = to_srgb(with_alpha, &icc);
        let Rgba(pixel) = *converted.to_rgba8().get_pixel(2, 1);
        assert_eq!((pixel[3], &pixel[..3]), (90, &found[..]));
    }

    #[test]
    fn what_is_no_profile_or_of_another_kind_leaves_the_values() {
        let grey = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        for icc in [&b"no profile"[..], &[], &grey] {
            let picture = of([1, 2, 3]);
            assert_eq!(to_srgb(picture.clone(), icc), (picture, Profile::Unusable));
        }
    }

    #[test]
    fn linear_grey_becomes_brighter() {
        let icc = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        let picture = DynamicImage::from(image::GrayImage::from_pixel(2, 2, image::Luma([55])));
        let (converted, profile) = to_srgb(picture, &icc);
        // The sRGB value of 55 / 255: 255 (1.055 (55 / 255)^(1 / 2.4) - 0.055) = 127.
        let value = converted.to_luma8().get_pixel(0, 0)[0];
        assert!(profile == Profile::Converted && value.abs_diff(127) <= 1, "{value}");
    }
}
