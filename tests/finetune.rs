//! A finetune run from end to end on a 16x16 pair: what it writes is checked for its content.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rootgan::files::checksum::sha256;
use rootgan::model::{Generator, NoiseMode, Truncation};
use rootgan::run::snapshot::{Network, SnapshotManifest, find};
use rootgan::tensor::images::{ToBytes, bytes, to_u8};
use rootgan::tensor::no_grad;
use serde_json::Value;
use tch::{Device, Tensor};

const SIDE: u32 = 16;
const BATCH: u64 = 8;

/// Runs `finetune` on `data` with the 16x16 pair; returns the run's folder.
fn finetune(data: &Path, outdir: &Path, flags: &[&str]) -> PathBuf {
    Finetune::new(&common::pair16(), data, outdir).with(["--grid", "4x3"]).with(flags).run()
}

fn stats(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("stats.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn field(line: &Value, name: &str, part: &str) -> f64 {
    line[name][part].as_f64().unwrap_or_else(|| panic!("no number {name} {part}"))
}

fn cells(path: &Path, columns: u32, rows: u32) -> Vec<Vec<u8>> {
    let sheet = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_rgb8();
    assert_eq!((sheet.width(), sheet.height()), (columns * SIDE, rows * SIDE), "{}", path.display());
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (column * SIDE, row * SIDE)));
    places.map(|(x, y)| image::imageops::crop_imm(&sheet, x, y, SIDE, SIDE).to_image().into_raw()).collect()
}

fn weights(path: &Path) -> Vec<(String, Tensor)> {
    let generator = Generator::load(path, Device::Cpu, None).unwrap();
    generator.script.parameters.iter().map(|p| (p.name.clone(), p.tensor.detach().copy())).collect()
}

fn differing(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> BTreeSet<String> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|((_, a), (_, b))| a != b).map(|((name, _), _)| name.clone()).collect()
}

/// One run, looked at from all sides: tests of one process share it.
fn shared_run() -> (PathBuf, PathBuf) {
    static RUN: std::sync::OnceLock<(tempfile::TempDir, PathBuf)> = std::sync::OnceLock::new();
    let (folder, run) = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("discs");
        common::picture_folder(&data, 20, SIDE);
        std::fs::write(data.join("broken.png"), "no picture").unwrap();
        let flags = ["--kimg", "0.2", "--tick-kimg", "0.064", "--snapshot-ticks", "2", "--image-ticks", "1"];
        let run = finetune(&data, &folder.path().join("runs"), &flags);
        (folder, run)
    });
    (folder.path().join("discs"), run.clone())
}

#[test]
fn the_folder_and_options_are_those_asked_for() {
    let (data, run) = shared_run();
    assert!(run.ends_with("00000-discs-rooted20-paired-batch8"), "{}", run.display());
    let options: Value = serde_json::from_slice(&std::fs::read(run.join("training_options.json")).unwrap()).unwrap();
    assert_eq!((options["loss"].as_str(), options["root_k"].as_f64()), (Some("rooted"), Some(20.0)));
    assert_eq!(options["data"].as_str(), Some(common::text(&data)));
    // 0.0002 * 16^2 / 8
    assert!((options["r1_gamma"].as_f64().unwrap() - 0.0064).abs() < 1e-12);
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("20 of 21 usable") && log.contains("broken.png"), "{log}");
    assert!(log.contains("tick 0 ") && log.contains("sec/kimg") && log.contains("augment 0.000"), "{log}");
}

#[test]
fn the_statistics_count_every_image_of_every_phase() {
    let (_, run) = shared_run();
    let lines = stats(&run);
    let ticks: Vec<f64> = lines.iter().map(|line| field(line, "Progress/tick", "mean")).collect();
    assert_eq!(ticks, [0.0, 1.0, 2.0, 3.0, 4.0][..lines.len()]);
    assert!((field(lines.last().unwrap(), "Progress/kimg", "mean") - 0.2).abs() < 1e-9);
    let total = |name: &str| lines.iter().filter_map(|line| line[name]["num"].as_f64()).sum::<f64>();
    let iterations = 25.0;
    assert_eq!(total("Loss/G/loss"), iterations * BATCH as f64);
    assert_eq!(total("Loss/scores/real"), iterations * BATCH as f64);
    // Generator and discriminator phase.
    assert_eq!(total("Loss/scores/fake"), 2.0 * iterations * BATCH as f64);
    // Iterations 0, 4, ..., 24 on half a batch, and 0 and 16 on a whole one.
    assert_eq!(total("Loss/pl_penalty"), 7.0 * (BATCH / 2) as f64);
    assert_eq!(total("Loss/r1_penalty"), 2.0 * BATCH as f64);
    for line in &lines {
        // Every term of the rooted loss is above k = 2; the slope at its mean is positive.
        assert!(field(line, "Loss/G/loss", "mean") > 2.0 && field(line, "Loss/D/loss", "mean") > 4.0);
        assert!(field(line, "Loss/G/slope", "max") > 0.0);
        assert!(line["timestamp"].as_f64().unwrap() > 1.7e9);
    }
    for name in ["Timing/Gmain", "Timing/Greg", "Timing/Dmain", "Timing/Dreg", "Timing/sec_per_kimg"] {
        assert!(field(&lines[0], name, "mean") > 0.0, "{name}");
    }
}

/// Ticks end at 8, 72, 136 and 200 images.
#[test]
fn grids_and_snapshots_of_one_kimg_have_names_of_their_own() {
    let (_, run) = shared_run();
    let entries = std::fs::read_dir(&run).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("fakes0") || name.ends_with(".json") && name.starts_with("network-"));
    names.sort();
    let expected = [
        "fakes000000.png",
        "fakes000000_136.png",
        "fakes000000_200.png",
        "network-snapshot-000000.json",
        "network-snapshot-000000_200.json",
    ];
    assert_eq!(names, expected);
    for (files, seen_images) in rootgan::run::snapshot::all(&run).unwrap().iter().zip([136, 200]) {
        let manifest = SnapshotManifest::read(&files.manifest).unwrap();
        assert_eq!(manifest.seen_images, seen_images);
        Network::ALL.iter().for_each(|&network| drop(manifest.checked(&files.manifest, network).unwrap()));
    }
}

/// Frames of length, checksum, data, checksum: the file's version, then one a tick. An event begins with its time, field
/// 1 in 8 bytes, and its step, field 2 as a varint.
#[test]
fn tensorboard_gets_an_event_a_tick_whose_step_is_the_images_seen() {
    let (_, run) = shared_run();
    let is_events = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("tfevents"));
    let path = std::fs::read_dir(&run).unwrap().flatten().map(|entry| entry.path()).find(is_events).unwrap();
    let (bytes, mut at, mut frames) = (std::fs::read(path).unwrap(), 0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        frames.push(bytes[at + 12..at + 12 + length].to_vec());
        at += length + 16;
    }
    assert_eq!(at, bytes.len());
    assert_eq!(frames.len(), 1 + stats(&run).len());
    let texts: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
    assert!(texts[0].contains("brain.Event:2"));
    assert!(texts[1].contains("Loss/G/loss") && texts[1].contains("Loss/r1_penalty"));
    let step = |frame: &Vec<u8>| {
        assert_eq!((frame[0], frame[9]), (1 << 3 | 1, 2 << 3));
        let (low, high) = (u64::from(frame[10]), u64::from(frame[11]));
        if low < 128 { low } else { low - 128 + (high << 7) }
    };
    assert_eq!(frames[1..].iter().map(step).collect::<Vec<_>>(), [8, 72, 136, 200]);
}

#[test]
fn the_grid_of_reals_holds_the_pictures() {
    let (data, run) = shared_run();
    let mut pictures = BTreeSet::new();
    for entry in std::fs::read_dir(data).unwrap().flatten() {
        if let Ok(picture) = image::open(entry.path()) {
            pictures.insert(picture.into_rgb8().into_raw());
        }
    }
    let reals = cells(&run.join("reals.png"), 4, 3);
    assert!(reals.iter().all(|cell| pictures.contains(cell)));
    assert_eq!(reals.iter().collect::<BTreeSet<_>>().len(), 12, "a picture comes twice");
}

#[test]
fn the_grids_are_the_averaged_generators_pictures() {
    common::configure_torch();
    let (_, run) = shared_run();
    let (start, _) = common::pair16();
    let snapshot = find(&run).unwrap();
    // The grid's latents: the run's seed and its own stream.
    rootgan::tensor::seed::seed_torch(0, 0, rootgan::tensor::seed::Stream::Grid, 0);
    let z = Tensor::randn([12, 32], (tch::Kind::Float, Device::Cpu));
    for (generator, grid) in [(&start, "fakes_init.png"), (&snapshot.g_ema, "fakes000000_200.png")] {
        let generator = Generator::load(generator, Device::Cpu, None).unwrap();
        let images = no_grad(|| generator.images(&z, None, Truncation::OFF, NoiseMode::Const, None).unwrap());
        let expected = bytes(&to_u8(&images, ToBytes::Round));
        for (index, cell) in cells(&run.join(grid), 4, 3).iter().enumerate() {
            let planes = &expected[index * 768..(index + 1) * 768];
            let expected = rootgan::draw::pixels::to_interleaved(planes, 3);
            let worst = cell.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            // The batch differs, so sums round differently: one grey level.
            assert!(worst <= Some(1), "{grid}, picture {index}: {worst:?}");
        }
    }
}

#[test]
fn the_snapshot_has_trained_every_part_and_says_how() {
    common::configure_torch();
    let (_, run) = shared_run();
    let (start, _) = common::pair16();
    let files = find(&run).unwrap();
    let manifest = SnapshotManifest::read(&files.manifest).unwrap();
    assert_eq!(manifest.seen_images, 200);
    for network in Network::ALL {
        manifest.checked(&files.manifest, network).unwrap();
    }
    let (begun, g, g_ema) = (weights(&start), weights(&files.g), weights(&files.g_ema));
    let frozen = |name: &str| name.ends_with("noise_const") || name.ends_with("resample_filter");
    let expected: BTreeSet<String> = begun.iter().map(|(name, _)| name.clone()).filter(|name| !frozen(name)).collect();
    assert_eq!(differing(&begun, &g), expected);
    assert_eq!(differing(&begun, &g_ema), expected);
    // The average lags behind: it differs from G in everything that is trained, and takes w_avg over.
    let lagging: BTreeSet<String> = expected.into_iter().filter(|name| name != "mapping.w_avg").collect();
    assert_eq!(differing(&g, &g_ema), lagging);
    let record = Generator::load(&files.g_ema, Device::Cpu, None).unwrap().script.provenance();
    assert_eq!((record["dataset"].as_str(), record["seen_images"].as_u64()), (Some("discs"), Some(200)));
    // Both networks of the pair have one record, and each its file.
    let (generator, discriminator) = common::pair16();
    for (name, file) in [("generator", generator), ("discriminator", discriminator)] {
        let parent = &record["parents"][name];
        assert_eq!(parent["sha256"].as_str(), Some(sha256(&file).unwrap().as_str()));
        assert_eq!(record["ancestors"][parent["record"].as_str().unwrap()]["seed"].as_u64(), Some(0));
    }
    assert_eq!(record["ancestors"].as_object().map(|all| all.len()), Some(1));
}

/// Eight finetunings of an earlier version, which put both parents' records into each record, and two of this one.
#[test]
fn a_pair_of_many_finetunings_has_the_record_of_each_ancestor_once() {
    common::configure_torch();
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("discs");
    common::picture_folder(&data, 8, SIDE);
    let (generator, discriminator) = common::pair16();
    let code = "import json, sys, torch\n\
                record = {'source': 'random initialisation', 'credit': 'somebody'}\n\
                for i in range(8):\n    \
                    record = {'source': 'old', 'seen_images': i, 'parents': {'generator': record, 'discriminator': record}}\n\
                for i in (1, 3):\n    \
                    module = torch.jit.load(sys.argv[i])\n    \
                    module.set_provenance(json.dumps(record))\n    \
                    module.save(sys.argv[i + 1])\n";
    let (mut g, mut d) = (place.path().join("g.pt"), place.path().join("d.pt"));
    let script = place.path().join("nested.py");
    std::fs::write(&script, code).unwrap();
    let texts = [&script, &generator, &g, &discriminator, &d].map(|path| common::text(path));
    common::python(&texts);
    let mut lengths = Vec::new();
    for generation in 1..=2 {
        let flags = ["--generator", common::text(&g), "--discriminator", common::text(&d), "--kimg", "0.008"];
        let run = finetune(&data, &place.path().join("runs"), &flags);
        let files = find(&run).unwrap();
        let record = Generator::load(&files.g_ema, Device::Cpu, None).unwrap().script.provenance();
        assert_eq!(record["ancestors"].as_object().unwrap().len(), 8 + generation);
        assert_eq!(record["parents"]["generator"]["sha256"].as_str(), Some(sha256(&g).unwrap().as_str()));
        assert_eq!(record["parents"]["generator"]["record"], record["parents"]["discriminator"]["record"]);
        assert_eq!(SnapshotManifest::read(&files.manifest).unwrap().extra, record);
        lengths.push(record.to_string().len());
        let shown = common::rootgan().arg("inspect").arg(&files.d).assert().success().get_output().stdout.clone();
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown.matches("\n    ancestor").count(), 8 + generation, "{shown}");
        (g, d) = (files.g_ema, files.d);
    }
    assert!(lengths[1] < lengths[0] + 3000, "{lengths:?}");
}

#[test]
fn dump_and_export_of_the_run_are_its_averaged_generator() {
    common::configure_torch();
    let (_, run) = shared_run();
    let folder = tempfile::tempdir().unwrap();
    let (dump, export) = (folder.path().join("dump"), folder.path().join("export"));
    let from = ["--from", common::text(&run), "--out"];
    common::rootgan().arg("dump").args(from).arg(&dump).args(["--count", "3", "--device", "cpu"]).assert().success();
    common::rootgan().arg("export").args(from).arg(&export).assert().success();
    let exported = export.join("generator.pt");
    assert!(differing(&weights(&exported), &weights(&find(&run).unwrap().g_ema)).is_empty());
    let generator = Generator::load(&exported, Device::Cpu, None).unwrap();
    let noise_numel = generator.noise_numel();
    let (z, noise) = rootgan::latent::seeds::dump_latents(0, 0, 3, 32, noise_numel, Device::Cpu);
    let images = no_grad(|| generator.images(&z, None, Truncation::OFF, NoiseMode::Random, Some(&noise)).unwrap());
    let expected = bytes(&to_u8(&images, ToBytes::Metric));
    for index in 0..3 {
        let picture = image::open(dump.join(format!("{index:06}.png"))).unwrap().into_rgb8().into_raw();
        assert_eq!(picture, rootgan::draw::pixels::to_interleaved(&expected[index * 768..(index + 1) * 768], 3));
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_seed_others() {
    common::configure_torch();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("discs");
    common::picture_folder(&data, 10, SIDE);
    let run = |flags: &[&str]| {
        let flags = [&["--kimg", "0.04", "--xflip"], flags].concat();
        weights(&find(&finetune(&data, &folder.path().join("runs"), &flags)).unwrap().g)
    };
    let first = run(&["--seed", "3"]);
    assert!(differing(&first, &run(&["--seed", "3"])).is_empty());
    assert!(!differing(&first, &run(&["--seed", "4"])).is_empty());
}

#[test]
fn training_on_one_colour_moves_the_pictures_towards_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("red");
    std::fs::create_dir(&data).unwrap();
    image::RgbImage::from_pixel(SIDE, SIDE, image::Rgb([220, 30, 40])).save(data.join("red.png")).unwrap();
    for (loss, flags) in [("rooted", ["--root-slope-cap", "50"].as_slice()), ("logistic", &[])] {
        let flags = [&["--kimg", "2", "--ema-kimg", "0.1", "--micro-batch", "4", "--loss", loss], flags].concat();
        let run = finetune(&data, &folder.path().join("runs"), &flags);
        let distance = |grid: &str| {
            let cells = cells(&run.join(grid), 4, 3).concat();
            let off = cells.chunks_exact(3).flat_map(|p| [p[0].abs_diff(220), p[1].abs_diff(30), p[2].abs_diff(40)]);
            off.map(f64::from).sum::<f64>() / cells.len() as f64
        };
        let (before, after) = (distance("fakes_init.png"), distance("fakes000002.png"));
        assert!(after < 0.6 * before, "{loss}: {before} grey levels off before, {after} after");
    }
}

#[test]
fn a_generator_that_only_takes_z_is_trained_without_what_it_lacks() {
    let place = tempfile::tempdir().unwrap();
    let code =
        "net = torch.nn.Sequential(torch.nn.Linear(10, 768), torch.nn.Tanh(), torch.nn.Unflatten(1, (3, 16, 16)))\n";
    let generator = common::z_only_generator(place.path(), code);
    let data = place.path().join("discs");
    common::picture_folder(&data, 8, SIDE);
    let flags = ["--generator", common::text(&generator), "--z-dim", "10", "--kimg", "0.04"];
    let run = finetune(&data, place.path(), &flags);
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("only takes z: path-length regularisation and style mixing are off"), "{log}");
    let lines = stats(&run);
    assert!(lines.iter().all(|line| line.get("Loss/pl_penalty").is_none()));
    assert!(field(&lines[0], "Loss/G/loss", "mean") > 2.0);
    let parameters = |path: &Path| {
        let script = rootgan::model::ScriptModule::load(path, Device::Cpu).unwrap();
        script.parameters.iter().map(|p| (p.name.clone(), p.tensor.detach().copy())).collect::<Vec<_>>()
    };
    let trained = differing(&parameters(&generator), &parameters(&find(&run).unwrap().g_ema));
    assert_eq!(trained, ["0.bias", "0.weight"].map(str::to_owned).into());
}
