//! `rootgan dump`: what is in the files, that an interrupted dump goes on, that another request does not.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use assert_cmd::assert::Assert;
use common::{Z_AS_COLOUR, pair16, python, rootgan, text, z_only_generator};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use rootgan::latent::seeds::NormalStream;

const SIDE: usize = 16;
const PICTURE: usize = SIDE * SIDE * 3;

fn dump(generator: &Path, out: &Path, options: &[&str]) -> Assert {
    let mut command = rootgan();
    command.args(["dump", "--device", "cpu", "--generator", text(generator), "--out", text(out)]);
    command.args(options).assert()
}

fn dump16(out: &Path, options: &[&str]) -> Assert {
    dump(&pair16().0, out, options)
}

/// Shape and bytes of `arr_0`.
fn read_npz(path: &Path) -> (Vec<u64>, Vec<u8>) {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let array = npyz::NpyFile::new(zip.by_name("arr_0.npy").unwrap()).unwrap();
    (array.shape().to_vec(), array.into_vec().unwrap())
}

/// The pictures `000000.png` and on, as RGB, one behind the other.
fn read_folder(folder: &Path, count: usize) -> Vec<u8> {
    let picture = |index| {
        let path = folder.join(format!("{index:06}.png"));
        image::open(&path).unwrap_or_else(|error| panic!("'{}': {error}", path.display())).to_rgb8().into_raw()
    };
    (0..count).flat_map(picture).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn png_files_and_the_npz_hold_the_same_pictures() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("pictures"), place.path().join("made/here.npz"));
    let options = ["--count", "11", "--seed", "5", "--batch", "4"];
    dump16(&folder, &options).success().stdout(contains("11 pictures"));
    dump16(&file, &options).success().stdout(contains("here.npz"));
    let (shape, pixels) = read_npz(&file);
    assert_eq!(shape, [11, SIDE as u64, SIDE as u64, 3]);
    assert_eq!(pixels, read_folder(&folder, 11));
    assert_eq!(names(&folder).len(), 12, "11 pictures and dump.json: {:?}", names(&folder));
    assert_eq!(names(file.parent().unwrap()), ["here.npz", "here.npz.json"]);
    let pictures: Vec<&[u8]> = pixels.chunks(PICTURE).collect();
    assert!((1..11).all(|index| pictures[index] != pictures[index - 1]), "every picture is another");
}

#[test]
fn numpy_reads_the_npz() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a.npz");
    dump16(&file, &["--count", "3", "--batch", "3"]).success();
    let code = "import sys, numpy; a = numpy.load(sys.argv[1])['arr_0']; print(a.dtype, a.shape, a.sum(dtype=int))";
    let sum: u64 = read_npz(&file).1.into_iter().map(u64::from).sum();
    assert_eq!(python(&["-c", code, text(&file)]).trim(), format!("uint8 (3, 16, 16, 3) {sum}"));
}

#[test]
fn another_batch_changes_no_pixel_by_more_than_one_level() {
    let place = tempfile::tempdir().unwrap();
    let read = |batch: &str| {
        let file = place.path().join(format!("{batch}.npz"));
        dump16(&file, &["--count", "17", "--batch", batch]).success();
        read_npz(&file).1
    };
    let (three, eight) = (read("3"), read("8"));
    assert_eq!(three.len(), 17 * PICTURE);
    let furthest = three.iter().zip(&eight).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(furthest <= 1, "{furthest} levels");
}

#[test]
fn deleted_pictures_come_back_the_same() {
    let place = tempfile::tempdir().unwrap();
    let options = ["--count", "10", "--batch", "4"];
    dump16(place.path(), &options).success();
    let (before, whole) = (names(place.path()), read_folder(place.path(), 10));
    let kept = std::fs::metadata(place.path().join("000002.png")).unwrap().modified().unwrap();
    for index in [1, 8, 9] {
        std::fs::remove_file(place.path().join(format!("{index:06}.png"))).unwrap();
    }
    // What a dump that was killed while writing left behind when pictures were renamed into place.
    std::fs::write(place.path().join(".000009.png.abcdef.png"), "half").unwrap();
    dump16(place.path(), &options).success().stderr(contains("7 of 10 pictures are there"));
    assert_eq!(names(place.path()), before);
    assert!(read_folder(place.path(), 10) == whole, "the same pixels");
    assert_eq!(std::fs::metadata(place.path().join("000002.png")).unwrap().modified().unwrap(), kept);
}

/// What a kill or a power cut leaves of pictures that are written in place.
#[test]
fn empty_and_cut_pictures_are_made_again_and_the_others_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let options = ["--count", "10", "--batch", "4"];
    dump16(place.path(), &options).success();
    let (before, whole) = (names(place.path()), read_folder(place.path(), 10));
    let path = |index: usize| place.path().join(format!("{index:06}.png"));
    let cut = std::fs::read(path(1)).unwrap();
    std::fs::write(path(1), &cut[..cut.len() / 2]).unwrap();
    std::fs::write(path(2), "").unwrap();
    let file = |index| std::fs::metadata(path(index)).map(|file| (file.ino(), file.modified().unwrap())).unwrap();
    let files: Vec<_> = (0..10).map(file).collect();
    let said = contains("2 pictures are empty or cut short").and(contains("8 of 10 pictures are there"));
    dump16(place.path(), &options).success().stderr(said);
    assert_eq!(names(place.path()), before);
    assert!(read_folder(place.path(), 10) == whole, "the same pixels");
    let touched: Vec<usize> = (0..10).filter(|&index| file(index) != files[index]).collect();
    assert_eq!(touched, [1, 2]);
    // Even if nothing is whole, the folder stays that of its first request.
    (0..10).for_each(|index| std::fs::write(path(index), "").unwrap());
    dump16(place.path(), &["--count", "10", "--seed", "3"]).code(1).stderr(contains("asks for seed 3"));
}

#[test]
fn a_cut_off_npz_goes_on_to_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let options = ["--count", "10", "--batch", "4"];
    let (whole, cut) = (place.path().join("whole.npz"), place.path().join("cut.npz"));
    dump16(&whole, &options).success();
    // As if killed in the sixth picture: in the middle of a batch and of a row.
    let rows = read_npz(&whole).1[..5 * PICTURE + 100].to_vec();
    std::fs::write(place.path().join("cut.npz.partial"), rows).unwrap();
    std::fs::copy(place.path().join("whole.npz.json"), place.path().join("cut.npz.json")).unwrap();
    dump16(&cut, &options).success().stderr(contains("5 of 10 pictures are there"));
    assert!(std::fs::read(&cut).unwrap() == std::fs::read(&whole).unwrap(), "the same bytes");
    assert_eq!(names(place.path()), ["cut.npz", "cut.npz.json", "whole.npz", "whole.npz.json"]);
}

#[test]
fn a_finished_dump_says_so_and_a_longer_one_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("a"), place.path().join("a.npz"));
    for out in [&folder, &file] {
        dump16(out, &["--count", "4"]).success();
        dump16(out, &["--count", "4"]).success().stderr(contains("all 4 pictures are there already"));
    }
    dump16(&folder, &["--count", "6"]).success().stderr(contains("4 of 6"));
    assert_eq!(read_folder(&folder, 6).len(), 6 * PICTURE);
    dump16(&folder, &["--count", "5"]).code(1).stderr(contains("holds count 6").and(contains("asks for count 5")));
    dump16(&file, &["--count", "6"]).code(1).stderr(contains("count 4").and(contains("asks for count 6")));
}

/// As it may be shared in a folder that cannot be written, where no lock can be had.
#[test]
fn a_finished_dump_is_found_finished_without_a_lock() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("a"), place.path().join("a.npz"));
    for (out, locked) in [(&folder, folder.join("dump.json")), (&file, file.clone())] {
        dump16(out, &["--count", "4"]).success();
        let _lock = rootgan::files::lock::Lock::on(&locked).unwrap();
        dump16(out, &["--count", "4"]).success().stderr(contains("all 4 pictures are there already"));
        dump16(out, &["--count", "6"]).code(1);
        dump16(out, &["--count", "4", "--seed", "1"]).code(1);
    }
    let _lock = rootgan::files::lock::Lock::on(&folder.join("dump.json")).unwrap();
    std::fs::remove_file(folder.join("000001.png")).unwrap();
    dump16(&folder, &["--count", "4"]).code(1).stderr(contains("another process is writing it"));
}

#[test]
fn another_request_is_refused_with_the_field_that_differs() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("a"), place.path().join("a.npz"));
    for out in [&folder, &file] {
        dump16(out, &["--count", "2", "--psi", "0.7"]).success();
        let refused = |options: &[&str], found: &str, asked: &str| {
            let all = [&["--count", "2"][..], options].concat();
            let one_line = predicates::function::function(|text: &str| text.lines().count() == 1);
            dump16(out, &all).code(1).stderr(contains(found).and(contains(asked)).and(one_line));
        };
        refused(&["--psi", "0.7", "--seed", "1"], "says seed 0", "asks for seed 1");
        refused(&["--psi", "0.5"], "says psi 0.7", "asks for psi 0.5");
        refused(&["--psi", "0.7", "--noise-mode", "none"], "noise_mode \"random\"", "noise_mode \"none\"");
        dump16(out, &["--count", "2", "--trunc", "0.7"]).success();
    }
}

#[test]
fn a_folder_of_unknown_pictures_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("000000.png"), "x").unwrap();
    dump16(place.path(), &["--count", "2"]).code(1).stderr(contains("dump.json"));
    assert_eq!(names(place.path()), ["000000.png"]);
}

#[test]
fn pictures_do_not_mix_with_the_files_of_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("reals");
    common::picture_folder(&folder, 5, 16);
    let before = names(&folder);
    let refused = |words: &str| {
        let one_line = predicates::function::function(|text: &str| text.lines().count() == 1);
        dump16(&folder, &["--count", "2"]).code(1).stderr(contains(words).and(one_line));
    };
    refused("('picture000.png', 'picture001.png', 'picture002.png', ..., 5 in all); pass a new or an empty folder");
    assert_eq!(names(&folder), before);
    // What file managers leave is nobody's picture.
    let folder = place.path().join("out");
    std::fs::create_dir(&folder).unwrap();
    [".DS_Store", "Thumbs.db"].iter().for_each(|name| std::fs::write(folder.join(name), "x").unwrap());
    dump16(&folder, &["--count", "2"]).success();
    // Nor does a dump go on beside somebody's picture.
    std::fs::copy(folder.join("000000.png"), folder.join("seed0000.png")).unwrap();
    dump16(&folder, &["--count", "3"]).code(1).stderr(contains("('seed0000.png', 1 in all)"));
    assert!(!folder.join("000002.png").exists());
}

#[test]
fn a_file_that_has_the_name_of_a_record_by_chance_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (folder, file) = (place.path().join("a"), place.path().join("a.npz"));
    std::fs::create_dir(&folder).unwrap();
    for (record, out) in [(folder.join("dump.json"), &folder), (place.path().join("a.npz.json"), &file)] {
        std::fs::write(&record, r#"{"table": "users"}"#).unwrap();
        dump16(out, &["--count", "2"]).code(1).stderr(contains("no record of such a job"));
        assert_eq!(std::fs::read_to_string(&record).unwrap(), r#"{"table": "users"}"#);
    }
    assert_eq!(names(place.path()), ["a", "a.npz.json"]);
    assert_eq!(names(&folder), ["dump.json"]);
}

#[test]
fn a_generator_with_labels_wants_a_class() {
    let place = tempfile::tempdir().unwrap();
    let sizes = "--resolution 16 --z-dim 8 --w-dim 8 --mapping-layers 1 --channel-base 64 --channel-max 8 --c-dim 3";
    let mut make = vec!["python/rootgan", "new", "--outdir", text(place.path())];
    make.extend(sizes.split(' '));
    python(&make);
    let generator = place.path().join("generator.pt");
    let out = |name: &str| place.path().join(name);
    dump(&generator, &out("none"), &["--count", "2"]).code(1).stderr(contains("--class 0 to 2"));
    dump(&generator, &out("three"), &["--count", "2", "--class", "3"]).code(1).stderr(contains("class 3"));
    assert!(!out("none").exists() && !out("three").exists(), "nothing is made by a call that is refused");
    dump(&generator, &out("a"), &["--count", "2", "--class", "0"]).success();
    dump(&generator, &out("b"), &["--count", "2", "--class", "2"]).success();
    assert_ne!(read_folder(&out("a"), 2), read_folder(&out("b"), 2));
}

/// The latents are NumPy's, the conversion is the one of metric code: pictures whose colours are z.
#[test]
fn a_generator_of_z_alone_is_dumped_with_the_conversion_of_metric_code() {
    let place = tempfile::tempdir().unwrap();
    let generator = z_only_generator(place.path(), Z_AS_COLOUR);
    let out = place.path().join("out");
    dump(&generator, &out, &["--count", "5", "--psi", "0.5"]).code(1).stderr(contains("only takes z"));
    dump(&generator, &out, &["--count", "5", "--noise-mode", "none"]).code(1).stderr(contains("only takes z"));
    let done = dump(&generator, &out, &["--count", "5", "--seed", "7", "--z-dim", "8", "--batch", "2"]);
    done.success().stderr(contains("draws no random numbers"));
    for (index, picture) in (0..).zip(read_folder(&out, 5).chunks(PICTURE)) {
        let mut stream = NormalStream::from_key(&[7, index]);
        let colour = [0; 3].map(|_: i32| (stream.next_normal() * 127.5 + 128.0).clamp(0.0, 255.0) as u8);
        assert!(picture.chunks(3).all(|pixel| pixel == colour), "{index}: {:?}, not {colour:?}", &picture[..3]);
    }
}
