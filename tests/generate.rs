//! `rootgan generate`: single pictures and grids of seeds, and what is refused.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use assert_cmd::assert::Assert;
use common::{Z_AS_COLOUR, pair16, rootgan, text, z_only_generator};
use image::RgbImage;
use predicates::str::contains;

const SIDE: u32 = 16;

fn generate(generator: &Path, seeds: &str, options: &[&str]) -> Assert {
    let mut command = rootgan();
    command.args(["generate", "--device", "cpu", "--generator", text(generator), "--seeds", seeds]);
    command.args(options).assert()
}

fn generate16(seeds: &str, options: &[&str]) -> Assert {
    generate(&pair16().0, seeds, options)
}

fn read(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("'{}': {error}", path.display())).to_rgb8()
}

fn furthest(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn single_pictures_are_the_cells_of_the_grid() {
    let place = tempfile::tempdir().unwrap();
    let (outdir, grid) = (place.path().join("singles"), place.path().join("sheets/grid.png"));
    let options = ["--outdir", text(&outdir), "--grid", text(&grid), "--columns", "3", "--batch", "2"];
    generate16("0-3,1042", &options).success().stdout(contains("5 pictures"));
    let sheet = read(&grid);
    assert_eq!(sheet.dimensions(), (3 * SIDE, 2 * SIDE));
    for (cell, seed) in (0..).zip(["0000", "0001", "0002", "0003", "1042"]) {
        let single = read(&outdir.join(format!("seed{seed}.png")));
        let (x, y) = (cell % 3 * SIDE, cell / 3 * SIDE);
        let inside = image::imageops::crop_imm(&sheet, x, y, SIDE, SIDE).to_image();
        assert!(inside == single, "seed {seed}");
    }
    let last = image::imageops::crop_imm(&sheet, 2 * SIDE, SIDE, SIDE, SIDE).to_image();
    assert!(last.as_raw().iter().all(|&value| value == 0), "the cell that is left over is black");
    assert_eq!(std::fs::read_dir(&outdir).unwrap().count(), 5);
}

#[test]
fn a_seed_is_the_same_picture_in_any_company_and_noise_mode_random() {
    let place = tempfile::tempdir().unwrap();
    let (alone, among) = (place.path().join("alone"), place.path().join("among"));
    let mode = |outdir| ["--noise-mode", "random", "--batch", "4", "--outdir", text(outdir)];
    generate16("5", &mode(&alone)).success();
    generate16("3-7", &mode(&among)).success();
    assert!(furthest(&read(&alone.join("seed0005.png")), &read(&among.join("seed0005.png"))) <= 1);
}

#[test]
fn psi_zero_makes_every_seed_the_average_picture() {
    let place = tempfile::tempdir().unwrap();
    let outdir = text(place.path());
    generate16("1,2", &["--outdir", outdir, "--psi", "0", "--noise-mode", "none"]).success();
    let (one, two) = (read(&place.path().join("seed0001.png")), read(&place.path().join("seed0002.png")));
    assert!(furthest(&one, &two) <= 1);
    generate16("1,2", &["--outdir", outdir]).success();
    let (one, two) = (read(&place.path().join("seed0001.png")), read(&place.path().join("seed0002.png")));
    assert!(furthest(&one, &two) > 1);
}

/// `numpy.random.RandomState(42).randn(3)` is 0.4967, -0.1383, 0.6477: pictures whose colours are z.
#[test]
fn seed_42_is_the_one_of_numpy() {
    let place = tempfile::tempdir().unwrap();
    let generator = z_only_generator(place.path(), Z_AS_COLOUR);
    let outdir = place.path().join("out");
    generate(&generator, "42", &["--outdir", text(&outdir)]).success();
    // rint((x + 1) * 127.5)
    let picture = read(&outdir.join("seed0042.png"));
    assert!(picture.pixels().all(|pixel| pixel.0 == [191, 110, 210]), "{:?}", picture.get_pixel(0, 0));
}

#[test]
fn pictures_of_seeds_join_their_own_kind_and_nobody_elses() {
    let place = tempfile::tempdir().unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (first_grid, grid) = (place.path().join("first.png"), place.path().join("grid.png"));
    generate16("0,1", &["--outdir", text(place.path()), "--grid", text(&first_grid)]).success();
    let options = ["--outdir", text(place.path()), "--grid", text(&grid)];
    let first = std::fs::read(place.path().join("seed0001.png")).unwrap();
    generate16("1,12345", &[&options[..], &["--psi", "0.5"]].concat()).success();
    assert_eq!(names(), ["first.png", "grid.png", "seed0000.png", "seed0001.png", "seed12345.png"]);
    assert_ne!(std::fs::read(place.path().join("seed0001.png")).unwrap(), first, "it is made again");
    for foreign in ["photo.png", "seed7.png", "000000.png"] {
        std::fs::copy(place.path().join("seed0000.png"), place.path().join(foreign)).unwrap();
        let before = names();
        let refused = generate16("2", &options).code(1);
        refused.stderr(contains(format!("('{foreign}', 1 in all); pass a new or an empty folder")));
        assert_eq!(names(), before);
        std::fs::remove_file(place.path().join(foreign)).unwrap();
    }
    generate16("2", &options).success();
}

#[test]
fn a_grid_takes_the_place_of_an_earlier_grid_and_of_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let (grid, photo) = (place.path().join("grid.png"), place.path().join("photo.png"));
    generate16("0-3", &["--grid", text(&grid)]).success();
    generate16("4-12", &["--grid", text(&grid)]).success();
    assert_eq!(read(&grid).dimensions(), (3 * SIDE, 3 * SIDE));
    read(&grid).save(&photo).unwrap();
    let before = std::fs::read(&photo).unwrap();
    generate16("0", &["--grid", text(&photo)]).code(1).stderr(contains("photo.png': something of that name is there"));
    assert_eq!(std::fs::read(&photo).unwrap(), before);
    // Other programs read what a grid says of itself, and find no fault with it.
    let code = "import sys; from PIL import Image; i = Image.open(sys.argv[1]); i.load(); print(i.text['Software'])";
    assert_eq!(common::python(&["-c", code, text(&grid)]).trim(), "rootgan");
}

#[test]
fn no_images_leaves_only_the_grid() {
    let place = tempfile::tempdir().unwrap();
    let (outdir, grid) = (place.path().join("singles"), place.path().join("grid.png"));
    generate16("0-4", &["--outdir", text(&outdir), "--grid", text(&grid), "--no-images"]).success();
    assert!(!outdir.exists());
    assert_eq!(read(&grid).dimensions(), (3 * SIDE, 2 * SIDE));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let outdir = ["--outdir", text(place.path())];
    let with = |more: &[&'static str]| [&outdir[..], more].concat();
    generate16("1,x", &outdir).code(1).stderr(contains("'x' is neither a number"));
    generate16("9-3", &outdir).code(1).stderr(contains("write 3-9"));
    generate16("1", &[]).code(1).stderr(contains("--outdir DIR"));
    generate16("1", &with(&["--no-images"])).code(1).stderr(contains("nothing to write"));
    generate16("1", &with(&["--class", "2"])).code(1).stderr(contains("without labels"));
    generate16("1", &with(&["--columns", "0"])).code(1).stderr(contains("--columns 1 or more"));
    generate16("1", &with(&["--batch", "0"])).code(1).stderr(contains("--batch 1 or more"));
    generate16("1", &["--grid", "grid.jpg"]).code(1).stderr(contains("ends in .png"));
    generate(Path::new("nowhere.pt"), "1", &outdir).code(1).stderr(contains("'nowhere.pt': no such file"));
    let missing = rootgan().args(["generate", "--seeds", "1", "--outdir", text(place.path())]).assert();
    missing.code(1).stderr(contains("--generator"));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
