//! Decodes any picture file to square planar bytes of one size: upright, opaque, 8 bits, centre-cropped.
//!
//! A colour profile is converted to sRGB (`colour.rs`); other StyleGAN tools take its values as sRGB.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat};

use super::colour::{Profile, to_srgb};
use super::formats::{MAX_BYTES, PngColour, decoder_of, format_of, guarded, room_for, tiff_profile};
use crate::draw::pixels::{grey_to_rgb, luma, to_planar};
use crate::files::opening::to_read;

/// The changes to a picture besides cropping it and making it smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureNotes {
    /// The picture had one channel of brightness.
    pub was_grey: bool,
    /// The picture was not fully opaque, so it was laid over white.
    pub had_alpha: bool,
    /// The picture had 16 bits (or a float) per channel, rounded to 8.
    pub was_16bit: bool,
    /// The picture had a colour profile other than sRGB, and was converted.
    pub was_profiled: bool,
    /// The colour profile cannot be converted: the values were taken as sRGB.
    pub had_unusable_profile: bool,
    /// The picture was stored lying or mirrored, and was turned as its EXIF tag says.
    pub was_turned: bool,
    /// The shorter side was below the resolution, so the picture was enlarged.
    pub was_upscaled: bool,
}

/// Decodes the picture at `path` to `channels` planes of `resolution` by `resolution` pixels.
///
/// The format is told by the content, not by the name. EXIF orientation is applied, 16 bits are rounded to 8,
/// transparency is laid over white, the first frame of an animation is taken; grey is repeated for `channels` 3 and
/// colour becomes Rec. 601 luma for `channels` 1. The largest centred square is resized by an antialiased Lanczos
/// filter of radius 3, or copied if it already fits.
///
/// # Shapes
/// The result is `channels x resolution x resolution` bytes, 0 to 255.
///
/// # Errors
/// The file cannot be read, is no picture of a known format, is cut short, is longer than 20,000 pixels on a side or
/// needs over 512 MiB.
///
/// # Panics
/// If `channels` is neither 1 nor 3 or `resolution` is zero.
pub fn decode_picture(path: &Path, resolution: u32, channels: u32) -> Result<(Vec<u8>, PictureNotes)> {
    let decode = || decode_bytes(&read_bounded(to_read(path)?, MAX_BYTES)?, resolution, channels);
    decode().with_context(|| format!("cannot decode the picture '{}'", path.display()))
}

/// Decodes a file's content as [`decode_picture`] does; errors leave the file's name to the caller.
pub(super) fn decode_bytes(bytes: &[u8], resolution: u32, channels: u32) -> Result<(Vec<u8>, PictureNotes)> {
    assert!(matches!(channels, 1 | 3) && resolution > 0, "{channels} x {resolution} x {resolution}");
    ensure!(!bytes.is_empty(), "the file is empty");
    guarded(|| {
        let _room = room_for(bytes)?;
        let (image, notes) = upright_image(bytes)?;
        square_planes(image, notes, resolution, channels)
    })
}

/// Reads everything that `source` gives, if it is at most `limit` bytes.
pub(super) fn read_bounded(source: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit, "the file is larger than {} MiB", limit >> 20);
    Ok(bytes)
}

/// Decodes the whole picture as it is meant to be seen.
pub(super) fn upright_image(bytes: &[u8]) -> Result<(DynamicImage, PictureNotes)> {
    let mut decoder = decoder_of(bytes)?;
    // A broken tag is no reason to lose the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // A broken profile is no reason to lose the picture, either.
    let icc = match format_of(bytes)? {
        ImageFormat::Tiff => tiff_profile(bytes),
        _ => decoder.icc_profile().ok().flatten(),
    };
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let colour = image.color();
    let (image, profile) = match icc {
        Some(icc) => to_srgb(image, &icc),
        None => (image, Profile::None),
    };
    let is_other = format_of(bytes)? == ImageFormat::Png && PngColour::of(bytes)?.is_other();
    let notes = PictureNotes {
        was_grey: !colour.has_color(),
        was_16bit: colour.bytes_per_pixel() > colour.channel_count(),
        was_profiled: profile == Profile::Converted,
        had_unusable_profile: profile == Profile::Unusable || is_other,
        was_turned: orientation != Orientation::NoTransforms,
        ..PictureNotes::default()
    };
    Ok((image, notes))
}

/// Crops, makes opaque, changes the number of channels, resizes and splits into planes: in this order, so that the most
/// expensive steps see the fewest bytes and colours bleed only from opaque pixels.
fn square_planes(
    image: DynamicImage,
    mut notes: PictureNotes,
    resolution: u32,
    channels: u32,
) -> Result<(Vec<u8>, PictureNotes)> {
    let (width, height) = (image.width(), image.height());
    let (left, top, side) = centred_square(width, height);
    // The canvas of a gif can be empty where its frames are not.
    ensure!(side > 0, "it has no pixels");
    notes.was_upscaled = side < resolution;
    let image = if width == height { image } else { image.crop_imm(left, top, side, side) };
    let (pixels, depth) = opaque_pixels(image, &mut notes);
    let (resized, depth) = resized_square(pixels, depth, side, resolution, channels, FilterType::Lanczos3)?;
    let planes = match (depth, channels) {
        (1, 3) => grey_to_rgb(&resized),
        (1, _) => resized,
        _ => to_planar(&resized, 3),
    };
    Ok((planes, notes))
}

/// Returns left edge, top edge and side of the largest centred square.
pub(super) fn centred_square(width: u32, height: u32) -> (u32, u32, u32) {
    let side = width.min(height);
    ((width - side) / 2, (height - side) / 2, side)
}

/// Resizes a square of `side` pixels to the resolution. Returns interleaved bytes and their number of channels: no more
/// than `depth`, and 1 if `channels` is.
pub(super) fn resized_square(
    mut pixels: Vec<u8>,
    mut depth: usize,
    side: u32,
    resolution: u32,
    channels: u32,
    filter: FilterType,
) -> Result<(Vec<u8>, usize)> {
    if depth == 3 && channels == 1 {
        pixels = pixels.chunks_exact(3).map(|rgb| luma(rgb[0], rgb[1], rgb[2])).collect();
        depth = 1;
    }
    Ok((resize_square(pixels, side, resolution, depth, filter)?, depth))
}

/// Lays a picture over white. Returns interleaved bytes and their number of channels, 1 or 3.
pub(super) fn opaque_pixels(image: DynamicImage, notes: &mut PictureNotes) -> (Vec<u8>, usize) {
    if !image.color().has_alpha() {
        return match notes.was_grey {
            true => (image.into_luma8().into_raw(), 1),
            false => (image.into_rgb8().into_raw(), 3),
        };
    }
    let pixels = image.into_rgba8().into_raw();
    let mut opaque = Vec::with_capacity(pixels.len() / 4 * 3);
    for pixel in pixels.chunks_exact(4) {
        let alpha = u16::from(pixel[3]);
        notes.had_alpha |= alpha < 255;
        let over_white = |value: u8| ((u16::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        opaque.extend(pixel[..3].iter().map(|&value| over_white(value)));
    }
    (opaque, 3)
}

fn resize_square(pixels: Vec<u8>, from: u32, to: u32, depth: usize, filter: FilterType) -> Result<Vec<u8>> {
    if from == to {
        return Ok(pixels);
    }
    let kind = if depth == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let source = Image::from_vec_u8(from, from, pixels, kind)?;
    let mut resized = Image::new(to, to, kind);
    // A convolution widens its filter when it makes a picture smaller, so that there is no aliasing.
    let convolution = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut resized, &convolution)?;
    Ok(resized.into_vec())
}
