//! What picture files become: the very bytes format by format, and what is refused with which reason.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rootgan::data::decode::{PictureNotes, decode_picture};
use tempfile::TempDir;

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a picture in the format of its name.
fn save(place: &TempDir, name: &str, image: impl Into<DynamicImage>) -> PathBuf {
    let path = place.path().join(name);
    image.into().save(&path).unwrap();
    path
}

fn write(place: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = place.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn decode(path: &Path, resolution: u32, channels: u32) -> (Vec<u8>, PictureNotes) {
    decode_picture(path, resolution, channels).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Every channel's values behind those of the one before.
fn planar(interleaved: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied()).collect()
}

/// A picture in which no two neighbours are alike.
fn noise(width: u32, height: u32) -> RgbImage {
    let value = |x: u32, y: u32, salt: u32| ((x * 7919 + y * 104_729 + salt).wrapping_mul(2_654_435_761) >> 24) as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([value(x, y, 1), value(x, y, 2), value(x, y, 3)]))
}

/// The message; checks that it names the file and is one line.
fn refusal(path: &Path) -> String {
    let message = format!("{:#}", decode_picture(path, 16, 3).unwrap_err());
    assert!(message.contains(path.to_str().unwrap()) && message.lines().count() == 1, "{message}");
    message
}

/// A PNG file of these chunks.
fn png(chunks: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for &(name, content) in chunks {
        let named = [name.as_bytes(), content].concat();
        file.extend_from_slice(&(content.len() as u32).to_be_bytes());
        file.extend_from_slice(&named);
        file.extend_from_slice(&crc32(&named).to_be_bytes());
    }
    file
}

fn png_header(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend_from_slice(&[bits, colour, 0, 0, 0]);
    header
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

/// A zlib stream of one block that is not compressed.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut stream = vec![0x78, 1, 1];
    stream.extend_from_slice(&length.to_le_bytes());
    stream.extend_from_slice(&(!length).to_le_bytes());
    stream.extend_from_slice(bytes);
    stream.extend_from_slice(&((b << 16) | a).to_be_bytes());
    stream
}

#[test]
fn a_picture_of_the_resolution_is_copied_bit_for_bit_from_every_lossless_format() {
    let (place, picture) = (place(), noise(24, 24));
    for name in ["a.png", "a.webp", "a.bmp", "a.tiff"] {
        let (planes, notes) = decode(&save(&place, name, picture.clone()), 24, 3);
        assert_eq!(planes, planar(&picture), "{name}");
        assert_eq!(notes, PictureNotes::default(), "{name}");
    }
}

#[test]
fn sixteen_bits_are_rounded_to_the_nearest_of_eight() {
    let place = place();
    // One step of 8 bits is 257 of 16.
    let deep: Vec<u16> = vec![0, 128, 129, 257, 385, 386, 32_768, 65_406, 65_407, 65_535, 1_000, 20_000];
    let rounded = [0, 0, 1, 1, 1, 2, 128, 254, 255, 255, 4, 78];
    for name in ["colour.png", "colour.tif"] {
        let picture = ImageBuffer::<Rgb<u16>, _>::from_raw(2, 2, deep.clone()).unwrap();
        let (planes, notes) = decode(&save(&place, name, picture), 2, 3);
        assert_eq!(planes, planar(&rounded), "{name}");
        assert_eq!(notes, PictureNotes { was_16bit: true, ..Default::default() }, "{name}");
    }
    for name in ["grey.png", "grey.tif"] {
        let picture = ImageBuffer::<Luma<u16>, _>::from_raw(2, 2, deep[4..8].to_vec()).unwrap();
        let (plane, notes) = decode(&save(&place, name, picture), 2, 1);
        assert_eq!(plane, rounded[4..8], "{name}");
        assert_eq!(notes, PictureNotes { was_16bit: true, was_grey: true, ..Default::default() }, "{name}");
    }
}

#[test]
fn a_palette_is_looked_up_and_its_transparent_colours_are_laid_over_white() {
    let place = place();
    let palette: Vec<u8> = [[255, 0, 0], [0, 200, 0], [10, 20, 30], [0, 0, 0]].concat();
    // Rows of a filter byte and four pixels of two bits: colours 0, 1, 2 and 3.
    let rows = zlib(&[0, 0b0001_1011].repeat(4));
    let header = png_header(4, 4, 2, 3);
    let opaque = png(&[("IHDR", &header), ("PLTE", &palette), ("IDAT", &rows), ("IEND", &[])]);
    let (planes, notes) = decode(&write(&place, "a.png", opaque), 4, 3);
    assert_eq!(planes, planar(&palette.repeat(4)));
    assert_eq!(notes, PictureNotes::default());

    let alpha = [255, 255, 255, 51];
    let chunks: [(&str, &[u8]); 5] =
        [("IHDR", &header), ("PLTE", &palette), ("tRNS", &alpha), ("IDAT", &rows), ("IEND", &[])];
    let (planes, notes) = decode(&write(&place, "b.png", png(&chunks)), 4, 3);
    let over_white = [&palette[..9], &[204; 3][..]].concat();
    assert_eq!(planes, planar(&over_white.repeat(4)));
    assert!(notes.had_alpha);
}

#[test]
fn grey_is_repeated_to_rgb_and_rgb_becomes_grey_by_its_luma() {
    let place = place();
    let values = vec![0, 1, 127, 255];
    let grey = save(&place, "grey.png", GrayImage::from_raw(2, 2, values.clone()).unwrap());
    let (planes, notes) = decode(&grey, 2, 3);
    assert_eq!(planes, values.repeat(3));
    assert!(notes.was_grey);
    assert_eq!(decode(&grey, 2, 1).0, values);

    // 0.299 R + 0.587 G + 0.114 B.
    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]].concat();
    let (plane, notes) = decode(&save(&place, "rgb.png", RgbImage::from_raw(2, 2, colours).unwrap()), 2, 1);
    assert_eq!(plane, [76, 150, 29, 255]);
    assert!(!notes.was_grey);
}

#[test]
fn transparency_is_laid_over_white() {
    let place = place();
    let pixels = [[10, 20, 30, 255], [200, 100, 0, 51], [0, 0, 0, 128], [1, 2, 3, 0]].concat();
    let (planes, notes) = decode(&save(&place, "a.png", RgbaImage::from_raw(2, 2, pixels).unwrap()), 2, 3);
    assert_eq!(planes, planar(&[10, 20, 30, 244, 224, 204, 127, 127, 127, 255, 255, 255]));
    assert_eq!(notes, PictureNotes { had_alpha: true, ..Default::default() });

    let grey = GrayAlphaImage::from_raw(2, 2, vec![7, 255, 0, 51, 0, 128, 9, 0]).unwrap();
    let path = save(&place, "grey.png", grey);
    assert_eq!(decode(&path, 2, 1).0, [7, 204, 127, 255]);
    assert_eq!(decode(&path, 2, 3).0, [7, 204, 127, 255].repeat(3));

    let opaque = RgbaImage::from_pixel(2, 2, Rgba([1, 2, 3, 255]));
    assert!(!decode(&save(&place, "opaque.png", opaque), 2, 3).1.had_alpha, "an alpha channel alone is no note");
}

#[test]
fn the_exif_orientation_of_a_jpeg_is_applied() {
    let place = place();
    // Four quarters of whole JPEG blocks, which keep their values to a step or two.
    let quarters = [10, 90, 170, 250];
    let stored = GrayImage::from_fn(16, 16, |x, y| Luma([quarters[(x / 8 + y / 8 * 2) as usize]]));
    let jpeg = fs::read(save(&place, "stored.jpg", stored)).unwrap();
    // Top left, top right, bottom left, bottom right as they are seen.
    let seen = [(1, [10, 90, 170, 250]), (2, [90, 10, 250, 170]), (3, [250, 170, 90, 10]), (6, [170, 10, 250, 90])];
    for (orientation, expected) in seen {
        let path = write(&place, &format!("{orientation}.jpg"), with_orientation(&jpeg, orientation));
        let (plane, notes) = decode(&path, 16, 1);
        let found = [(4, 4), (12, 4), (4, 12), (12, 12)].map(|(x, y): (usize, usize)| plane[y * 16 + x]);
        let near = found.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 3);
        assert!(near, "orientation {orientation}: {found:?}, not {expected:?}");
        assert_eq!(notes.was_turned, orientation != 1);
    }
}

/// The JPEG with an Exif segment behind its first marker: a TIFF header, a directory at 8, one entry.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut segment = b"Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
    segment.extend_from_slice(&[0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    segment.extend_from_slice(&[0; 4]);
    let mut file = jpeg[..2].to_vec();
    file.extend_from_slice(&[0xff, 0xe1, 0, segment.len() as u8 + 2]);
    file.extend_from_slice(&segment);
    file.extend_from_slice(&jpeg[2..]);
    file
}

#[test]
fn the_first_frame_of_a_gif_is_taken() {
    let place = place();
    let frame = |shade: u8| RgbaImage::from_fn(8, 8, |x, y| Rgba([shade, (x * 30) as u8, u8::from(y > 3) * 200, 255]));
    let path = place.path().join("a.gif");
    let mut encoder = GifEncoder::new(fs::File::create(&path).unwrap());
    encoder.encode_frames([50, 250].map(|shade| Frame::new(frame(shade)))).unwrap();
    drop(encoder);
    let (planes, notes) = decode(&path, 8, 3);
    assert_eq!(planes, planar(&DynamicImage::from(frame(50)).into_rgb8()));
    assert_eq!(notes, PictureNotes::default());
}

#[test]
fn the_middle_of_a_wide_or_tall_picture_is_taken() {
    let place = place();
    for (width, height, left, top) in [(48, 16, 16, 0), (16, 48, 0, 16), (21, 16, 2, 0), (16, 19, 0, 1)] {
        let picture = noise(width, height);
        let middle = image::imageops::crop_imm(&picture, left, top, 16, 16).to_image();
        let (planes, notes) = decode(&save(&place, "a.png", picture), 16, 3);
        assert_eq!(planes, planar(&middle), "{width}x{height}");
        assert_eq!(notes, PictureNotes::default(), "{width}x{height}");
    }
}

#[test]
fn a_picture_of_one_colour_keeps_it_at_every_size() {
    let place = place();
    for colour in [[0, 0, 0], [255, 255, 255], [77, 128, 254]] {
        for (size, resolution) in [(300, 64), (65, 64), (24, 64), (7, 16)] {
            let path = save(&place, "a.png", RgbImage::from_pixel(size, size, Rgb(colour)));
            let (planes, notes) = decode(&path, resolution, 3);
            let pixels = (resolution * resolution) as usize;
            assert_eq!(planes, planar(&colour.repeat(pixels)), "{colour:?}, {size} to {resolution}");
            assert_eq!(notes.was_upscaled, size < resolution);
        }
    }
}

#[test]
fn a_half_black_half_white_picture_keeps_its_mean_and_its_halves() {
    let place = place();
    for (size, resolution) in [(256, 64), (130, 64), (32, 64)] {
        let half = GrayImage::from_fn(size, size, |x, _| Luma([if x < size / 2 { 0 } else { 255 }]));
        let plane = decode(&save(&place, "a.png", half), resolution, 1).0;
        let mean = plane.iter().map(|&value| f64::from(value)).sum::<f64>() / plane.len() as f64;
        assert!((mean - 127.5).abs() <= 0.5, "{size} to {resolution}: mean {mean}");
        // Far from the edge nothing of it is left.
        let row = &plane[..resolution as usize];
        assert_eq!((row[0], row[8], row[55], row[63]), (0, 0, 255, 255), "{size} to {resolution}");
    }
}

#[test]
fn the_content_tells_the_format_not_the_name() {
    let place = place();
    let jpeg = save(&place, "a.jpg", noise(24, 24));
    let misnamed = place.path().join("a.png");
    fs::copy(&jpeg, &misnamed).unwrap();
    assert_eq!(decode(&misnamed, 16, 3), decode(&jpeg, 16, 3));
}

#[test]
fn what_is_no_whole_picture_is_refused_with_the_reason() {
    let place = place();
    let half = |name: &str| {
        let bytes = fs::read(save(&place, name, noise(64, 64))).unwrap();
        bytes[..bytes.len() / 2].to_vec()
    };
    let reason = |name: &str, bytes: Vec<u8>, reason: &str| {
        let message = refusal(&write(&place, name, bytes));
        assert!(message.contains(reason), "{name}: {message}");
    };
    reason("cut.png", half("a.png"), "unexpected end of file");
    reason("cut.jpg", half("a.jpg"), "it is cut short: a jpeg without its end marker");
    reason("empty.png", Vec::new(), "the file is empty");
    reason("text.png", b"a shopping list".to_vec(), "its content is not png, jpeg, webp, bmp, tiff or gif");
    for name in ["a.webp", "a.bmp", "a.tiff", "a.gif"] {
        refusal(&write(&place, name, half(name)));
    }
    let message = refusal(&place.path().join("missing.png"));
    assert!(message.contains("No such file"), "{message}");
}

#[test]
fn a_gif_without_a_canvas_is_refused_though_its_frame_has_pixels() {
    let place = place();
    let mut bytes = fs::read(save(&place, "a.gif", RgbImage::from_pixel(4, 4, Rgb([9, 9, 9])))).unwrap();
    bytes[6..10].fill(0);
    refusal(&write(&place, "b.gif", bytes));
}

#[test]
fn a_decompression_bomb_is_refused_at_once_and_without_its_memory() {
    let place = place();
    let (begun, before) = (Instant::now(), peak_memory());
    for (side, reason) in [(30_000, "longer than 20000 pixels on a side"), (15_000, "more than 512 MiB to decode")] {
        let (header, row) = (png_header(side, side, 8, 2), zlib(&[0]));
        let bomb = png(&[("IHDR", &header), ("IDAT", &row), ("IEND", &[])]);
        let message = refusal(&write(&place, "bomb.png", bomb));
        assert!(message.contains(reason), "{message}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let grown = peak_memory() - before;
    assert!(grown < 200 << 20, "{grown} bytes for pictures of 644 and 2575 MiB");
}

#[test]
fn a_colour_profile_that_unpacks_to_a_bomb_is_refused_without_its_memory() {
    let place = place();
    // 300 MiB of zeros in 300 kB.
    let mut packed = flate2::write::ZlibEncoder::new(b"x\0\0".to_vec(), flate2::Compression::best());
    (0..300).for_each(|_| packed.write_all(&[0; 1 << 20]).unwrap());
    let profile = packed.finish().unwrap();
    let before = peak_memory();
    let header = png_header(4, 4, 8, 2);
    let rows = zlib(&[0; 4 * 13]);
    let bomb = png(&[("IHDR", &header), ("iCCP", &profile), ("IDAT", &rows), ("IEND", &[])]);
    let message = refusal(&write(&place, "profile.png", bomb));
    assert!(message.contains("colour profile has more than 16 MiB"), "{message}");
    assert!(peak_memory() - before < 50 << 20, "{before} {}", peak_memory());
}

#[test]
fn pictures_of_phones_under_other_names_are_told_by_what_they_are() {
    let place = place();
    for (start, what, converter) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "a HEIC picture", "heif-convert"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC picture", "heif-convert"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture", "heif-convert"),
        (b"\xff\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "a JPEG XL picture", "djxl"),
    ] {
        let message = refusal(&write(&place, "photo.jpg", start));
        assert!(message.contains(what) && message.contains(converter), "{message}");
    }
}

#[test]
fn a_png_that_says_its_values_are_not_srgb_is_noted() {
    let place = place();
    let (header, rows) = (png_header(4, 4, 8, 2), zlib(&[0; 4 * 13]));
    let noted = |chunks: &[(&str, &[u8])]| {
        let mut all: Vec<(&str, &[u8])> = vec![("IHDR", &header)];
        all.extend(chunks);
        all.extend([("IDAT", &rows[..]), ("IEND", &[])]);
        decode_picture(&write(&place, "colour.png", png(&all)), 4, 3).unwrap().1.had_unusable_profile
    };
    let (usual, linear) = (45_455u32.to_be_bytes(), 100_000u32.to_be_bytes());
    // BT.2100 with perceptual quantisation, and sRGB.
    let (hdr, srgb) = ([9, 16, 0, 1], [1, 13, 0, 1]);
    assert!(!noted(&[]) && !noted(&[("gAMA", &usual)]) && !noted(&[("cICP", &srgb), ("gAMA", &linear)]));
    assert!(noted(&[("gAMA", &linear)]) && noted(&[("cICP", &hdr)]) && noted(&[("cICP", &hdr), ("sRGB", &[0])]));
    assert!(!noted(&[("sRGB", &[0]), ("gAMA", &linear)]));
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
