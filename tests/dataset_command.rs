//! `rootgan dataset`: what it reports, what it writes, and what it leaves alone.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{picture_folder, python, text};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rootgan::data::{Dataset, DatasetOptions, Labels, Pictures};
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

struct Stage {
    place: tempfile::TempDir,
}

impl Stage {
    /// With a folder `set` of `n` pictures of `size` pixels.
    fn new(n: usize, size: u32) -> Self {
        let stage = Self { place: tempfile::tempdir().unwrap() };
        picture_folder(&stage.path("set"), n, size);
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn save(&self, name: &str, image: impl Into<DynamicImage>) {
        image.into().save(self.path("set").join(name)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = common::rootgan();
        command.current_dir(self.place.path()).arg("dataset").args(arguments);
        command
    }

    /// What a call that works prints.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).assert().success().get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Exit code 1 and one error with all `words`; returns what else was printed.
    fn refuses(&self, arguments: &[&str], words: &[&str]) -> String {
        let output = self.command(arguments).assert().code(1).get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let error = stderr.lines().last().unwrap_or_default();
        assert!(error.starts_with("error: "), "{stderr}");
        words.iter().for_each(|word| assert!(error.contains(word), "'{word}' is not in '{error}'"));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything in the place, hidden leftovers included.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn pixels(root: &Path, resolution: u32, channels: u32) -> Vec<Vec<u8>> {
    let options = DatasetOptions { resolution, channels, ..DatasetOptions::default() };
    let (dataset, report) = Dataset::open(root, &options).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(report.usable, report.total);
    let mut picture = vec![0; dataset.picture_bytes()];
    let mut read = |index| {
        dataset.read_into(index, &mut picture).unwrap();
        picture.clone()
    };
    (0..dataset.len()).map(&mut read).collect()
}

fn plain(side: u32, hue: u8) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| Rgb([hue, (x * 9) as u8, (y * 5) as u8]))
}

fn files_of(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["file"].as_str().unwrap()).collect()
}

fn zip_of(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file(*name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_set_that_was_converted_has_the_pixels_that_training_would_have_made_of_the_source() {
    let stage = Stage::new(5, 40);
    stage.save("wide.png", image::imageops::crop_imm(&plain(50, 3), 0, 0, 50, 30).to_image());
    stage.save("grey.png", GrayImage::from_fn(33, 33, |x, y| Luma([(x * 3 + y) as u8])));
    stage.save("alpha.png", RgbaImage::from_fn(20, 30, |x, y| Rgba([x as u8 * 9, y as u8 * 5, 77, 255 - x as u8])));
    stage.save("large.jpg", plain(100, 200));
    let source = stage.path("set");
    for (target, grey) in [("out.zip", false), ("out", false), ("grey.zip", true), ("deep/er/grey", true)] {
        let flag = if grey { &["--grey"][..] } else { &[] };
        let printed = stage.run(&[&["set", target, "--resolution", "24"], flag].concat());
        assert!(printed.contains("9 of 9 usable") && printed.contains("written: 9 pictures of 24x24"), "{printed}");
        let channels = if grey { 1 } else { 3 };
        assert!(pixels(&stage.path(target), 24, channels) == pixels(&source, 24, channels), "{target}");
    }
    // Converting again changes nothing, and needs no resolution: all are equal now.
    stage.run(&["out.zip", "again.zip"]);
    assert_eq!(fs::read(stage.path("again.zip")).unwrap(), fs::read(stage.path("out.zip")).unwrap());
}

#[test]
fn the_box_filter_takes_means() {
    let stage = Stage::new(0, 1);
    stage.save("a.png", RgbImage::from_raw(2, 2, [[10; 3], [20; 3], [30; 3], [40; 3]].concat()).unwrap());
    stage.run(&["set", "out", "--resolution", "1", "--resize", "box"]);
    assert_eq!(pixels(&stage.path("out"), 1, 3), [[25; 3]]);
}

#[test]
fn other_programs_read_the_zip_with_stored_entries_and_the_layout_of_stylegan_tools() {
    let stage = Stage::new(3, 16);
    stage.run(&["set", "out.zip"]);
    let code = "import json, sys, zipfile\n\
                z = zipfile.ZipFile(sys.argv[1])\n\
                assert z.testzip() is None\n\
                assert all(i.compress_type == zipfile.ZIP_STORED for i in z.infolist())\n\
                print(json.dumps([z.namelist(), json.loads(z.read('dataset.json'))]))";
    let printed: Value = serde_json::from_str(&python(&["-c", code, text(&stage.path("out.zip"))])).unwrap();
    let names = ["00000/img00000000.png", "00000/img00000001.png", "00000/img00000002.png", "dataset.json"];
    assert_eq!(printed, serde_json::json!([names, { "labels": null }]));
}

#[test]
fn folders_and_zips_hold_the_same_files_and_a_thousand_pictures_share_a_folder() {
    let stage = Stage::new(0, 1);
    let place = stage.path("set");
    for index in 0..1003u32 {
        let value = index.to_le_bytes();
        RgbImage::from_pixel(1, 1, Rgb([value[0], value[1], 0])).save(place.join(format!("{index:04}.bmp"))).unwrap();
    }
    stage.run(&["set", "out"]);
    stage.run(&["set", "out.zip"]);
    let mut zip = ZipArchive::new(File::open(stage.path("out.zip")).unwrap()).unwrap();
    assert_eq!(zip.len(), 1004);
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        assert_eq!(fs::read(stage.path("out").join(entry.name())).unwrap(), content, "{}", entry.name());
    }
    assert!(stage.path("out/00001/img00001002.png").exists());
}

/// Good pictures, and one of every kind of bad ones.
fn mixed() -> Stage {
    let stage = Stage::new(2, 32);
    let set = stage.path("set");
    let whole = fs::read(set.join("picture000.png")).unwrap();
    fs::write(set.join("cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(set.join("empty.png"), "").unwrap();
    fs::write(set.join("text.jpg"), "no picture").unwrap();
    let mut jpeg = Vec::new();
    plain(64, 9).write_to(&mut std::io::Cursor::new(&mut jpeg), image::ImageFormat::Jpeg).unwrap();
    fs::write(set.join("cut.jpg"), &jpeg[..jpeg.len() - 40]).unwrap();
    std::os::unix::fs::symlink("gone", set.join("link.png")).unwrap();
    stage.save("small.png", plain(8, 1));
    stage.save("wide.png", RgbImage::new(40, 32));
    stage
}

#[test]
fn every_bad_file_is_listed_with_its_reason_and_left_out() {
    let stage = mixed();
    let report = stage.json(&["set", "out.zip", "--min-size", "16", "--crop", "none"]);
    let bad: Vec<_> = report["bad"].as_array().unwrap().iter().map(|bad| (&bad["file"], &bad["kind"])).collect();
    let expected = [
        ("cut.jpg", "unreadable"),
        ("cut.png", "unreadable"),
        ("empty.png", "unreadable"),
        ("link.png", "unreadable"),
        ("small.png", "too-small"),
        ("text.jpg", "unreadable"),
        ("wide.png", "not-square"),
    ];
    assert!(bad.iter().zip(&expected).all(|((file, kind), (name, why))| *file == name && *kind == why), "{bad:?}");
    assert_eq!((bad.len(), &report["total"], &report["usable"]), (7, &9.into(), &2.into()));
    assert_eq!(report["written"]["pictures"], 2);
    assert_eq!(pixels(&stage.path("out.zip"), 32, 3).len(), 2);

    let printed = stage.run(&["set", "--min-size", "16", "--crop", "none"]);
    for words in [
        "2 of 9 usable in 'set'",
        "7 bad, left out",
        "cut.jpg: it is cut short",
        "empty.png: the file is empty",
        "small.png: it has 8x8 pixels, fewer than --min-size 16",
        "text.jpg: its content is not png",
        "wide.png: it has 40x32 pixels and is not square",
    ] {
        assert!(printed.contains(words), "'{words}' is not in {printed}");
    }
    assert_eq!(stage.names(), ["out.zip", "set"]);
}

#[test]
fn a_hundred_bad_files_are_all_named() {
    let stage = Stage::new(1, 16);
    (0..100).for_each(|index| fs::write(stage.path(&format!("set/bad{index:03}.png")), "x").unwrap());
    let printed = stage.run(&["set"]);
    assert_eq!(printed.lines().filter(|line| line.trim_start().starts_with("bad")).count(), 100, "{printed}");
}

#[test]
fn pictures_that_show_the_same_are_duplicates_of_the_first_whatever_their_format() {
    let stage = Stage::new(0, 1);
    let picture = plain(20, 50);
    stage.save("b.png", picture.clone());
    stage.save("a.bmp", picture.clone());
    stage.save("c.tiff", picture.clone());
    stage.save("other.png", plain(20, 51));
    // The same square in the middle, but another picture.
    let mut wide = RgbImage::new(30, 20);
    image::imageops::replace(&mut wide, &picture, 5, 0);
    stage.save("wide.png", wide);
    let report = stage.json(&["set", "out"]);
    assert_eq!(files_of(&report["duplicates"]), ["b.png", "c.tiff"]);
    assert!(report["duplicates"].as_array().unwrap().iter().all(|found| found["same_as"] == "a.bmp"));
    assert_eq!((&report["usable"], &report["written"]["pictures"]), (&3.into(), &3.into()));
    let report = stage.json(&["set", "all", "--keep-duplicates"]);
    assert_eq!((files_of(&report["duplicates"]).len(), &report["written"]["pictures"]), (2, &5.into()));
    assert!(stage.run(&["set"]).contains("c.tiff: the same as a.bmp"));
}

#[test]
fn odd_pictures_are_counted_by_what_is_odd() {
    let stage = Stage::new(1, 16);
    stage.save("grey.png", GrayImage::from_pixel(16, 16, Luma([3])));
    stage.save("deep.png", ImageBuffer::<Rgb<u16>, _>::from_pixel(16, 16, Rgb([300u16, 4_000, 50_000])));
    stage.save("alpha.png", RgbaImage::from_pixel(16, 16, Rgba([9, 9, 9, 100])));
    stage.save("still.gif", plain(16, 77));
    let frames = [1, 2].map(|hue| Frame::new(DynamicImage::from(plain(16, hue)).into_rgba8()));
    GifEncoder::new(File::create(stage.path("set/moving.gif")).unwrap()).encode_frames(frames).unwrap();
    fs::copy(stage.path("set/still.gif"), stage.path("set/misnamed.jpg")).unwrap();
    plain(16, 200).save_with_format(stage.path("set/rightly.jpe"), image::ImageFormat::Jpeg).unwrap();
    stage.save("tiny.png", plain(4, 4));
    let report = stage.json(&["set", "--resolution", "16", "--keep-duplicates"]);
    let expected = serde_json::json!({
        "grey": 1, "alpha": 1, "sixteen_bit": 1, "profiled": 0, "unusable_profile": 0, "turned": 0, "animated": 1,
        "misnamed": 1, "enlarged": 1
    });
    assert_eq!(report["notes"], expected);
    let sizes = serde_json::json!([
        { "width": 4, "height": 4, "pictures": 1 }, { "width": 16, "height": 16, "pictures": 8 }
    ]);
    assert_eq!(report["sizes"], sizes);
    let printed = stage.run(&["set"]);
    assert!(printed.contains("sizes: 16x16 (7), 4x4 (1)") && printed.contains("1 animated"), "{printed}");
}

#[test]
fn pictures_whose_colour_profile_cannot_be_converted_are_listed() {
    let stage = Stage::new(1, 16);
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles");
    let mut bytes = fs::read(profiles.join("p3.webp")).unwrap();
    // Its table of tags, damaged.
    let tags = bytes.windows(4).position(|window| window == b"acsp").unwrap() + 92;
    bytes[tags..tags + 60].fill(0xff);
    fs::create_dir(stage.path("set/phone")).unwrap();
    for name in ["first.webp", "phone/second.webp"] {
        fs::write(stage.path("set").join(name), &bytes).unwrap();
    }
    fs::copy(profiles.join("p3.png"), stage.path("set/converted.png")).unwrap();
    let report = stage.json(&["set", "--keep-duplicates"]);
    assert_eq!(report["unusable_profiles"], serde_json::json!(["first.webp", "phone/second.webp"]));
    assert_eq!((&report["notes"]["profiled"], &report["notes"]["unusable_profile"]), (&1.into(), &2.into()));
    let printed = stage.run(&["set", "--keep-duplicates"]);
    let lines =
        "  2 with a colour profile that cannot be converted, taken as sRGB:\n    first.webp\n    phone/second.webp\n";
    assert!(printed.contains(lines), "{printed}");
}

#[test]
fn different_sizes_need_a_resolution_and_the_error_says_which_there_are() {
    let stage = Stage::new(3, 16);
    stage.save("a.png", plain(20, 1));
    stage.save("tiny.png", plain(4, 1));
    let words = ["cannot convert 'set'", "3 sizes", "16x16 (3), 4x4 (1), 20x20 (1)", "--resolution N"];
    stage.refuses(&["set", "out.zip"], &words);
    assert_eq!(stage.names(), ["set"]);
    fs::remove_file(stage.path("set/a.png")).unwrap();
    assert!(stage.run(&["set", "out.zip", "--min-size", "5"]).contains("3 pictures of 16x16 RGB"));
}

fn classes(root: &Path) -> Vec<u32> {
    Labels::from_pictures(&Pictures::open(root).unwrap(), 3).unwrap().classes
}

#[test]
fn labels_of_sub_folders_land_in_dataset_json_and_come_back() {
    let stage = Stage { place: tempfile::tempdir().unwrap() };
    picture_folder(&stage.path("set/cats"), 3, 16);
    // The first three show the same as the cats.
    picture_folder(&stage.path("set/dogs"), 5, 16);
    fs::write(stage.path("set/cats/bad.png"), "x").unwrap();
    let report = stage.json(&["set", "out.zip", "--labels", "folders"]);
    assert_eq!(report["labels"], serde_json::json!({ "counts": [3, 2], "folders": ["cats", "dogs"] }));
    assert_eq!(classes(&stage.path("out.zip")), [0, 0, 0, 1, 1]);
    let printed = stage.run(&["set", "out", "--labels", "folders", "--keep-duplicates"]);
    assert!(printed.contains("2 of 2 classes, from sub-folders: 0 = cats (3), 1 = dogs (5)"), "{printed}");
    assert_eq!(classes(&stage.path("out")), [0, 0, 0, 1, 1, 1, 1, 1]);
    // By default folders are only folders, and labels of dataset.json are kept.
    assert_eq!(stage.json(&["set", "plain.zip"])["labels"], Value::Null);
    assert_eq!(stage.json(&["out", "copy", "--keep-duplicates"])["labels"]["counts"], serde_json::json!([3, 5]));
    assert_eq!(classes(&stage.path("copy")), classes(&stage.path("out")));
    assert_eq!(stage.json(&["out", "--labels", "none"])["labels"], Value::Null);
}

#[test]
fn labels_that_are_missing_are_left_out_with_a_word_or_refused_where_they_are_asked_for() {
    let stage = Stage::new(2, 16);
    let json = stage.path("set/dataset.json");
    stage
        .refuses(&["set", "out", "--labels", "json"], &["no labels in 'set/dataset.json'", "--labels folders or none"]);
    stage.refuses(&["set", "out", "--labels", "folders"], &["2 of 2 pictures", "a folder of their own"]);
    fs::write(&json, r#"{"labels": [["picture000.png", 2]]}"#).unwrap();
    assert!(stage.run(&["set", "out"]).contains("labels left out: 1 of 2 pictures are not in dataset.json"));
    stage.refuses(&["set", "b", "--labels", "json"], &["1 of 2 pictures are not in it", "picture001.png"]);
    fs::write(&json, r#"{"labels": [["picture000.png", 4000000000], ["picture001.png", 0]]}"#).unwrap();
    stage.refuses(&["set", "b"], &["up to class 4000000000", "--labels none"]);
    fs::write(&json, "{").unwrap();
    stage.refuses(&["set", "b"], &["set/dataset.json", "--labels none"]);
    assert_eq!(stage.names(), ["out", "set"]);
}

#[test]
fn hostile_entries_of_a_zip_are_reported_and_nothing_is_written_elsewhere() {
    let stage = Stage::new(2, 16);
    let png = fs::read(stage.path("set/picture000.png")).unwrap();
    let other = fs::read(stage.path("set/picture001.png")).unwrap();
    let bomb = vec![0; 600 << 20];
    // A header that promises 20,000 x 20,000 pixels of 16 bits.
    let mut huge = png[..16].to_vec();
    huge.extend_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20, 16, 2, 0, 0, 0]);
    let mut crc = !0u32;
    for &byte in &huge[12..] {
        crc = (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
    }
    huge.extend_from_slice(&(!crc).to_be_bytes());
    huge.extend_from_slice(&png[33..]);
    let entries: [(&str, &[u8]); 6] = [
        ("../../slipped.png", &png),
        ("/absolute.png", &png),
        ("./here.png", &other),
        ("bomb.png", &bomb),
        ("huge.png", &huge),
        ("line\nbreak\u{1b}[2J.png", b"x"),
    ];
    zip_of(&stage.path("in.zip"), &entries);
    let report = stage.json(&["in.zip", "out/set"]);
    let bad = report["bad"].as_array().unwrap();
    let reason = |name: &str| bad.iter().find(|bad| bad["file"] == name).unwrap()["reason"].as_str().unwrap();
    assert_eq!(reason("../../slipped.png"), "its name points out of the zip");
    assert!(reason("bomb.png").contains("larger than 512 MiB"));
    assert!(reason("huge.png").contains("more than 512 MiB to decode"), "{}", reason("huge.png"));
    assert_eq!((bad.len(), &report["usable"]), (4, &2.into()));
    assert_eq!(stage.names(), ["in.zip", "out", "set"]);
    let written = walkdir::WalkDir::new(stage.path("out"))
        .into_iter()
        .filter(|entry| entry.as_ref().unwrap().file_type().is_file());
    assert_eq!(written.count(), 3, "two pictures and dataset.json");
    let printed = stage.run(&["in.zip"]);
    assert!(printed.contains("line\\nbreak\\u{1b}[2J.png: its content"), "{printed}");
}

#[test]
fn a_destination_that_is_taken_or_inside_the_source_is_refused_and_left_as_it_is() {
    let stage = Stage::new(2, 16);
    fs::write(stage.path("taken.zip"), "mine").unwrap();
    fs::write(stage.path("file"), "mine").unwrap();
    fs::create_dir_all(stage.path("full/of")).unwrap();
    stage.refuses(&["set", "taken.zip"], &["taken.zip", "there already", "pass another name"]);
    stage.refuses(&["set", "file"], &["'file'", "there already"]);
    stage.refuses(&["set", "full"], &["'full'", "not empty"]);
    stage.refuses(&["set", "set"], &["inside 'set'", "a place outside"]);
    stage.refuses(&["set", "set/../set/out.zip"], &["inside 'set'"]);
    stage.refuses(&["set", "set/new/out"], &["inside 'set'"]);
    stage.refuses(&["set", "out.tar"], &["ends in .zip"]);
    stage.refuses(&["set", "file/out.zip"], &["file"]);
    stage.refuses(&["nowhere", "out.zip"], &["nowhere", "check the path"]);
    stage.refuses(&["set", "out", "--resolution", "0"], &["--resolution", "0 is not in 1..=20000"]);
    stage.refuses(&["set", "out", "--crop", "wide"], &["--crop", "center, none"]);
    assert_eq!(fs::read(stage.path("taken.zip")).unwrap(), b"mine");
    assert_eq!(stage.names(), ["file", "full", "set", "taken.zip"]);
    // An empty folder is as good as none.
    fs::create_dir(stage.path("empty")).unwrap();
    stage.run(&["set", "empty"]);
    assert_eq!(pixels(&stage.path("empty"), 16, 3).len(), 2);
}

#[test]
fn a_source_without_usable_pictures_is_reported_fails_and_leaves_no_set() {
    let stage = Stage::new(1, 16);
    for target in ["out.zip", "out"] {
        for size in [&["--resolution", "8"][..], &[]] {
            let arguments = [&["set", target, "--min-size", "64"], size].concat();
            let printed = stage.refuses(&arguments, &["no picture in 'set' is usable"]);
            assert!(
                printed.contains("picture000.png: it has 16x16 pixels") && !printed.contains("written"),
                "{printed}"
            );
        }
    }
    let printed = stage.refuses(&["set", "--min-size", "64", "--json"], &["no picture"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["usable"], 0);
    assert_eq!(stage.names(), ["set"]);
}

#[test]
fn the_result_is_the_same_to_the_last_byte_with_any_number_of_threads() {
    let stage = mixed();
    fs::copy(stage.path("set/picture001.png"), stage.path("set/zz.png")).unwrap();
    (0..20).for_each(|index| stage.save(&format!("more{index:02}.png"), plain(30 + index, index as u8)));
    let made = ["1", "2", "7"].map(|threads| {
        let name = format!("out{threads}.zip");
        let arguments = ["set", &name, "--resolution", "16"];
        let mut command = stage.command(&arguments);
        let output = command.env("RAYON_NUM_THREADS", threads).assert().success().get_output().stdout.clone();
        let report = String::from_utf8(output).unwrap().replace(&name, "OUT");
        (report, fs::read(stage.path(&name)).unwrap())
    });
    assert!(made[0] == made[1] && made[0] == made[2]);
}
