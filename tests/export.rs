//! What `rootgan export` writes: the weights bit for bit, readable by the Python script, and of the
//! network that was asked for.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use common::{configure_torch, pair16, python, rootgan, text};
use predicates::str::contains;
use rootgan::files::checksum::sha256;
use rootgan::model::{Discriminator, Generator, NoiseMode, ScriptModule, Truncation, weights};
use rootgan::run::snapshot::SnapshotFiles;
use rootgan::tensor::no_grad;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tch::Device;
use tempfile::tempdir;

fn load(path: &Path) -> ScriptModule {
    ScriptModule::load(path, Device::Cpu).unwrap()
}

fn export_pair16(folder: &Path) -> PathBuf {
    let (generator, discriminator) = pair16();
    let out = folder.join("export");
    rootgan()
        .args(["export", "--generator"])
        .arg(generator)
        .arg("--discriminator")
        .arg(discriminator)
        .arg("--out")
        .arg(&out)
        .assert()
        .success()
        .stdout(contains("weights.safetensors"));
    out
}

/// A run directory with one snapshot, whose raw generator differs from the averaged one.
fn run_with_snapshot(folder: &Path, kimg: u64) -> SnapshotFiles {
    let (generator, discriminator) = pair16();
    let files = SnapshotFiles::at(folder, kimg);
    std::fs::copy(&generator, &files.g_ema).unwrap();
    std::fs::copy(discriminator, &files.d).unwrap();
    let mut raw = load(&generator);
    no_grad(|| raw.parameters.iter_mut().for_each(|p| drop(p.tensor.g_mul_scalar_(0.5))));
    raw.save(&files.g).unwrap();
    files.write_manifest(kimg * 1000, Value::Null).unwrap();
    files
}

fn assert_same_parameters(left: &ScriptModule, right: &ScriptModule) {
    assert_eq!(left.parameters.len(), right.parameters.len());
    for (left, right) in left.parameters.iter().zip(&right.parameters) {
        assert_eq!(left.name, right.name);
        assert!(left.tensor.equal(&right.tensor), "{}", left.name);
    }
}

#[test]
fn exported_weights_are_the_parameters_bit_for_bit() {
    let folder = tempdir().unwrap();
    let out = export_pair16(folder.path());
    let (generator, discriminator) = pair16();
    let bytes = std::fs::read(out.join("weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut count = 0;
    for (prefix, path) in [("G.", generator), ("D.", discriminator)] {
        for parameter in load(&path).parameters {
            let view = file.tensor(&format!("{prefix}{}", parameter.name)).unwrap();
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{}", parameter.name);
            let shape: Vec<usize> = parameter.tensor.size().iter().map(|&size| size as usize).collect();
            assert_eq!(view.shape(), shape, "{}", parameter.name);
            let mut expected = vec![0u8; 4 * parameter.tensor.numel()];
            parameter.tensor.copy_data_u8(&mut expected, parameter.tensor.numel());
            assert_eq!(view.data(), expected, "{}", parameter.name);
            count += 1;
        }
    }
    assert_eq!(file.len(), count);
    for name in ["G.synthesis.b4.conv1.weight", "G.mapping.w_avg", "G.synthesis.b16.conv0.noise_const"] {
        assert!(file.tensor(name).is_ok(), "{name}");
    }
}

#[test]
fn the_metadata_holds_sizes_descriptions_and_provenance() {
    let folder = tempdir().unwrap();
    let metadata = weights::read(&export_pair16(folder.path()).join("weights.safetensors")).unwrap().metadata;
    for (key, expected) in [
        ("format", "rootgan"),
        ("img_resolution", "16"),
        ("z_dim", "32"),
        ("mapping_layers", "2"),
        ("conv_clamp", "None"),
        ("mbstd_group_size", "4"),
    ] {
        assert_eq!(metadata[key], expected, "{key}");
    }
    let description: Value = serde_json::from_str(&metadata["D.description"]).unwrap();
    assert_eq!(description["kind"], "discriminator");
    let provenance: Value = serde_json::from_str(&metadata["G.provenance"]).unwrap();
    assert_eq!(provenance["source"], "random initialisation");
}

#[test]
fn a_pair_made_from_the_export_gives_the_same_images_and_logits() {
    configure_torch();
    let folder = tempdir().unwrap();
    let (g1, d1) = pair16();
    let exported = export_pair16(folder.path()).join("weights.safetensors");
    let again = folder.path().join("again");
    python(&["python/rootgan", "new", "--from-safetensors", text(&exported), "--outdir", text(&again)]);
    let (g2, d2) = (again.join("generator.pt"), again.join("discriminator.pt"));
    let z = rootgan::latent::seeds::latents_of_seeds(&[0, 1, 2], 32, Device::Cpu);
    let pass = |generator: &Path, discriminator: &Path| {
        no_grad(|| {
            let generator = Generator::load(generator, Device::Cpu, None).unwrap();
            let images = generator.images(&z, None, Truncation::OFF, NoiseMode::Const, None).unwrap();
            let discriminator = Discriminator::load(discriminator, Device::Cpu).unwrap();
            // Three images: the minibatch-stddev group is then the whole batch.
            let logits = discriminator.logits(&images, None).unwrap();
            (images, logits)
        })
    };
    let ((images1, logits1), (images2, logits2)) = (pass(&g1, &d1), pass(&g2, &d2));
    assert!(images1.std(false).double_value(&[]) > 0.01, "the images are flat");
    // The weights are equal; where a tensor lies in memory may still choose another summation order.
    for (left, right) in [(images1, images2), (logits1, logits2)] {
        let largest = left.abs().max().double_value(&[]);
        let difference = (left - right).abs().max().double_value(&[]);
        assert!(difference <= 1e-6 * largest, "{difference} of {largest}");
    }
}

#[test]
fn a_run_gives_its_newest_averaged_generator_and_raw_the_trained_one() {
    let folder = tempdir().unwrap();
    run_with_snapshot(folder.path(), 8);
    let newest = run_with_snapshot(folder.path(), 20);
    for (flags, expected, network) in [(vec![], &newest.g_ema, "G_ema"), (vec!["--raw"], &newest.g, "G")] {
        let out = folder.path().join(format!("export-{network}"));
        rootgan()
            .args(["export", "--from"])
            .arg(folder.path())
            .arg("--out")
            .arg(&out)
            .args(&flags)
            .assert()
            .success()
            .stdout(contains("at 20 kimg"));
        assert_same_parameters(&load(&out.join("generator.pt")), &load(expected));
        assert_same_parameters(&load(&out.join("discriminator.pt")), &load(&newest.d));
        let record: Value = serde_json::from_slice(&std::fs::read(out.join("export.json")).unwrap()).unwrap();
        assert_eq!(record["source"]["generator"], network);
        assert_eq!(record["source"]["kimg"], 20.0);
        assert_eq!(record["generator"]["img_resolution"], 16);
        for file in record["files"].as_array().unwrap() {
            let path = out.join(file["file"].as_str().unwrap());
            assert_eq!(file["sha256"], sha256(&path).unwrap(), "{}", path.display());
        }
        assert_eq!(record["files"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_snapshot_with_one_flipped_byte_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let files = run_with_snapshot(folder.path(), 20);
    let mut bytes = std::fs::read(&files.g_ema).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files.g_ema, bytes).unwrap();
    let out = folder.path().join("export");
    let assert = rootgan().args(["export", "--from"]).arg(folder.path()).arg("--out").arg(&out).assert();
    let stderr = String::from_utf8(assert.code(1).get_output().stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("network-snapshot-000020.G_ema.pt") && stderr.contains("sha256"), "{stderr}");
    assert!(!out.exists());
}

#[test]
fn a_network_that_is_not_exported_need_not_be_whole() {
    let folder = tempdir().unwrap();
    let files = run_with_snapshot(folder.path(), 20);
    std::fs::write(&files.g, "damaged").unwrap();
    let export = |flags: &[&str]| {
        let mut command = rootgan();
        command
            .args(["export", "--from"])
            .arg(folder.path())
            .arg("--out")
            .arg(folder.path().join("export"))
            .args(flags);
        command.assert()
    };
    export(&["--raw"]).code(1).stderr(contains("network-snapshot-000020.G.pt"));
    export(&[]).success();
}

#[test]
fn an_export_is_not_overwritten_without_force() {
    let folder = tempdir().unwrap();
    let run = run_with_snapshot(folder.path(), 20);
    let out = export_pair16(folder.path());
    let export = |flags: &[&str]| {
        let mut command = rootgan();
        command.args(["export", "--raw", "--from"]).arg(&run.manifest).arg("--out").arg(&out).args(flags);
        command.assert()
    };
    let before = sha256(&out.join("generator.pt")).unwrap();
    export(&[]).code(1).stderr(contains("--force"));
    assert_eq!(sha256(&out.join("generator.pt")).unwrap(), before);
    // What belongs to the networks that are replaced goes with them, and who may read the source matters no more.
    for name in ["generator_raw.pt", "import.json"] {
        std::fs::write(out.join(name), "of another pair").unwrap();
    }
    std::fs::set_permissions(&run.g, Permissions::from_mode(0o400)).unwrap();
    export(&["--force"]).success();
    assert_eq!(sha256(&out.join("generator.pt")).unwrap(), sha256(&run.g).unwrap());
    assert!(!out.join("generator_raw.pt").exists() && !out.join("import.json").exists());
    assert!(std::fs::metadata(out.join("generator.pt")).unwrap().permissions().mode() & 0o200 != 0);
    let mut onto_itself = rootgan();
    onto_itself.args(["export", "--force", "--from"]).arg(&out).arg("--out").arg(&out);
    onto_itself.assert().code(1).stderr(contains("it is one of the files to export; pass another --out"));
}

#[test]
fn a_forced_export_that_fails_leaves_the_old_one() {
    let folder = tempdir().unwrap();
    let out = export_pair16(folder.path());
    let files = || {
        let entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect();
        found.sort();
        found
    };
    let before = files();
    let (generator, discriminator) = pair16();
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", "ulimit -f 8; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rootgan"), "export", "--force"]);
    command.arg("--generator").arg(generator).arg("--discriminator").arg(discriminator).arg("--out").arg(&out);
    command.assert().failure().code(1).stderr(contains("too large"));
    assert!(files() == before);
}

#[test]
fn a_name_of_another_format_is_told_and_other_files_stay() {
    let folder = tempdir().unwrap();
    let run = run_with_snapshot(folder.path(), 20);
    let (pickle, notes) = (folder.path().join("mine.pkl"), folder.path().join("notes.md"));
    std::fs::write(&notes, "words").unwrap();
    let export = |out: &Path, flags: &[&str]| {
        let mut command = rootgan();
        command.args(["export", "--from"]).arg(&run.manifest).arg("--out").arg(out).args(flags);
        command.assert().code(1)
    };
    export(&pickle, &[]).stderr(contains("pass --format nvidia"));
    export(&notes, &["--force"]).stderr(contains("is a file, and torchscript is a folder"));
    export(&notes, &["--format", "safetensors"]).stderr(contains("is there already"));
    export(&notes, &["--format", "state-dict", "--force"]).stderr(contains("is no earlier export, and would be lost"));
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "words");
}

#[test]
fn half_a_pair_and_two_sources_are_refused() {
    let (generator, _) = pair16();
    let folder = tempdir().unwrap();
    let export = || {
        let mut command = rootgan();
        command.arg("export").arg("--out").arg(folder.path().join("out"));
        command
    };
    export().assert().code(1).stderr(contains("--from SOURCE"));
    export().arg("--generator").arg(&generator).assert().code(1).stderr(contains("--discriminator"));
    export().arg("--from").arg(folder.path()).arg("--generator").arg(&generator).assert().code(1);
    export().arg("--from").arg(folder.path()).assert().code(1).stderr(contains("no complete snapshot"));
}
