//! Colour profiles of pictures against LittleCMS: `tests/profiles`, made by the script there.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use rootgan::data::decode::decode_picture;
use rootgan::data::{Dataset, DatasetOptions};

/// Levels of 255 that two colour systems may differ by.
const TOLERANCE: u8 = 2;

fn profiles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles")
}

fn decoded(name: &str) -> Vec<u8> {
    decode_picture(&profiles().join(name), 16, 3).unwrap().0
}

#[test]
fn values_of_every_format_become_those_of_littlecms() {
    let cases = [
        ("p3.png", "p3.expected.png"),
        ("p3.webp", "p3.expected.png"),
        ("p3.tif", "p3.expected.png"),
        ("adobe.png", "adobe.expected.png"),
    ];
    for (name, expected) in cases {
        let (_, notes) = decode_picture(&profiles().join(name), 16, 3).unwrap();
        assert!(notes.was_profiled && !notes.had_unusable_profile, "{name}");
        let (found, expected) = (decoded(name), decoded(expected));
        let worst = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= TOLERANCE, "{name}: {worst} levels off");
    }
}

#[test]
fn a_jpeg_differs_by_its_decoder_alone() {
    let (found, expected) = (decoded("p3.jpg"), decoded("p3jpg.expected.png"));
    let differences = found.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / found.len() as f64;
    assert!(mean < 1.0, "{mean}");
}

#[test]
fn srgb_changes_no_bit() {
    let (_, notes) = decode_picture(&profiles().join("srgb.png"), 16, 3).unwrap();
    assert!(!notes.was_profiled && !notes.had_unusable_profile);
    assert_eq!(decoded("srgb.png"), decoded("srgb.expected.png"));
}

#[test]
fn profiles_are_counted_and_the_unusable_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["p3.png", "adobe.png", "srgb.png"] {
        fs::copy(profiles().join(name), folder.path().join(name)).unwrap();
    }
    // The profile of the webp, whose chunk has no checksum, without its tags.
    let mut bytes = fs::read(profiles().join("p3.webp")).unwrap();
    let tags = bytes.windows(4).position(|window| window == b"acsp").unwrap() + 92;
    bytes[tags..tags + 60].fill(0xff);
    fs::write(folder.path().join("broken.webp"), bytes).unwrap();
    let options = DatasetOptions { resolution: 16, channels: 3, ..DatasetOptions::default() };
    let (dataset, report) = Dataset::open(folder.path(), &options).unwrap();
    assert_eq!((dataset.len(), report.profiled, report.unusable_profiles), (4, 2, 1));
    let lines = report.summary().join("\n");
    assert!(lines.contains("2 with a colour profile, converted to sRGB"), "{lines}");
    assert!(
        lines.contains("1 with a colour profile that cannot be converted") && lines.contains("broken.webp"),
        "{lines}"
    );
}
