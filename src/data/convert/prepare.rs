//! Prepares one picture of a set that is checked or converted: it is judged, hashed, cropped, resized and encoded.

use std::path::Path;

use anyhow::Result;
use fast_image_resize::FilterType;
use image::ImageFormat;
use sha2::{Digest, Sha256};

use super::findings::BadKind;
use crate::data::decode::{PictureNotes, centred_square, opaque_pixels, resized_square, upright_image};
use crate::data::formats::{format_of, guarded, is_animated, room_for};
use crate::draw::pixels::png_bytes;

/// The way in which a picture becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Crop {
    /// The largest centred square is taken
    #[default]
    Center,
    /// Pictures that are not square are bad
    None,
}

/// The filter that changes the size of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Filter {
    /// Lanczos, radius 3, antialiased
    #[default]
    Lanczos,
    /// The mean of the pixels that are covered
    Box,
}

/// The rules for every picture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    pub crop: Crop,
    pub filter: Filter,
    /// Number of channels: 3 for RGB, 1 for grey.
    pub channels: u32,
    /// Shortest side that a picture may have.
    pub min_size: u32,
    /// Width and height after resizing; None keeps the size.
    pub resolution: Option<u32>,
    /// Whether to make the new file.
    pub encode: bool,
}

/// The facts about a good picture, and its new file.
pub(super) struct Prepared {
    pub size: (u32, u32),
    pub notes: PictureNotes,
    pub animated: bool,
    pub misnamed: bool,
    /// SHA-256 of what the picture shows: size, and RGB after turning and laying over white, before cropping.
    pub digest: [u8; 32],
    /// New file, if it is asked for.
    pub png: Option<Vec<u8>>,
}

/// Why a picture cannot be used, in a word and in a sentence.
pub(super) type Unusable = (BadKind, String);

impl Rules {
    /// Refuses a picture whose size cannot be used.
    pub fn judge(&self, (width, height): (u32, u32)) -> Result<(), Unusable> {
        let least = self.min_size;
        if width.min(height) < least {
            let kind = BadKind::TooSmall;
            return Err((kind, format!("it has {width}x{height} pixels, fewer than --min-size {least} on a side")));
        }
        if self.crop == Crop::None && width != height {
            let reason = format!("it has {width}x{height} pixels and is not square; --crop center would cut it");
            return Err((BadKind::NotSquare, reason));
        }
        Ok(())
    }

    /// Decodes and judges the picture with this content and name, and makes its new file where that is asked for.
    pub fn prepare(&self, bytes: &[u8], name: &Path) -> Result<Prepared, Unusable> {
        let unreadable = |error: anyhow::Error| (BadKind::Unreadable, format!("{error:#}"));
        let (pixels, depth, size, mut notes) = guarded(|| {
            let _room = room_for(bytes)?;
            let (image, mut notes) = upright_image(bytes)?;
            let size = (image.width(), image.height());
            anyhow::ensure!(size.0.min(size.1) > 0, "it has no pixels");
            let (pixels, depth) = opaque_pixels(image, &mut notes);
            Ok((pixels, depth, size, notes))
        })
        .map_err(unreadable)?;
        self.judge(size)?;
        notes.was_upscaled = self.resolution.is_some_and(|resolution| size.0.min(size.1) < resolution);
        let named = name.extension().and_then(|extension| match extension.eq_ignore_ascii_case("jpe") {
            true => Some(ImageFormat::Jpeg), // the image crate does not know this one
            false => ImageFormat::from_extension(extension),
        });
        let misnamed = named != format_of(bytes).ok();
        let animated = is_animated(bytes).unwrap_or(false);
        let digest = digest(&pixels, depth, size);
        let png = self.encode.then(|| guarded(|| self.encode(pixels, depth, size))).transpose().map_err(unreadable)?;
        Ok(Prepared { size, notes, animated, misnamed, digest, png })
    }

    fn encode(&self, pixels: Vec<u8>, depth: usize, size: (u32, u32)) -> Result<Vec<u8>> {
        let side = size.0.min(size.1);
        let resolution = self.resolution.unwrap_or(side);
        let filter = match self.filter {
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Box => FilterType::Box,
        };
        let square = centre_square(pixels, depth, size);
        let (mut resized, depth) = resized_square(square, depth, side, resolution, self.channels, filter)?;
        if depth == 1 && self.channels == 3 {
            resized = resized.iter().flat_map(|&value| [value; 3]).collect();
        }
        png_bytes(&resized, resolution as usize, resolution as usize, self.channels as usize, &[])
    }
}

/// Cuts the largest centred square out of interleaved pixels.
fn centre_square(pixels: Vec<u8>, depth: usize, (width, height): (u32, u32)) -> Vec<u8> {
    if width == height {
        return pixels;
    }
    let square = centred_square(width, height);
    let (left, top, side) = (square.0 as usize, square.1 as usize, square.2 as usize);
    let rows = pixels.chunks_exact(width as usize * depth).skip(top).take(side);
    rows.flat_map(|row| &row[left * depth..(left + side) * depth]).copied().collect()
}

/// Hashes size and pixels; grey counts as the RGB that it is shown as.
fn digest(pixels: &[u8], depth: usize, (width, height): (u32, u32)) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(width.to_le_bytes());
    hasher.update(height.to_le_bytes());
    match depth {
        1 => {
            for part in pixels.chunks(4096) {
                hasher.update(part.iter().flat_map(|&value| [value; 3]).collect::<Vec<u8>>());
            }
        }
        _ => hasher.update(pixels),
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_square_is_cut_from_the_middle() {
        let wide: Vec<u8> = (0..10).collect();
        assert_eq!(centre_square(wide.clone(), 1, (5, 2)), [1, 2, 6, 7]);
        assert_eq!(centre_square(wide.clone(), 1, (2, 5)), [2, 3, 4, 5]);
        assert_eq!(centre_square((0..9).collect(), 3, (3, 1)), [3, 4, 5]);
    }

    #[test]
    fn grey_has_the_digest_of_equal_rgb_and_shape_counts() {
        let grey = [7, 9];
        assert_eq!(digest(&grey, 1, (2, 1)), digest(&[7, 7, 7, 9, 9, 9], 3, (2, 1)));
        assert_ne!(digest(&grey, 1, (2, 1)), digest(&grey, 1, (1, 2)));
    }
}
