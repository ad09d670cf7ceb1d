//! Checkpoints of other programs, imported by the script and loaded here: the numbers of the reference implementations.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rootgan::model::{Discriminator, Generator, NoiseMode, Truncation, check_pair};
use rootgan::tensor::no_grad;
use tch::{Device, Tensor};

/// Largest difference relative to the tensor's largest entry, as for the networks themselves.
const TOLERANCE: f64 = 1e-4;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn import(name: &str, outdir: &Path) -> (Generator, Discriminator) {
    common::configure_torch();
    let file = shipped(name);
    common::python(&["python/rootgan", "import", common::text(&file), "--outdir", common::text(outdir)]);
    let generator = Generator::load(&outdir.join("generator.pt"), Device::Cpu, None).unwrap();
    let discriminator = Discriminator::load(&outdir.join("discriminator.pt"), Device::Cpu).unwrap();
    check_pair(&generator, &discriminator).unwrap();
    (generator, discriminator)
}

fn golden(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(shipped(name)).unwrap().into_iter().collect()
}

fn check(name: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{name}");
    let difference = (found - expected).abs().max().double_value(&[]);
    let largest = expected.abs().max().double_value(&[]);
    assert!(difference <= TOLERANCE * largest, "{name} is off by {difference}, its largest entry is {largest}");
}

#[test]
fn an_nvidia_pickle_gives_the_reference_numbers() {
    let place = tempfile::tempdir().unwrap();
    let (g, d) = import("nvidia_like_r32.pkl", place.path());
    let io = golden("net_uncond_r32.safetensors");
    no_grad(|| {
        let ws = |psi, cutoff| g.mapping(&io["io.z"], None, Truncation { psi, cutoff }, false).unwrap();
        check("ws", &ws(1.0, None), &io["io.ws"]);
        check("ws_psi0.7", &ws(0.7, None), &io["io.ws_psi0.7"]);
        check("ws_psi0.5_cutoff4", &ws(0.5, Some(4)), &io["io.ws_psi0.5_cutoff4"]);
        check("img_const", &g.synthesis(&io["io.ws"], NoiseMode::Const, None).unwrap(), &io["io.img_const"]);
        check("d_logits_x", &d.logits(&io["io.x"], None).unwrap(), &io["io.d_logits_x"]);
    });
    let record = g.script.provenance();
    assert!(record.to_string().contains("nvidia_like_r32.pkl"), "{record}");
}

#[test]
fn a_rosinality_checkpoint_gives_the_reference_numbers() {
    let place = tempfile::tempdir().unwrap();
    let (g, d) = import("rosinality_like_r32.pt", place.path());
    let io = golden("rosinality_like_r32_io.safetensors");
    no_grad(|| {
        let ws = g.mapping(&io["z"], None, Truncation::OFF, false).unwrap();
        check("w", &ws.select(1, 0), &io["w"]);
        let image = |psi| g.images(&io["z"], None, Truncation { psi, cutoff: None }, NoiseMode::Const, None).unwrap();
        check("img_fixed_noise", &image(1.0), &io["img_fixed_noise"]);
        check("img_fixed_noise_psi0.7", &image(0.7), &io["img_fixed_noise_psi0.7"]);
        check("d_logits_x", &d.logits(&io["x"], None).unwrap(), &io["d_logits_x"]);
    });
}

#[test]
fn an_imported_pair_is_finetuned_and_its_export_leads_back() {
    let place = tempfile::tempdir().unwrap();
    import("rosinality_like_r32.pt", place.path());
    let (data, runs) = (place.path().join("discs"), place.path().join("runs"));
    common::picture_folder(&data, 8, 32);
    let at = |name: &str| place.path().join(name);
    let pair = (at("generator.pt"), at("discriminator.pt"));
    let run = Finetune::new(&pair, &data, &runs).with(["--kimg", "0.016"]).run();
    let (back, again) = (at("back.pt"), at("again"));
    let format = ["--format", "rosinality", "--out", common::text(&back)];
    common::rootgan().args(["export", "--from", common::text(&run)]).args(format).assert().success();
    common::python(&["python/rootgan", "import", common::text(&back), "--outdir", common::text(&again)]);
    let snapshot = rootgan::run::snapshot::find(&run).unwrap();
    let tensors = |path: &Path| {
        let generator = Generator::load(path, Device::Cpu, None).unwrap();
        generator.script.parameters.iter().map(|p| (p.name.clone(), p.tensor.detach().copy())).collect::<Vec<_>>()
    };
    assert_eq!(tensors(&snapshot.g_ema), tensors(&again.join("generator.pt")));
}
