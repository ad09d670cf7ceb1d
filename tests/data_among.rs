//! What lies among pictures and is none, and names as other systems write them.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use common::picture_folder;
use rootgan::data::{Dataset, DatasetOptions};
use serde_json::Value;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn options(class_count: u32) -> DatasetOptions {
    DatasetOptions { resolution: 16, channels: 3, class_count, ..DatasetOptions::default() }
}

fn classes(root: &Path, class_count: u32) -> Vec<u32> {
    let (dataset, _) = Dataset::open(root, &options(class_count)).unwrap_or_else(|error| panic!("{error:#}"));
    dataset.labels().unwrap().classes.clone()
}

fn refusal(root: &Path, class_count: u32) -> String {
    format!("{:#}", Dataset::open(root, &options(class_count)).err().expect("it is refused"))
}

/// A zip whose entries have these names, each with the content of a picture.
fn zip_with(path: &Path, pictures: &[&str], others: &[(&str, &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    picture_folder(folder.path(), pictures.len(), 16);
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, file) in pictures.iter().zip(files) {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(file).unwrap()).unwrap();
    }
    for (name, content) in others {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn files_that_are_no_pictures_are_counted_by_kind_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    picture_folder(folder.path(), 4, 16);
    for name in ["IMG_1.HEIC", "IMG_2.heic", "x.avif", "y.jxl", "noext", "notes.txt", ".hidden.png"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    picture_folder(&folder.path().join("@eaDir"), 3, 16);
    picture_folder(&folder.path().join("sub/.thumbnails"), 2, 16);
    let (dataset, report) = Dataset::open(folder.path(), &options(0)).unwrap();
    assert_eq!(dataset.len(), 4);
    let text = report.summary().join("\n");
    assert!(
        text.contains("  7 other files: 2 heic, 1 without extension, 1 avif, 1 jxl, 1 txt, 1 hidden passed over"),
        "{text}"
    );
    assert!(text.contains("3 heic or like it are not read: convert to PNG first, e.g. "), "{text}");
    assert!(text.contains("2 folders: 1 .thumbnails, 1 @eaDir passed over"), "{text}");
    let listed = common::rootgan().arg("dataset").arg(folder.path()).assert().success();
    let listed = String::from_utf8_lossy(&listed.get_output().stdout).into_owned();
    assert!(listed.contains("IMG_1.HEIC") && listed.contains("noext"), "{listed}");
    let json = common::rootgan().arg("dataset").arg(folder.path()).arg("--json").assert().success();
    let json: Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert_eq!(json["other_files"].as_array().unwrap().len(), 6);
}

#[test]
fn a_place_without_usable_pictures_says_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    picture_folder(&folder.path().join("h/.pics"), 2, 16);
    let message = refusal(&folder.path().join("h"), 0);
    assert!(message.contains("found 1 folder: 1 .pics; pass such a folder itself"), "{message}");
    assert!(Dataset::open(&folder.path().join("h/.pics"), &options(0)).is_ok());
    let zip = folder.path().join("hidden.zip");
    zip_with(&zip, &[".pics/0.png", ".pics/1.png"], &[]);
    assert!(refusal(&zip, 0).contains("1 folder: 1 .pics"), "{}", refusal(&zip, 0));
    zip_with(&zip, &["../pics/0.png", "../pics/1.png"], &[]);
    assert!(refusal(&zip, 0).contains("the names of all 2 point out of the zip, as '../pics/0.png'"));
    zip_with(&zip, &[], &[("a.heic", b"x")]);
    assert!(refusal(&zip, 0).contains("1 other file: 1 heic; 1 heic or like it is not read: convert to PNG"));
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(refusal(&folder.path().join("empty"), 0).contains("no files at all"));
}

#[test]
fn backslashes_in_a_zip_are_folders() {
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("windows.zip");
    let names = ["cats\\0.png", "cats\\1.png", ".\\dogs\\2.png", "dogs\\3.png"];
    zip_with(&zip, &names, &[("__MACOSX\\cats\\._0.png", b"x")]);
    assert_eq!(classes(&zip, 2), [0, 0, 1, 1]);
    let json = br#"{"labels": [["cats/0.png", 1], ["cats\\1.png", 1], ["./dogs/2.png", 0], ["dogs//3.png", 0]]}"#;
    zip_with(&zip, &names, &[("dataset.json", json)]);
    assert_eq!(classes(&zip, 2), [1, 1, 0, 0]);
}

#[test]
fn names_in_dataset_json_match_over_encodings_case_and_extension() {
    let folder = tempfile::tempdir().unwrap();
    picture_folder(&folder.path().join("from"), 3, 16);
    let mut files: Vec<_> =
        fs::read_dir(folder.path().join("from")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let root = folder.path().join("set");
    fs::create_dir(&root).unwrap();
    // Composed on the disk, decomposed in the file; a mark of the encoding; another case; another extension.
    for (file, name) in files.iter().zip(["Z\u{fc}rich.png", "b.PNG", "c.png"]) {
        fs::copy(file, root.join(name)).unwrap();
    }
    let json = "\u{feff}{\"labels\": [[\"Zu\u{308}rich.png\", 0], [\"B.png\", 1], [\"c.jpg\", 2]]}";
    fs::write(root.join("dataset.json"), json).unwrap();
    assert_eq!(classes(&root, 3), [0, 1, 2], "'Z' comes before 'b'");
    // Two that could be meant are none.
    fs::write(root.join("dataset.json"), json.replace("[\"B.png\", 1]", "[\"B.png\", 1], [\"b.jpg\", 2]")).unwrap();
    let message = refusal(&root, 3);
    assert!(
        message.contains("1 of 3 pictures are not in it, the first is 'b.PNG' (the nearest that it has is 'B.png')"),
        "{message}"
    );
}
