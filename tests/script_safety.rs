//! TorchScript files of others: what networks are made of is loaded, what could harm is refused before anything of it runs.
//! `tests/script_safety/make.py` makes them; the name of a bad one says which words its refusal holds.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use common::{pair16, picture_folder, python, rootgan};
use rootgan::model::ScriptModule;
use rootgan::model::safety::Contents;
use tch::{Device, IValue, Kind, Tensor};

fn files(kind: &str) -> Vec<PathBuf> {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script_safety/make.py");
        python(&["-W", "ignore", script.to_str().unwrap(), folder.path().to_str().unwrap()]);
        folder
    });
    let mut found: Vec<_> = folder.path().join(kind).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn refusal(bytes: &[u8]) -> Option<String> {
    match Contents::read(bytes) {
        Ok(contents) => contents.refusal().map(|refusal| refusal.what),
        Err(refusal) => Some(refusal.what),
    }
}

#[test]
fn networks_and_detectors_of_many_kinds_are_loaded() {
    let all = files("good");
    assert!(all.len() >= 10);
    for path in all {
        let loaded = ScriptModule::load(&path, Device::Cpu).map_err(|error| format!("{error:#}"));
        let script = loaded.unwrap();
        let input = match &*stem(&path) {
            "mapping" | "mapping_traced" => Tensor::randn([2, 16], (Kind::Float, Device::Cpu)),
            "sequential" => Tensor::randn([2, 4], (Kind::Float, Device::Cpu)),
            "plain" | "plain_deepest" | "plain_places" | "zipped_again" => {
                Tensor::randn([2, 2], (Kind::Float, Device::Cpu))
            }
            _ => Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu)),
        };
        let made = script.tensor_method("forward", &[IValue::Tensor(input)]).unwrap();
        assert!(made.numel() > 0);
    }
}

#[test]
fn what_could_harm_is_refused_by_its_name() {
    let all = files("bad");
    assert!(all.len() > 70, "{}", all.len());
    let mut wrong = Vec::new();
    for path in all {
        let stem = stem(&path);
        let reason = stem.split_once("__").unwrap().1;
        assert!(reason.len() >= 4, "{stem}: any refusal has such a reason");
        match refusal(&std::fs::read(&path).unwrap()) {
            Some(found) if found.contains(reason) => {
                assert!(!found.contains('\n') && found.len() < 400, "{found}")
            }
            found => wrong.push(format!("{stem}: {found:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_refuses_in_one_line_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bad = files("bad").into_iter().find(|path| stem(path) == "code_save__torch.save").unwrap();
    let (generator, discriminator) = pair16();
    let data = folder.path().join("pictures");
    picture_folder(&data, 8, 16);
    let [bad, generator, discriminator] = [&bad, &generator, &discriminator].map(|path| path.to_str().unwrap());
    for arguments in [
        vec!["generate", "--generator", bad, "--seeds", "1", "--grid", "g.png"],
        vec!["dump", "--generator", bad, "--count", "2", "--out", "d"],
        vec!["export", "--generator", bad, "--discriminator", discriminator, "--out", "e"],
        vec!["finetune", "--generator", bad, "--discriminator", discriminator, "--data", "pictures"],
        vec!["finetune", "--generator", generator, "--discriminator", bad, "--data", "pictures"],
    ] {
        let assert = rootgan().current_dir(folder.path()).args(&arguments).assert().code(1);
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        let told = stderr.contains("torch.save (code/__torch__.py, line 11)") && stderr.contains("--trust");
        assert!(told && stderr.lines().last().unwrap().starts_with("error: "), "{arguments:?}: {stderr}");
        assert!(!folder.path().join("p").exists());
    }
}

#[test]
fn inspect_lists_what_is_not_allowed_and_trust_loads_it() {
    let bad = files("bad").into_iter().find(|path| stem(path) == "code_resize__torch.resize_").unwrap();
    let assert = rootgan().arg("inspect").arg(&bad).assert().success();
    let stdout = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(stdout.contains("not allowed      torch.resize_ (code/__torch__.py, line 11)"), "{stdout}");
    let show = |trust: &[&str]| rootgan().arg("inspect").arg(&bad).args(["--z-dim", "2"]).args(trust).assert();
    let stderr = String::from_utf8(show(&[]).code(1).get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("pass --trust if you trust who made it"), "{stderr}");
    let stderr = String::from_utf8(show(&["--trust"]).code(1).get_output().stderr.clone()).unwrap();
    assert!(!stderr.contains("not loaded"), "it is loaded, and then fails as a generator: {stderr}");
}

#[test]
fn trust_does_not_reach_into_memory() {
    let bad = files("bad").into_iter().find(|path| stem(path).starts_with("pickle_view__")).unwrap();
    let assert = rootgan().arg("inspect").arg(&bad).args(["--z-dim", "2", "--trust"]).assert().code(1);
    assert!(String::from_utf8(assert.get_output().stderr.clone()).unwrap().contains("leaves its storage"));
}

#[test]
fn the_check_of_the_default_pair_takes_a_moment() {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    for name in ["generator.pt", "discriminator.pt"] {
        let bytes = std::fs::read(weights.join(name)).unwrap();
        let start = Instant::now();
        assert_eq!(refusal(&bytes), None);
        // Unoptimised, on a busy machine; a release build takes some milliseconds.
        assert!(start.elapsed().as_secs_f64() < 5.0, "{:?}", start.elapsed());
    }
}
