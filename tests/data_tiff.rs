//! TIFF files of every kind: read, or refused by the name of the kind. `tests/tiffs/make.py` makes them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use rootgan::data::decode::decode_picture;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiffs").join(format!("{name}.tif"))
}

#[test]
fn kinds_without_loss_have_the_pixels_of_the_plain_one() {
    let (plain, _) = decode_picture(&file("rgb"), 8, 3).unwrap();
    for name in ["big", "lzw", "deflate", "packbits", "rgba"] {
        assert_eq!(decode_picture(&file(name), 8, 3).unwrap().0, plain, "{name}");
    }
}

#[test]
fn the_other_kinds_that_are_read_are_close_or_grey() {
    let (plain, _) = decode_picture(&file("rgb"), 8, 3).unwrap();
    for name in ["cmyk", "jpeg"] {
        let (found, _) = decode_picture(&file(name), 8, 3).unwrap();
        let mean = found.iter().zip(&plain).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / 192.0;
        assert!(mean < 12.0, "{name}: {mean}");
    }
    for name in ["1", "l", "i16"] {
        assert!(decode_picture(&file(name), 8, 3).unwrap().1.was_grey, "{name}");
    }
}

#[test]
fn kinds_that_are_not_read_are_refused_by_their_names() {
    let kinds = [
        ("p", "a palette of colours"),
        ("la", "grey with transparency"),
        ("f", "floating-point values of 32 bits"),
        ("i", "signed values of 32 bits"),
        ("ycbcr", "YCbCr"),
        ("lab", "CIELab"),
    ];
    for (name, kind) in kinds {
        let message = format!("{:#}", decode_picture(&file(name), 8, 3).unwrap_err());
        assert!(
            message.contains(&format!("a TIFF with {kind}, which is not read: save it as PNG")),
            "{name}: {message}"
        );
    }
}
