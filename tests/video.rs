//! Films: their length and size, the same bytes for the same seeds, grids of walks, and a run's grids.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::fs;
use std::path::{Path, PathBuf};

use image::{AnimationDecoder, Frame, RgbaImage};
use predicates::str::contains;

/// `rootgan video` of the small pair.
fn video(out: &Path) -> assert_cmd::Command {
    let mut command = common::rootgan();
    command.args(["video", "--device", "cpu", "--generator"]).arg(common::pair16().0).arg("--out").arg(out);
    command
}

fn frames(gif: &Path) -> Vec<Frame> {
    let file = std::io::BufReader::new(fs::File::open(gif).unwrap());
    image::codecs::gif::GifDecoder::new(file).unwrap().into_frames().collect_frames().unwrap()
}

/// The mean difference of two pictures, 0 to 255.
fn difference(one: &RgbaImage, other: &RgbaImage) -> f64 {
    assert_eq!(one.dimensions(), other.dimensions());
    let all = one.as_raw().iter().zip(other.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
    all as f64 / one.as_raw().len() as f64
}

fn seconds(frames: &[Frame]) -> f64 {
    frames.iter().map(|frame| std::time::Duration::from(frame.delay()).as_secs_f64()).sum()
}

#[test]
fn a_walk_has_the_length_and_size_asked_for_and_the_same_bytes_again() {
    let place = tempfile::tempdir().unwrap();
    let options = ["--seeds", "0-2", "--seconds", "0.8", "--fps", "20", "--scale", "2"];
    for name in ["a.gif", "b.gif", "a.mp4", "b.mp4", "a.webp", "b.webp"] {
        let out = place.path().join(name);
        video(&out).args(options).assert().success().stdout(contains("(16 frames, 0.80 s)"));
    }
    for ending in ["gif", "mp4", "webp"] {
        let read = |name: &str| fs::read(place.path().join(format!("{name}.{ending}"))).unwrap();
        assert!(read("a") == read("b"), "{ending}");
    }
    let frames = frames(&place.path().join("a.gif"));
    assert_eq!((frames.len(), frames[0].buffer().dimensions()), (16, (32, 32)));
    assert!((seconds(&frames) - 0.8).abs() < 1e-6);
    // The walk moves, and a loop comes back.
    let to = |frame: usize| difference(frames[0].buffer(), frames[frame].buffer());
    assert!(to(8) > 1.3 * to(15), "{} {}", to(8), to(15));
}

#[test]
fn walks_lie_side_by_side_each_between_its_own_seeds() {
    let place = tempfile::tempdir().unwrap();
    let walks = place.path().join("walks.gif");
    let options = ["--seconds=0.3", "--fps=10", "--scale=1", "--way=w", "--no-loop"];
    video(&walks).args(options).args(["--seeds", "0-5", "--grid", "3x1"]).assert().success();
    let single = place.path().join("single.gif");
    video(&single).args(options).args(["--seeds", "4,5"]).assert().success();
    let (walks, single) = (frames(&walks), frames(&single));
    assert_eq!((walks.len(), walks[0].buffer().dimensions()), (3, (48, 16)));
    for (walks, single) in walks.iter().zip(&single) {
        let third = image::imageops::crop_imm(walks.buffer(), 32, 0, 16, 16).to_image();
        let other = image::imageops::crop_imm(walks.buffer(), 0, 0, 16, 16).to_image();
        let (same, another) = (difference(&third, single.buffer()), difference(&other, single.buffer()));
        // A frame has 256 colours for all its pictures, so that each is a little off.
        assert!(same < 24.0 && 2.0 * same < another, "{same} {another}");
    }
}

#[test]
fn ws_of_files_are_walked_between_as_well() {
    let place = tempfile::tempdir().unwrap();
    let (num_ws, w_dim) = (6u64, 32u64);
    let values: Vec<f32> = (0..2 * num_ws * w_dim).map(|at| (at % 7) as f32 / 3.0 - 1.0).collect();
    let file = place.path().join("w.npz");
    rootgan::files::npz::write_floats(&file, "w", &[2, num_ws, w_dim], &values).unwrap();
    let out = place.path().join("ws.gif");
    video(&out).args(["--seconds=0.4", "--fps=10", "--ws"]).arg(&file).assert().success();
    assert_eq!((frames(&out).len(), frames(&out)[0].buffer().dimensions()), (4, (256, 256)));
    let refused = video(&place.path().join("z.gif")).args(["--way=z", "--ws"]).arg(&file).assert().code(1);
    refused.stderr(contains("ws are not in z"));
}

#[test]
fn a_runs_grids_become_a_film_that_stays_at_the_last() {
    let place = tempfile::tempdir().unwrap();
    common::picture_folder(&place.path().join("discs"), 4, 16);
    let run: PathBuf = Finetune::new(&common::pair16(), &place.path().join("discs"), &place.path().join("runs"))
        .with(["--kimg=0.048", "--tick-kimg=0.016", "--image-ticks=1", "--snapshot-ticks=0", "--grid=4x2"])
        .run();
    let grids = rootgan::run::folder::grids(&run).unwrap();
    assert!(grids.len() >= 3 && grids[0].ends_with("fakes_init.png"), "{grids:?}");
    let out = place.path().join("run.gif");
    let mut command = common::rootgan();
    command.args(["video", "--fps=4", "--hold=1", "--grid=2x2", "--run"]).arg(&run).arg("--out").arg(&out);
    command.assert().success();
    let frames = frames(&out);
    assert_eq!((frames.len(), frames[0].buffer().dimensions()), (grids.len() - 1 + 4, (32, 32)));
    // The film begins with the start.
    let start = image::open(&grids[0]).unwrap().to_rgba8();
    let start = image::imageops::crop_imm(&start, 0, 0, 32, 32).to_image();
    let off = difference(frames[0].buffer(), &start);
    assert!(off < 16.0, "{off}");
    command.assert().code(1).stderr(contains("something of that name is there"));
    let mut empty = common::rootgan();
    empty.args(["video", "--run"]).arg(place.path()).arg("--out").arg(place.path().join("none.mp4"));
    empty.assert().code(1).stderr(contains("has no grids; pass the folder of a run"));
}

#[test]
fn a_film_that_cannot_be_is_refused_before_anything_is_loaded() {
    let place = tempfile::tempdir().unwrap();
    let refused = |options: &[&str], name: &str, words: &str| {
        video(&place.path().join(name)).args(options).assert().code(1).stderr(contains(words));
    };
    refused(&["--seeds=0-1"], "film.avi", "pass a name that ends in .mp4, .gif or .webp");
    refused(&["--seeds=0-1", "--seconds=0"], "a.mp4", "pass other --seconds or --fps");
    refused(&["--seeds=0"], "a.mp4", "cannot share 1 latents among 1 walk(s)");
    refused(&["--seeds=0-4", "--grid=2x1"], "a.mp4", "pass a multiple of 2");
    refused(&["--seeds=0-1", "--noise-mode=random"], "a.mp4", "pass --noise-mode const or none");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was written");
}
