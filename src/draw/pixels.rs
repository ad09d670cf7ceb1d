//! Bytes of pictures: converts between one plane per channel (as tensors have them) and channels side by side (as files
//! do), and writes PNG files.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use crate::files::atomic::{write_atomically, write_in_place};

/// Converts planes to channels side by side: `C x H x W` to `H x W x C`.
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

/// Converts channels side by side to planes: `H x W x C` to `C x H x W`.
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

/// Repeats a grey plane as planar RGB: `1 x H x W` to `3 x H x W`.
pub fn grey_to_rgb(plane: &[u8]) -> Vec<u8> {
    plane.repeat(3)
}

/// Converts planar RGB to a grey plane: `3 x H x W` to `1 x H x W`, by the luma of Rec. 601.
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

/// Returns the luma of one pixel, see [`rgb_to_grey`].
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
/// `channels` is neither 1 nor 3, the length is not `height * width * channels`, or the file cannot be written.
pub fn encode_png(path: &Path, interleaved: &[u8], width: usize, height: usize, channels: usize) -> Result<()> {
    let colour = png_colour(path, interleaved, width, height, channels)?;
    write_atomically(path, |file| write_png(file, interleaved, width, height, colour, &[]))
}

/// Writes a PNG as [`encode_png`] does, but in place and without waiting for the disk, see [`write_in_place`]: what
/// goes on with such files must ask [`png_is_whole`].
///
/// # Errors
/// The errors of [`encode_png`].
pub fn encode_png_in_place(
    path: &Path,
    interleaved: &[u8],
    width: usize,
    height: usize,
    channels: usize,
) -> Result<()> {
    let colour = png_colour(path, interleaved, width, height, channels)?;
    let mut bytes = Vec::with_capacity(interleaved.len());
    write_png(&mut bytes, interleaved, width, height, colour, &[])?;
    write_in_place(path, &bytes)
}

/// Encodes `H x W x C` bytes as the content of a PNG, with texts under keywords of the PNG specification.
///
/// # Errors
/// `channels` is neither 1 nor 3, or the length is not `height * width * channels`.
pub fn png_bytes(
    interleaved: &[u8],
    width: usize,
    height: usize,
    channels: usize,
    texts: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let colour = png_colour(Path::new("a png"), interleaved, width, height, channels)?;
    let mut bytes = Vec::new();
    write_png(&mut bytes, interleaved, width, height, colour, texts)?;
    Ok(bytes)
}

/// Returns the text of a PNG under a keyword, if the file is a PNG and has one before its pixels.
pub fn png_text(path: &Path, keyword: &str) -> Option<String> {
    let reader = png::Decoder::new(BufReader::new(File::open(path).ok()?)).read_info().ok()?;
    let (latin, international) = (&reader.info().uncompressed_latin1_text, &reader.info().utf8_text);
    let latin = latin.iter().find(|text| text.keyword == keyword).map(|text| text.text.clone());
    latin.or_else(|| international.iter().find(|text| text.keyword == keyword)?.get_text().ok())
}

/// Whether the file begins and ends as a PNG does, which an empty, cut or unreadable one does not. The check is cheap,
/// and blind to damage in the middle.
pub fn png_is_whole(path: &Path) -> bool {
    const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
    /// The chunk that ends every PNG: its length, name and checksum.
    const TRAILER: [u8; 12] = *b"\0\0\0\0IEND\xae\x42\x60\x82";
    let ends = || -> std::io::Result<bool> {
        let mut file = File::open(path)?;
        let (mut first, mut last) = ([0; SIGNATURE.len()], [0; TRAILER.len()]);
        file.read_exact(&mut first)?;
        file.seek(SeekFrom::End(-(TRAILER.len() as i64)))?;
        file.read_exact(&mut last)?;
        Ok(first == SIGNATURE && last == TRAILER)
    };
    ends().unwrap_or(false)
}

fn png_colour(path: &Path, interleaved: &[u8], width: usize, height: usize, channels: usize) -> Result<ColorType> {
    let colour = match channels {
        1 => ColorType::Grayscale,
        3 => ColorType::Rgb,
        _ => bail!("cannot write '{}': a picture of {channels} channels; a png here has 1 or 3", path.display()),
    };
    ensure!(
        interleaved.len() == width * height * channels,
        "cannot write '{}': {} bytes for {width}x{height} pixels of {channels} channels, which need {}",
        path.display(),
        interleaved.len(),
        width * height * channels
    );
    Ok(colour)
}

fn write_png(
    file: &mut dyn Write,
    interleaved: &[u8],
    width: usize,
    height: usize,
    colour: ColorType,
    texts: &[(&str, &str)],
) -> Result<()> {
    let mut encoder = Encoder::new(file, width.try_into()?, height.try_into()?);
    encoder.set_color(colour);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    for (keyword, text) in texts {
        match text.is_ascii() {
            true => encoder.add_text_chunk((*keyword).to_owned(), (*text).to_owned())?,
            false => encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned())?,
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(interleaved)?;
    // What does not fit on the disk must not be told by `drop` alone.
    writer.finish().context("the png's end")
}

fn planes(planar: &[u8], channels: usize) -> std::slice::ChunksExact<'_, u8> {
    assert_eq!(planar.len() % channels, 0, "planes of {channels} channels");
    // An empty picture has no planes; chunks of zero bytes would panic.
    planar.chunks_exact((planar.len() / channels).max(1))
}

#[cfg(test)]
mod tests {
    use super::{encode_png_in_place, png_is_whole};

    #[test]
    fn a_png_that_is_cut_anywhere_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        assert!(!png_is_whole(&path), "missing");
        encode_png_in_place(&path, &[0, 50, 100, 150, 200, 250], 3, 2, 1).unwrap();
        assert!(png_is_whole(&path));
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(!png_is_whole(&path), "{length} of {} bytes", bytes.len());
        }
        // A file may be as long as it should be while its end never reached the disk.
        std::fs::write(&path, [&bytes[..20], &vec![0; bytes.len() - 20][..]].concat()).unwrap();
        assert!(!png_is_whole(&path), "zeros");
    }
}
