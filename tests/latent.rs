//! What is done with latents: `mix`, `project`, `directions`, `blend`, and `generate` from ws and along directions.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use assert_cmd::assert::Assert;
use common::{Z_AS_COLOUR, configure_torch, pair16, rootgan, text, z_only_generator};
use image::RgbImage;
use predicates::str::contains;
use rootgan::draw::grid::COMMAND_KEYWORD;
use rootgan::draw::pixels::png_text;
use rootgan::latent::blend::{Swap, blend};
use rootgan::latent::directions::Directions;
use rootgan::latent::picture_distance::PictureDistance;
use rootgan::latent::projection::{ProjectionSettings, Space, project};
use rootgan::latent::seeds::latents_of_seeds;
use rootgan::latent::ws_file;
use rootgan::model::{Generator, NoiseMode, Truncation};
use rootgan::tensor::no_grad;
use tch::{Device, Tensor};

const SIDE: u32 = 16;
/// Rows of ws of a 16x16 generator, and the width of w of the smallest pair.
const NUM_WS: i64 = 6;
const W_DIM: i64 = 32;

/// A command with the smallest generator.
fn run16(command: &str, options: &[&str]) -> Assert {
    let mut program = rootgan();
    program.args([command, "--device", "cpu", "--generator", text(&pair16().0)]).args(options).assert()
}

fn read(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|error| panic!("'{}': {error}", path.display())).to_rgb8()
}

/// A cell of a grid, by its column and row.
fn cell(sheet: &RgbImage, column: u32, row: u32) -> RgbImage {
    image::imageops::crop_imm(sheet, column * SIDE, row * SIDE, SIDE, SIDE).to_image()
}

fn furthest(a: &RgbImage, b: &RgbImage) -> u8 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

/// The picture of a seed, with more options.
fn picture_of_seed(folder: &Path, seed: u32, options: &[&str]) -> RgbImage {
    let outdir = folder.join(format!("seed{seed}-{}", options.len()));
    let seeds = seed.to_string();
    run16("generate", &[&["--seeds", &seeds, "--outdir", text(&outdir)], options].concat()).success();
    read(&outdir.join(format!("seed{seed:04}.png")))
}

fn generator16() -> Generator {
    configure_torch();
    Generator::load(&pair16().0, Device::Cpu, None).unwrap()
}

fn ws_of_seeds(generator: &Generator, seeds: &[u32]) -> Tensor {
    let z = latents_of_seeds(seeds, generator.z_dim(), Device::Cpu);
    no_grad(|| generator.mapping(&z, None, Truncation::OFF, false)).unwrap()
}

#[test]
fn mixtures_stand_beside_the_pictures_that_are_mixed() {
    let place = tempfile::tempdir().unwrap();
    let grid = place.path().join("sheets/mix.png");
    let seeds = ["--rows", "1,2", "--columns", "3-5", "--grid", text(&grid)];
    run16("mix", &[&seeds[..], &["--layers", "0-1"]].concat()).success().stdout(contains("grid:"));
    let sheet = read(&grid);
    assert_eq!(sheet.dimensions(), (4 * SIDE, 3 * SIDE));
    assert!(cell(&sheet, 0, 0).as_raw().iter().all(|&value| value == 0), "the corner is black");
    // Another batch can change the last bit of a picture.
    assert!(furthest(&cell(&sheet, 0, 2), &picture_of_seed(place.path(), 2, &[])) <= 1);
    assert!(furthest(&cell(&sheet, 3, 0), &picture_of_seed(place.path(), 5, &[])) <= 1);
    let mixture = cell(&sheet, 3, 2);
    assert!(furthest(&mixture, &cell(&sheet, 0, 2)) > 1 && furthest(&mixture, &cell(&sheet, 3, 0)) > 1);

    run16("mix", &[&seeds[..], &["--layers", "all"]].concat()).success();
    let sheet = read(&grid);
    assert!(furthest(&cell(&sheet, 2, 1), &cell(&sheet, 2, 0)) <= 1, "all layers are the column's");

    // Saved ws stand where their seeds would.
    let file = place.path().join("rows.npz");
    ws_file::write(&file, &ws_of_seeds(&generator16(), &[1, 2])).unwrap();
    run16("mix", &["--rows", text(&file), "--columns", "3-5", "--layers", "all", "--grid", text(&grid)]).success();
    assert!(furthest(&read(&grid), &sheet) <= 1);
    let nowhere = ["--rows", "nowhere.npz", "--columns", "3", "--grid", text(&grid)];
    run16("mix", &nowhere).code(1).stderr(contains("nowhere.npz"));
}

#[test]
fn layers_and_grids_that_cannot_be_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let grid = place.path().join("mix.png");
    let with = |more: &[&'static str]| [&["--rows", "1", "--columns", "2", "--grid", text(&grid)], more].concat();
    run16("mix", &with(&["--layers", "fine"])).code(1).stderr(contains("layers 0 to 5"));
    run16("mix", &with(&["--layers", "rough"])).code(1).stderr(contains("coarse, middle, fine"));
    run16("mix", &["--rows", "0-999", "--columns", "0-99", "--grid", text(&grid)]).code(1).stderr(contains("10000"));
    assert!(!grid.exists());
    std::fs::write(&grid, b"mine").unwrap();
    run16("mix", &with(&[])).code(1).stderr(contains("no earlier grid"));
    let flat = z_only_generator(place.path(), Z_AS_COLOUR);
    let options = with(&[]);
    let options: Vec<&str> =
        options.iter().map(|&option| if option == text(&grid) { "other.png" } else { option }).collect();
    let mut command = rootgan();
    command.current_dir(place.path()).args(["mix", "--device", "cpu", "--generator", text(&flat)]).args(options);
    command.assert().code(1).stderr(contains("only takes z"));
}

#[test]
fn saved_ws_make_the_pictures_of_their_seeds() {
    let place = tempfile::tempdir().unwrap();
    let (file, outdir) = (place.path().join("w.npz"), place.path().join("out"));
    let generator = generator16();
    ws_file::write(&file, &ws_of_seeds(&generator, &[7, 8])).unwrap();
    let options = ["--ws", text(&file), "--outdir", text(&outdir)];
    run16("generate", &options).success().stdout(contains("2 pictures"));
    for (name, seed) in [("ws0000.png", 7), ("ws0001.png", 8)] {
        let found = furthest(&read(&outdir.join(name)), &picture_of_seed(place.path(), seed, &[]));
        assert!(found <= 1, "{name}: {found}");
    }
    // NumPy finds what NVIDIA's tools look for.
    let code = "import sys, numpy; w = numpy.load(sys.argv[1])['w']; print(w.shape, w.dtype)";
    assert_eq!(common::python(&["-c", code, text(&file)]).trim(), "(2, 6, 32) float32");
}

#[test]
fn ws_of_numpy_are_read_compressed_and_in_any_number() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("w.npz");
    let code =
        "import sys, numpy; w = numpy.full([3, 6, 32], 0.5, numpy.float32); numpy.savez_compressed(sys.argv[1], w=w)";
    common::python(&["-c", code, text(&file)]);
    let ws = ws_file::read(&file, NUM_WS, W_DIM).unwrap();
    assert!(ws.size() == [3, 6, 32] && ws.eq(0.5).all().int64_value(&[]) == 1);
    let code = "import sys, numpy; numpy.savez(sys.argv[1], w=numpy.zeros([1, 6, 32]))";
    common::python(&["-c", code, text(&file)]);
    let outdir = place.path().join("out");
    let options = ["--ws", text(&file), "--outdir", text(&outdir)];
    run16("generate", &options).code(1).stderr(contains("float32"));
    run16("generate", &[&options[..], &["--seeds", "1"]].concat()).code(1).stderr(contains("cannot be used with"));
    run16("generate", &[&options[..], &["--psi", "0.5"]].concat()).code(1).stderr(contains("cannot be used with"));
    run16("generate", &["--outdir", text(&outdir)]).code(1).stderr(contains("--seeds"));
    assert!(!outdir.exists());
}

#[test]
fn directions_are_saved_drawn_and_walked_along() {
    let place = tempfile::tempdir().unwrap();
    for (method, layers) in [("sefa", "0-3"), ("pca", "all")] {
        let (file, grid) =
            (place.path().join(format!("{method}.safetensors")), place.path().join(format!("{method}.png")));
        let options = ["--method", method, "--layers", layers, "--count", "4", "--samples", "500", "--grid-seed", "9"];
        let places = ["--out", text(&file), "--grid", text(&grid)];
        run16("directions", &[&options[..], &places].concat()).success().stdout(contains("4 directions"));
        let found = Directions::load(&file, W_DIM).unwrap();
        assert_eq!(found.directions.size(), [4, W_DIM]);
        assert_eq!((found.metadata["method"].as_str(), found.metadata["layers"].as_str()), (method, layers));
        assert_eq!((found.metadata["seed"].as_str(), found.metadata["generator_sha256"].len()), ("0", 64));
        let products = found.directions.matmul(&found.directions.tr());
        let off = (products - Tensor::eye(4, (tch::Kind::Float, Device::Cpu))).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{method}: unit vectors at right angles, {off}");

        let sheet = read(&grid);
        assert_eq!(sheet.dimensions(), (7 * SIDE, 4 * SIDE));
        let plain = picture_of_seed(place.path(), 9, &[]);
        assert!(furthest(&cell(&sheet, 3, 2), &plain) <= 1, "{method}: in the middle is the seed's own picture");
        let step = format!("{}:1:3:{layers}", file.display());
        let moved = picture_of_seed(place.path(), 9, &["--direction", &step]);
        assert!(furthest(&moved, &plain) > 1 && furthest(&cell(&sheet, 6, 1), &moved) <= 1, "{method}");
        let back = format!("{}:1:-3:{layers}", file.display());
        let returned = picture_of_seed(place.path(), 9, &["--direction", &step, "--direction", &back]);
        assert!(furthest(&returned, &plain) <= 1, "{method}: two steps add up");
        let command = png_text(&grid, COMMAND_KEYWORD).unwrap();
        assert!(command.starts_with("rootgan directions ") && command.contains(method), "{command}");
        // The same call writes the same numbers, and never over those that are there.
        run16("directions", &[&options[..], &places].concat()).code(1).stderr(contains("is there already"));
        std::fs::remove_file(&file).unwrap();
        run16("directions", &[&options[..], &places].concat()).success();
        assert!(Directions::load(&file, W_DIM).unwrap().directions.equal(&found.directions));
    }
}

#[test]
fn directions_that_cannot_be_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("d.safetensors");
    let with = |more: &[&'static str]| [&["--method", "pca", "--samples", "100", "--out", text(&out)], more].concat();
    run16("directions", &with(&["--count", "33"])).code(1).stderr(contains("1 to 32"));
    run16("directions", &with(&["--count", "0"])).code(1).stderr(contains("--count 1"));
    run16("directions", &with(&["--samples", "1"])).code(1).stderr(contains("--samples 2"));
    // Only RGB is made of the last row of ws.
    run16("directions", &with(&["--method", "sefa", "--layers", "5"])).code(1).stderr(contains("--method pca"));
    run16("directions", &["--method", "pca", "--out", "d.npz"]).code(1).stderr(contains(".safetensors"));
    assert!(!out.exists());
    run16("directions", &with(&["--count", "2"])).success();
    let outdir = place.path().join("out");
    let step = format!("{}:2:1", out.display());
    let options = ["--seeds", "1", "--outdir", text(&outdir), "--direction", &step];
    run16("generate", &options).code(1).stderr(contains("directions 0 to 1"));
    let nowhere = ["--seeds", "1", "--outdir", text(&outdir), "--direction", "nowhere:0:1"];
    run16("generate", &nowhere).code(1).stderr(contains("cannot find the directions 'nowhere'"));
    std::fs::write(&out, b"weights of another program").unwrap();
    run16("directions", &with(&[])).code(1).stderr(contains("is there already"));
}

#[test]
fn a_generated_picture_is_found_again() {
    let mut generator = generator16();
    generator.script.freeze(|_| true);
    let target = no_grad(|| generator.synthesis(&ws_of_seeds(&generator, &[5]), NoiseMode::Const, None)).unwrap();
    let distance = PictureDistance::from_target(&target, None).unwrap();
    for space in [Space::W, Space::WPlus] {
        let settings = ProjectionSettings { space, steps: 150, ..ProjectionSettings::default() };
        let mut told = 0;
        let count = |steps, _| {
            told = steps;
            Ok(())
        };
        let found = project(&generator, &distance, &settings, count).unwrap();
        assert!(found.distance < found.first_distance / 2.0, "{} of {}", found.distance, found.first_distance);
        assert_eq!((told, found.skipped_steps, found.ws.size()), (150, 0, vec![1, NUM_WS, W_DIM]));
        let rows_differ = found.ws.select(1, 0).not_equal_tensor(&found.ws.select(1, 1));
        assert_eq!(rows_differ.any().int64_value(&[]) == 1, space == Space::WPlus);
    }
}

#[test]
fn project_writes_what_generate_reads() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target.png");
    picture_of_seed(place.path(), 5, &[]).save(&target).unwrap();
    let out = place.path().join("out");
    let project_to = |out: &Path, steps: &str| {
        let options = ["--target", text(&target), "--out", text(out), "--steps", steps, "--seed", "3"];
        run16("project", &options)
    };
    let project = |steps: &str| project_to(&out, steps);
    project("20").success().stdout(contains("distance: ")).stdout(contains("pixels"));
    assert_eq!(read(&out.join("target.png")), read(&target));
    assert_eq!(read(&out.join("projected.png")).dimensions(), (SIDE, SIDE));
    project("20").code(1).stderr(contains("is there already"));
    let other = place.path().join("other");
    project_to(&other, "20").success();
    let ws_in = |folder: &Path| ws_file::read(&folder.join("projected_w.npz"), NUM_WS, W_DIM).unwrap();
    assert!(ws_in(&out).equal(&ws_in(&other)), "the same seed gives the same numbers");
    let pictures = place.path().join("pictures");
    let ws = out.join("projected_w.npz");
    run16("generate", &["--ws", text(&ws), "--outdir", text(&pictures)]).success();

    project("0").code(1).stderr(contains("--steps 1 or more"));
    let mixed = place.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    std::fs::write(mixed.join("mine.txt"), b"").unwrap();
    project_to(&mixed, "1").code(1).stderr(contains("'mine.txt'"));
    let missing = ["--target", "nowhere.png", "--out", text(&pictures)];
    run16("project", &missing).code(1).stderr(contains("cannot find the picture 'nowhere.png'"));
}

/// The smallest generator with all its parameters doubled, in a file.
fn doubled(folder: &Path) -> PathBuf {
    let mut generator = generator16();
    no_grad(|| {
        for parameter in &mut generator.script.parameters {
            parameter.tensor.copy_(&(&parameter.tensor * 2.0));
        }
    });
    let path = folder.join("doubled.pt");
    generator.script.save(&path).unwrap();
    path
}

#[test]
fn a_blend_with_itself_is_the_generator() {
    let (mut blended, own) = (generator16(), generator16());
    for width in [0.0, 0.7] {
        blend(&mut blended, &own, Swap { resolution: 8, width }).unwrap();
        for (found, expected) in blended.script.parameters.iter().zip(&own.script.parameters) {
            assert!(found.tensor.equal(&expected.tensor), "{} at width {width}", found.name);
        }
    }
}

#[test]
fn a_blend_has_the_low_resolutions_of_one_and_the_high_ones_of_the_other() {
    let place = tempfile::tempdir().unwrap();
    let (other, out) = (doubled(place.path()), place.path().join("blend.pt"));
    let own = pair16().0;
    let options = ["--from", text(&own), "--other", text(&other), "--resolution", "8", "--out", text(&out)];
    rootgan().arg("blend").args(options).assert().success().stdout(contains("blended generator"));
    let (found, original) = (Generator::load(&out, Device::Cpu, None).unwrap(), generator16());
    for (found, original) in found.script.parameters.iter().zip(&original.script.parameters) {
        assert_eq!(found.name, original.name);
        let of_other = ["synthesis.b8.", "synthesis.b16."].iter().any(|block| found.name.starts_with(block));
        let expected = if of_other { &original.tensor * 2.0 } else { original.tensor.shallow_clone() };
        assert!(found.tensor.equal(&expected), "{}", found.name);
        assert_eq!(found.trainable, original.trainable, "{}", found.name);
    }
    let record = found.script.provenance();
    assert!(record["source"].as_str().unwrap().starts_with("blended by rootgan"));
    assert_eq!((&record["resolution"], &record["width"]), (&8.into(), &0.0.into()));
    let parent = |name: &str| record["parents"][name]["sha256"].as_str().unwrap().to_owned();
    assert_ne!(parent("generator"), parent("other"));
    assert_eq!(parent("other"), rootgan::files::checksum::sha256(&other).unwrap());
    rootgan().arg("blend").args(options).assert().code(1).stderr(contains("is there already"));
}

#[test]
fn a_blend_that_cannot_be_leaves_no_file() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("blend.pt");
    let (own, grey) = (pair16().0, common::pair16_grey().0);
    let blend = |other: &Path, options: &[&str]| {
        let paths = ["--from", text(&own), "--other", text(other), "--out", text(&out)];
        rootgan().arg("blend").args(paths).args(options).assert().code(1)
    };
    blend(&grey, &["--resolution", "8"]).stderr(contains("img_channels is 1, not 3"));
    blend(&own, &["--resolution", "12"]).stderr(contains("a power of two from 4 to 16"));
    blend(&own, &["--resolution", "32"]).stderr(contains("from 4 to 16"));
    blend(&own, &["--resolution", "8", "--width", "-1"]).stderr(contains("0 or more"));
    blend(Path::new("nowhere.pt"), &["--resolution", "8"]).stderr(contains("nowhere.pt"));
    rootgan().args(["blend", "--other", text(&own), "--resolution", "8", "--out", text(&out)]).assert().code(1);
    assert!(!out.exists());
}
