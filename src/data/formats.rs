//! The formats of pictures: which one a file has, what its header says, and what is odd or not read; the pixels are
//! decoded in `decode.rs`.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use tiff::tags::Tag;

use super::colour::MOST_PROFILE_BYTES;
use super::room::{self, Held};
use crate::system::panics::panic_text;

/// Longest side, in pixels, of a picture that is decoded.
pub const MAX_SIDE: u32 = 20_000;
/// Largest memory, in bytes, that a picture may take while it is decoded; its file may not be larger either.
pub(super) const MAX_BYTES: u64 = 512 << 20;

/// Waits until there is room for decoding a picture, by what its header says.
///
/// # Errors
/// The picture takes more than the whole budget.
pub(super) fn room_for(bytes: &[u8]) -> Result<Held<'static>> {
    // A header that cannot be read, or is beyond the limits, is the decoder's to refuse.
    room::for_picture(decoder_of(bytes).map_or(0, |decoder| decoder.total_bytes()))
}

/// Runs a decoder, and turns a panic into an error: decoders of hostile files have panicked, and one bad file must not
/// end a run.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(anyhow!("its decoder panicked: {}", panic_text(&*panic))))
}

/// Tells the format by the content, whatever the name says.
pub(super) fn format_of(bytes: &[u8]) -> Result<ImageFormat> {
    // The crate image reads BigTIFF and does not know it by its first bytes.
    if bytes.starts_with(b"II\x2b\0") || bytes.starts_with(b"MM\0\x2b") {
        return Ok(ImageFormat::Tiff);
    }
    if let Some((what, remedy)) = unread_format(bytes) {
        bail!("it is {what}, whatever its name says, which is not read; convert it to PNG first ({remedy})");
    }
    image::guess_format(bytes).ok().context("its content is not png, jpeg, webp, bmp, tiff or gif")
}

/// Names a format of phones or browsers that is not read, by its first bytes, and what converts it.
fn unread_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const HEIF: &str = "heif-convert, package libheif-examples";
    match (bytes.get(4..8), bytes.get(8..12)) {
        (Some(b"ftyp"), Some(b"avif" | b"avis")) => Some(("an AVIF picture", HEIF)),
        (Some(b"ftyp"), Some(b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1")) => {
            Some(("a HEIC picture", HEIF))
        }
        _ if bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL ") => {
            Some(("a JPEG XL picture", "djxl, package libjxl-tools"))
        }
        _ => None,
    }
}

/// Reads width and height as stored, from the header alone.
pub(super) fn stored_size(bytes: &[u8]) -> Result<(u32, u32)> {
    guarded(|| Ok(decoder_of(bytes)?.dimensions()))
}

/// Whether there are frames after the first, which is the one that is taken.
pub(super) fn is_animated(bytes: &[u8]) -> Result<bool> {
    let content = Cursor::new(bytes);
    guarded(|| match format_of(bytes)? {
        ImageFormat::Png => Ok(PngDecoder::with_limits(content, limits())?.is_apng()?),
        ImageFormat::WebP => Ok(WebPDecoder::new(content)?.has_animation()),
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(content)?;
            decoder.set_limits(limits())?;
            Ok(decoder.into_frames().take(2).filter(Result::is_ok).count() > 1)
        }
        ImageFormat::Tiff => Ok(tiff::decoder::Decoder::new(content)?.more_images()),
        _ => Ok(false),
    })
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

/// Returns a decoder that has read the header, of a picture within the limits.
pub(super) fn decoder_of(bytes: &[u8]) -> Result<impl ImageDecoder + '_> {
    let format = format_of(bytes)?;
    // The decoder of jpeg fills a missing part with grey and does not complain.
    ensure!(format != ImageFormat::Jpeg || jpeg_has_end(bytes), "it is cut short: a jpeg without its end marker");
    if format == ImageFormat::Png {
        PngColour::of(bytes)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let decoder = match (format, reader.into_decoder()) {
        (ImageFormat::Tiff, Err(error)) => return Err(unread_tiff(bytes).unwrap_or_else(|| plain(error))),
        (_, decoder) => decoder.map_err(plain)?,
    };
    limits().reserve(decoder.total_bytes()).map_err(plain)?;
    Ok(decoder)
}

/// Words an error of the decoder, with the limit where one was exceeded.
fn plain(error: ImageError) -> anyhow::Error {
    use image::error::LimitErrorKind;
    match &error {
        ImageError::Limits(limit) => match limit.kind() {
            LimitErrorKind::DimensionError => anyhow!("it is longer than {MAX_SIDE} pixels on a side"),
            LimitErrorKind::InsufficientMemory => anyhow!("it takes more than {} MiB to decode", MAX_BYTES >> 20),
            _ => error.into(),
        },
        _ => error.into(),
    }
}

/// The colour information of a PNG besides its values, from the chunks before its first data.
#[derive(Default)]
pub(super) struct PngColour {
    has_profile: bool,
    is_srgb: bool,
    /// A gamma, as 100,000 times its reciprocal's power.
    gamma: Option<u32>,
    /// Primaries and transfer function by the numbers of ITU-T H.273.
    coding: Option<(u8, u8)>,
}

impl PngColour {
    /// Reads the chunks before the first data of a PNG.
    ///
    /// # Errors
    /// A profile of more bytes than any photograph's: they would all be in memory at once, beyond the room for pictures.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let mut found = Self::default();
        let mut at = 8;
        while let Some(head) = bytes.get(at..at + 8) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(content) = at.checked_add(8 + length).and_then(|end| bytes.get(at + 8..end)) else { break };
            match (&head[4..], content) {
                (b"IDAT", _) => break,
                (b"sRGB", _) => found.is_srgb = true,
                (b"gAMA", &[a, b, c, d]) => found.gamma = Some(u32::from_be_bytes([a, b, c, d])),
                (b"cICP", &[primaries, transfer, ..]) => found.coding = Some((primaries, transfer)),
                (b"iCCP", content) => {
                    // A name, a zero byte, the method of compression, a zlib stream.
                    let stream = content.iter().position(|&byte| byte == 0).and_then(|end| content.get(end + 2..));
                    ensure!(
                        unpacked_bytes(stream.unwrap_or_default(), MOST_PROFILE_BYTES) <= MOST_PROFILE_BYTES,
                        "its colour profile has more than {} MiB; save it without the profile",
                        MOST_PROFILE_BYTES >> 20
                    );
                    found.has_profile = true;
                }
                _ => {}
            }
            at += 12 + length;
        }
        Ok(found)
    }

    /// Whether values are declared as other than sRGB in a way that is not converted. Of several declarations the first
    /// of coding, profile, sRGB and gamma counts, as the standard has it.
    pub fn is_other(&self) -> bool {
        const OF_SRGB: (u8, u8) = (1, 13);
        const GAMMA_OF_SRGB: u32 = 45_455;
        match self.coding {
            Some(coding) => coding != OF_SRGB,
            None if self.has_profile || self.is_srgb => false,
            None => self.gamma.is_some_and(|gamma| gamma.abs_diff(GAMMA_OF_SRGB) > 1000),
        }
    }
}

/// Counts the bytes that a zlib stream unpacks to, up to its first fault; it stops soon after `most`.
fn unpacked_bytes(stream: &[u8], most: u64) -> u64 {
    let (mut decoder, mut buffer, mut total) = (flate2::read::ZlibDecoder::new(stream), [0; 1 << 14], 0);
    while let Some(read) = decoder.read(&mut buffer).ok().filter(|&read| read > 0 && total <= most) {
        total += read as u64;
    }
    total
}

/// Names the kind of a TIFF that is not read, since the decoder's own words are numbers.
fn unread_tiff(bytes: &[u8]) -> Option<anyhow::Error> {
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?;
    let mut value = |tag| decoder.find_tag(tag).ok().flatten()?.into_u32_vec().ok()?.first().copied();
    let samples = value(Tag::SamplesPerPixel).unwrap_or(1);
    let bits = value(Tag::BitsPerSample).unwrap_or(1);
    let what = match (value(Tag::SampleFormat).unwrap_or(1), value(Tag::PhotometricInterpretation)?) {
        (3, _) => format!("floating-point values of {bits} bits"),
        (2, _) => format!("signed values of {bits} bits"),
        (_, 0 | 1) if samples == 2 => "grey with transparency".into(),
        (_, 0..=2) if ![1, 8, 16].contains(&bits) => format!("values of {bits} bits"),
        (_, 3) => "a palette of colours".into(),
        (_, 5) => "CMYK".into(),
        (_, 6) => "YCbCr".into(),
        (_, 8..=10) => "CIELab".into(),
        (_, 32803) => "a camera's raw sensor values".into(),
        _ => return None,
    };
    Some(anyhow!(
        "it is a TIFF with {what}, which is not read: save it as PNG, or as a TIFF of 8 or 16 bits in RGB or grey"
    ))
}

/// Returns the colour profile of a TIFF. The crate image finds none in those of most programs, which write the tag as
/// bytes without a type.
pub(super) fn tiff_profile(bytes: &[u8]) -> Option<Vec<u8>> {
    tiff::decoder::Decoder::new(Cursor::new(bytes)).ok()?.get_tag_u8_vec(Tag::IccProfile).ok()
}

/// Whether the end marker follows the start of the first scan. Thumbnails inside the headers have end markers of their
/// own, so the headers are stepped over; data after the end is allowed.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    loop {
        match bytes.get(at..) {
            Some([0xff, SCAN, rest @ ..]) => return rest.windows(2).rev().any(|pair| pair == END),
            Some([0xff, 0xff, ..]) => at += 1,               // padding
            Some([0xff, 0x01 | 0xd0..=0xd8, ..]) => at += 2, // markers without content
            Some([0xff, _, high, low, ..]) => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            Some([_, _, _, _, ..]) => return true, // garbage: the decoder's to judge
            _ => return false,
        }
    }
}
