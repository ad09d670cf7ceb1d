//! Labels from end to end on a 16x16 pair of three classes, and a grey pair: train, generate by class, dump.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::path::{Path, PathBuf};

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

const SIDE: u32 = 16;

fn finetune(pair: &(PathBuf, PathBuf), data: &Path, outdir: &Path, flags: &[&str]) -> PathBuf {
    Finetune::new(pair, data, outdir).with(["--grid", "5x3"]).with(flags).run()
}

/// Flat pictures of class 0 (red) and 2 (blue), none of class 1: 3 and 9 of them.
fn red_and_blue(root: &Path) {
    let mut labels = Vec::new();
    for (class, count, colour) in [(0, 3, [230, 20, 20]), (2, 9, [20, 20, 230])] {
        for index in 0..count {
            let name = format!("{class}-{index}.png");
            image::RgbImage::from_pixel(SIDE, SIDE, image::Rgb(colour)).save(root.join(&name)).unwrap();
            labels.push(serde_json::json!([name, class]));
        }
    }
    std::fs::write(root.join("dataset.json"), serde_json::json!({ "labels": labels }).to_string()).unwrap();
}

/// The mean of (red, blue) over a cell of a grid.
fn red_and_blue_of(sheet: &image::RgbImage, column: u32, row: u32) -> (f64, f64) {
    let cell = image::imageops::crop_imm(sheet, column * SIDE, row * SIDE, SIDE, SIDE).to_image();
    let mean = |channel: usize| cell.pixels().map(|p| f64::from(p.0[channel])).sum::<f64>() / f64::from(SIDE * SIDE);
    (mean(0), mean(2))
}

fn sheet(path: &Path) -> image::RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into_rgb8()
}

/// What `--class N` draws with a few seeds, on average.
fn colour_of_class(run: &Path, class: &str, out: &Path) -> (f64, f64) {
    let grid = out.join(format!("class{class}.png"));
    common::rootgan()
        .args(["generate", "--device", "cpu", "--from", common::text(run), "--class", class])
        .args(["--seeds", "0-15", "--columns", "16", "--grid", common::text(&grid)])
        .assert()
        .success();
    let sheet = sheet(&grid);
    let all: Vec<_> = (0..16).map(|column| red_and_blue_of(&sheet, column, 0)).collect();
    (all.iter().map(|c| c.0).sum::<f64>() / 16.0, all.iter().map(|c| c.1).sum::<f64>() / 16.0)
}

#[test]
fn a_conditional_pair_learns_its_classes_and_draws_and_dumps_them() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("colours");
    std::fs::create_dir(&data).unwrap();
    red_and_blue(&data);
    let flags = ["--kimg", "4", "--aug", "noaug", "--r1-gamma", "0.1", "--pl-weight", "0", "--ema-kimg", "0.1"];
    let run = finetune(&common::pair16_labelled(), &data, &place.path().join("runs"), &flags);
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("2 of 3 classes, from dataset.json: 0 (3), 2 (9)"), "{log}");

    // A row per class that has pictures, then again from the first; a class of three pictures ends in black.
    let reals = sheet(&run.join("reals.png"));
    let red = |(red, blue): (f64, f64)| red > blue;
    assert!((0..3).all(|column| red(red_and_blue_of(&reals, column, 0))));
    assert_eq!(red_and_blue_of(&reals, 3, 0), (0.0, 0.0));
    assert!((0..5).all(|column| !red(red_and_blue_of(&reals, column, 1))));
    let fakes = sheet(&run.join("fakes000004.png"));
    for row in [0, 1, 2] {
        let reds = (0..5).filter(|&column| red(red_and_blue_of(&fakes, column, row))).count();
        assert!(if row == 1 { reds <= 1 } else { reds >= 4 }, "row {row}: {reds} of 5 are red");
    }

    let (class0, class2) = (colour_of_class(&run, "0", place.path()), colour_of_class(&run, "2", place.path()));
    assert!(class0.0 > class0.1 + 40.0 && class2.1 > class2.0 + 40.0, "{class0:?} {class2:?}");
    let generate = |class: &[&str]| {
        let mut command = common::rootgan();
        command.args(["generate", "--device", "cpu", "--seeds", "1", "--outdir", "x", "--from", common::text(&run)]);
        command.args(class).current_dir(place.path()).assert().code(1)
    };
    generate(&["--class", "3"]).stderr(contains("classes 0 to 2"));
    generate(&[]).stderr(contains("choose a class with --class 0 to 2"));
    dump_draws_classes_as_often_as_the_pictures_have_them(&run, &data, place.path());
}

fn dump_draws_classes_as_often_as_the_pictures_have_them(run: &Path, data: &Path, place: &Path) {
    let dump = |out: &str, flags: &[&str]| -> Vec<bool> {
        let out = place.join(out);
        let arguments = ["dump", "--device", "cpu", "--count", "48", "--from", common::text(run), "--out"];
        common::rootgan().args(arguments).arg(&out).args(flags).assert().success();
        let is_red = |index: usize| {
            let (red, blue) = red_and_blue_of(&sheet(&out.join(format!("{index:06}.png"))), 0, 0);
            red > blue
        };
        (0..48).map(is_red).collect()
    };
    let drawn = dump("drawn", &[]);
    let reds = drawn.iter().filter(|&&red| red).count();
    // 3 of 12: 12 expected, with a deviation of 3.
    assert!((4..=21).contains(&reds), "{reds} of 48 are red");
    let record: Value = serde_json::from_slice(&std::fs::read(place.join("drawn/dump.json")).unwrap()).unwrap();
    assert_eq!(record["class_counts"], serde_json::json!([3, 0, 9]));
    assert_eq!(dump("again", &["--labels-of", common::text(data), "--batch", "7"]), drawn);
    assert!(dump("one", &["--class", "2"]).iter().filter(|&&red| red).count() < 6);
}

#[test]
fn a_generator_without_a_record_of_its_classes_says_what_a_dump_needs() {
    let (generator, _) = common::pair16_labelled();
    let place = tempfile::tempdir().unwrap();
    let arguments = ["dump", "--count", "2", "--generator", common::text(&generator), "--out"];
    common::rootgan()
        .args(arguments)
        .arg(place.path().join("out"))
        .assert()
        .code(1)
        .stderr(contains("3 classes").and(contains("--labels-of")));
}

#[test]
fn a_grey_pair_trains_on_colour_pictures_and_writes_grey_ones() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("discs");
    common::picture_folder(&data, 12, SIDE);
    let run = finetune(
        &common::pair16_grey(),
        &data,
        &place.path().join("runs"),
        &["--kimg", "0.1", "--aug", "fixed", "--p", "0.5"],
    );
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("16x16 grey") && log.contains("12 in colour, turned to grey"), "{log}");
    for name in ["reals.png", "fakes000000.png"] {
        let picture = image::open(run.join(name)).unwrap();
        assert_eq!(picture.color(), image::ColorType::L8, "{name}");
    }
    let grid = place.path().join("grid.png");
    let arguments = ["generate", "--device", "cpu", "--seeds", "0-3", "--from", common::text(&run), "--grid"];
    common::rootgan().args(arguments).arg(&grid).assert().success();
    assert_eq!(image::open(&grid).unwrap().color(), image::ColorType::L8);
}
