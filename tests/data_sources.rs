//! Zips, labels and subsets: the same pictures and classes, wherever they lie.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use common::picture_folder;
use rootgan::data::{Dataset, DatasetOptions, Labels, Pictures, Subset};
use rootgan::system::signals::{Interrupted, Signal, StopRequest};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const OPTIONS: DatasetOptions =
    DatasetOptions { resolution: 16, channels: 3, cache_bytes: None, subset: None, class_count: 0 };

/// Packs a folder as StyleGAN's dataset tool does (stored), or as zip programs do (deflated).
fn pack(folder: &Path, archive: &Path, method: CompressionMethod) {
    let mut zip = ZipWriter::new(File::create(archive).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if entry.file_type().is_file() {
            zip.start_file(name, options).unwrap();
            let mut bytes = Vec::new();
            File::open(entry.path()).unwrap().read_to_end(&mut bytes).unwrap();
            zip.write_all(&bytes).unwrap();
        } else if !name.is_empty() {
            zip.add_directory(name, options).unwrap();
        }
    }
    zip.finish().unwrap();
}

fn pixels(root: &Path, options: &DatasetOptions) -> Vec<Vec<u8>> {
    let (dataset, _) = Dataset::open(root, options).unwrap_or_else(|error| panic!("{error:#}"));
    let mut picture = vec![0; dataset.picture_bytes()];
    let mut read = |index| {
        dataset.read_into(index, &mut picture).unwrap();
        picture.clone()
    };
    (0..dataset.len()).map(&mut read).collect()
}

fn refusal(root: &Path, options: &DatasetOptions) -> String {
    format!("{:#}", Dataset::open(root, options).err().expect("it is refused"))
}

/// Two sub-folders of three and five pictures.
fn two_classes(root: &Path) {
    picture_folder(&root.join("cats"), 3, 20);
    picture_folder(&root.join("dogs"), 5, 24);
}

fn with_classes(class_count: u32) -> DatasetOptions {
    DatasetOptions { class_count, ..OPTIONS }
}

fn classes(root: &Path, class_count: u32) -> Labels {
    Labels::from_pictures(&Pictures::open(root).unwrap(), class_count).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_file_of_labels_is_seen_where_no_network_asks_for_it() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 2, 16);
    let there = || Labels::are_there(&Pictures::open(place.path()).unwrap());
    let write =
        |labels: &str| fs::write(place.path().join("dataset.json"), format!("{{\"labels\": {labels}}}")).unwrap();
    assert!(!there());
    write("null");
    assert!(!there());
    write(r#"[["picture000.png", 0], ["picture001.png", 1]]"#);
    assert!(there());
}

#[test]
fn a_zip_gives_the_same_pictures_as_the_folder_that_it_was_made_of() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("pictures");
    two_classes(&folder);
    fs::write(folder.join("notes.txt"), "not a picture").unwrap();
    fs::write(folder.join("cats/._picture000.png"), "of macOS").unwrap();
    let expected = pixels(&folder, &OPTIONS);
    assert_eq!(expected.len(), 8);
    for (name, method) in [("a.zip", CompressionMethod::Stored), ("b.zip", CompressionMethod::Deflated)] {
        let archive = place.path().join(name);
        pack(&folder, &archive, method);
        assert_eq!(pixels(&archive, &OPTIONS), expected);
        // Decoded anew at each use.
        assert_eq!(pixels(&archive, &DatasetOptions { cache_bytes: Some(0), ..OPTIONS }), expected);
        let (dataset, _) = Dataset::open(&archive, &OPTIONS).unwrap();
        assert_eq!(dataset.name(), &name[..1]);
    }
}

#[test]
fn an_entry_that_unpacks_to_more_than_the_limit_is_a_bad_picture_and_takes_no_memory() {
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("bomb.zip");
    let mut zip = ZipWriter::new(File::create(&archive).unwrap());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
    zip.start_file("bomb.png", options).unwrap();
    let zeros = vec![0u8; 8 << 20];
    (0..80).for_each(|_| zip.write_all(&zeros).unwrap());
    zip.finish().unwrap();
    assert!(archive.metadata().unwrap().len() < 2 << 20);
    let message = refusal(&archive, &OPTIONS);
    assert!(message.contains("bomb.png") && message.contains("larger than 512 MiB"), "{message}");
}

#[test]
fn names_that_point_out_of_the_archive_are_passed_over_and_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(&place.path().join("pictures"), 1, 16);
    let png = fs::read(place.path().join("pictures/picture000.png")).unwrap();
    let archive = place.path().join("slip.zip");
    let mut zip = ZipWriter::new(File::create(&archive).unwrap());
    for name in ["../../slipped.png", "good.png"] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&png).unwrap();
    }
    zip.finish().unwrap();
    let pictures = Pictures::open(&archive).unwrap();
    assert_eq!(pictures.names(), [PathBuf::from("good.png")]);
    assert_eq!(pixels(&archive, &OPTIONS).len(), 1);
}

#[test]
fn labels_of_a_zip_whose_names_begin_with_a_slash_are_found() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(&place.path().join("pictures"), 1, 16);
    let png = fs::read(place.path().join("pictures/picture000.png")).unwrap();
    // Some of them, which have no folder in common, or all.
    for names in [["//a.png", "b/c.png"], ["/a.png", "/b/c.png"]] {
        let archive = place.path().join("absolute.zip");
        let mut zip = ZipWriter::new(File::create(&archive).unwrap());
        for name in names {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(&png).unwrap();
        }
        zip.start_file("dataset.json", SimpleFileOptions::default()).unwrap();
        write!(zip, r#"{{"labels": [["{}", 1], ["{}", 0]]}}"#, names[0], names[1]).unwrap();
        zip.finish().unwrap();
        assert_eq!(classes(&archive, 2).classes, [1, 0], "{names:?}");
    }
}

#[test]
fn a_signal_ends_reading_and_hashing() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 3, 16);
    let stop = StopRequest::default();
    assert!(Dataset::open_until(place.path(), &OPTIONS, &stop).is_ok());
    stop.ask(Signal::Terminate);
    let error = Dataset::open_until(place.path(), &OPTIONS, &stop).err().unwrap();
    assert!(error.is::<Interrupted>(), "{error:#}");
    assert!(Pictures::open(place.path()).unwrap().content_sha256(&stop).is_err());
}

#[test]
fn sub_folders_are_classes_in_the_order_of_their_names() {
    let place = tempfile::tempdir().unwrap();
    two_classes(place.path());
    let labels = classes(place.path(), 3);
    assert_eq!(labels.classes, [0, 0, 0, 1, 1, 1, 1, 1]);
    assert_eq!(labels.counts(), [3, 5, 0]);
    assert_eq!(labels.summary(), "  2 of 3 classes, from sub-folders: 0 = cats (3), 1 = dogs (5)");
}

#[test]
fn folders_named_by_numbers_are_in_the_order_of_the_numbers() {
    let place = tempfile::tempdir().unwrap();
    for folder in ["2", "10", "1"] {
        picture_folder(&place.path().join(folder), 1, 16);
    }
    // Sorted by name: 1, 10, 2.
    assert_eq!(classes(place.path(), 3).classes, [0, 2, 1]);
}

#[test]
fn dataset_json_is_asked_before_the_folders_and_in_a_zip_too() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("pictures");
    two_classes(&folder);
    let named = Pictures::open(&folder).unwrap();
    let entries: Vec<_> =
        named.names().iter().enumerate().map(|(i, name)| serde_json::json!([name, (i * 3) % 4])).collect();
    fs::write(folder.join("dataset.json"), serde_json::json!({ "labels": entries }).to_string()).unwrap();
    let expected = [0, 3, 2, 1, 0, 3, 2, 1];
    assert_eq!(classes(&folder, 4).classes, expected);
    let archive = place.path().join("pictures.zip");
    pack(&folder, &archive, CompressionMethod::Stored);
    assert_eq!(classes(&archive, 4).classes, expected);
    // null is what the tools write where there are no labels: their folders, 00000 and so on, are no classes.
    fs::write(folder.join("dataset.json"), r#"{"labels": null}"#).unwrap();
    let message = refusal(&folder, &with_classes(2));
    assert!(message.contains("says that the pictures have no labels") && message.contains("remove it"), "{message}");
    let twice = r#"{"labels": [["cats/picture000.png", 0], ["cats/picture000.png", 1]]}"#;
    fs::write(folder.join("dataset.json"), twice).unwrap();
    assert!(refusal(&folder, &with_classes(2)).contains("has the classes 0 and 1"));
}

#[test]
fn a_folder_that_was_zipped_whole_has_the_labels_of_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let inner = place.path().join("outer/inner");
    two_classes(&inner);
    let outer = place.path().join("outer");
    let archive = place.path().join("pictures.zip");
    pack(&outer, &archive, CompressionMethod::Stored);
    for root in [&outer, &archive] {
        assert_eq!(classes(root, 2).classes, [0, 0, 0, 1, 1, 1, 1, 1]);
    }
    let named = Pictures::open(&inner).unwrap();
    let entries: Vec<_> = named.names().iter().map(|name| serde_json::json!([name, 3])).collect();
    fs::write(inner.join("dataset.json"), serde_json::json!({ "labels": entries }).to_string()).unwrap();
    pack(&outer, &archive, CompressionMethod::Stored);
    for root in [&outer, &archive] {
        assert_eq!(classes(root, 4).classes, [3; 8]);
    }
}

#[test]
fn labels_that_do_not_fit_are_refused_with_file_and_remedy() {
    let place = tempfile::tempdir().unwrap();
    two_classes(place.path());
    let says = |options: &DatasetOptions, words: &[&str]| {
        let message = refusal(place.path(), options);
        words.iter().for_each(|word| assert!(message.contains(word), "'{word}' is not in '{message}'"));
    };
    says(&with_classes(1), &["go up to class 1", "--c-dim"]);
    let json = place.path().join("dataset.json");
    for (text, words) in [
        (r#"{"labels": [["cats/picture000.png", 0]]}"#, ["7 of 8 pictures are not in it", "cats/picture001.png"]),
        (r#"{"labels": [["cats/picture000.png", [0.5, 0.5]]]}"#, ["dataset.json", "whole numbers"]),
        (r#"{"labels": [["cats/picture000.png", -1]]}"#, ["dataset.json", "whole numbers"]),
        (r#"{"labels": "#, ["dataset.json", "the form is"]),
    ] {
        fs::write(&json, text).unwrap();
        says(&with_classes(2), &words);
    }
    fs::remove_file(&json).unwrap();
    fs::copy(place.path().join("cats/picture000.png"), place.path().join("loose.png")).unwrap();
    says(&with_classes(2), &["1 of 9 pictures", "a folder of their own", "dataset.json"]);
}

#[test]
fn a_subset_is_the_same_for_the_same_seed_and_keeps_labels_with_their_pictures() {
    let place = tempfile::tempdir().unwrap();
    two_classes(place.path());
    let of = |seed| {
        let options = DatasetOptions { subset: Some(Subset { count: 4, seed }), ..with_classes(2) };
        let (dataset, report) = Dataset::open(place.path(), &options).unwrap();
        let places: Vec<PathBuf> = (0..dataset.len()).map(|index| dataset.place(index)).collect();
        let folder_is_class = places
            .iter()
            .zip(&dataset.labels().unwrap().classes)
            .all(|(path, &class)| path.parent().unwrap().file_name().unwrap() == ["cats", "dogs"][class as usize]);
        assert!(folder_is_class);
        assert!(report.summary().contains(&"  a subset of 8".to_owned()), "{:?}", report.summary());
        places
    };
    assert_eq!(of(1).len(), 4);
    assert_eq!(of(1), of(1));
    assert!((2..10).any(|seed| of(seed) != of(1)));
    let all = DatasetOptions { subset: Some(Subset { count: 9, seed: 0 }), ..OPTIONS };
    assert!(refusal(place.path(), &all).contains("pass a --subset of 1 to 8"));
}

#[test]
fn the_content_of_pictures_is_known_wherever_they_lie() {
    let place = tempfile::tempdir().unwrap();
    let (folder, archive) = (place.path().join("a"), place.path().join("a.zip"));
    picture_folder(&folder, 4, 12);
    pack(&folder, &archive, CompressionMethod::Deflated);
    let content = |root: &Path| Pictures::open(root).unwrap().content_sha256(&StopRequest::default()).unwrap();
    let before = content(&folder);
    assert_eq!(content(&archive), before);
    fs::rename(&folder, place.path().join("b")).unwrap();
    assert_eq!(content(&place.path().join("b")), before);
    fs::copy(place.path().join("b/picture001.png"), place.path().join("b/picture002.png")).unwrap();
    assert_ne!(content(&place.path().join("b")), before);
}

#[test]
fn a_picture_of_another_size_than_the_others_is_named() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 3, 12);
    assert_eq!(Pictures::open(place.path()).unwrap().common_side().unwrap(), 12);
    image::RgbImage::new(12, 10).save(place.path().join("aslant.png")).unwrap();
    let message = Pictures::open(place.path()).unwrap().common_side().unwrap_err().to_string();
    assert!(
        message.contains("aslant.png") && message.contains("12x10") && message.contains("--resolution"),
        "{message}"
    );
}
