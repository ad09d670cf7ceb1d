//! Bytes of pictures: one plane per channel (as tensors have them) or channels side by side (as files do).

use std::path::Path;

use anyhow::{Result, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::io::atomic::write_atomically;

/// Planes to side by side: `C x H x W` to `H x W x C`.
///
/// # Panics
/// If the length is no multiple of `channels`.
pub fn to_interleaved(planar: &[u8], channels: usize) -> Vec<u8> {
    let mut interleaved = vec![0; planar.len()];
    for (channel, plane) in planes(planar, channels).enumerate() {
        for (pixel, &value) in interleaved.chunks_exact_mut(channels).zip(plane) {
            pixel[channel] = value;
        }
    }
    interleaved
}

/// Side by side to planes: `H x W x C` to `C x H x W`.
///
/// # Panics
/// If the length is no multiple of `channels`.
pub fn to_planar(interleaved: &[u8], channels: usize) -> Vec<u8> {
    assert_eq!(interleaved.len() % channels, 0, "pixels of {channels} channels");
    let mut planar = Vec::with_capacity(interleaved.len());
    for channel in 0..channels {
        planar.extend(interleaved.chunks_exact(channels).map(|pixel| pixel[channel]));
    }
    planar
}

/// A grey plane as planar RGB: `1 x H x W` to `3 x H x W`.
pub fn grey_to_rgb(plane: &[u8]) -> Vec<u8> {
    plane.repeat(3)
}

/// Planar RGB as a grey plane: `3 x H x W` to `1 x H x W`, by the luma of Rec. 601.
///
/// `Y = 0.299 R + 0.587 G + 0.114 B`, in the 16-bit fixed point of Pillow's `convert("L")`.
///
/// # Panics
/// If the length is no multiple of 3.
pub fn rgb_to_grey(planar: &[u8]) -> Vec<u8> {
    let mut colours = planes(planar, 3);
    let mut next = || colours.next().unwrap_or_default();
    let (red, green, blue) = (next(), next(), next());
    let pixels = red.iter().zip(green).zip(blue);
    pixels.map(|((&r, &g), &b)| luma(r, g, b)).collect()
}

/// The luma of one pixel, see [`rgb_to_grey`].
pub fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Mirrors every row of planes of `width` pixels, in place.
///
/// # Panics
/// If `width` is zero.
pub fn mirror_rows(planar: &mut [u8], width: usize) {
    planar.chunks_exact_mut(width).for_each(<[u8]>::reverse);
}

/// Writes `H x W x C` bytes as a PNG, fast rather than small; the file appears whole or not at all.
///
/// # Errors
/// `channels` is neither 1 nor 3, the length is not `height * width * channels`, or the file cannot
/// be written.
pub fn encode_png(path: &Path, interleaved: &[u8], width: usize, height: usize, channels: usize) -> Result<()> {
    let colour = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => {
            anyhow::bail!("cannot write '{}': a picture of {channels} channels; a png here has 1 or 3", path.display())
        }
    };
    ensure!(
        interleaved.len() == width * height * channels,
        "cannot write '{}': {} bytes for {width}x{height} pixels of {channels} channels, which need {}",
        path.display(),
        interleaved.len(),
        width * height * channels
    );
    write_atomically(path, |file| {
        PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive).write_image(
            interleaved,
            width.try_into()?,
            height.try_into()?,
            colour,
        )?;
        Ok(())
    })
}

fn planes(planar: &[u8], channels: usize) -> std::slice::ChunksExact<'_, u8> {
    assert_eq!(planar.len() % channels, 0, "planes of {channels} channels");
    // An empty picture has no planes; chunks of zero bytes would panic.
    planar.chunks_exact((planar.len() / channels).max(1))
}
