//! `rootgan metrics` with a tiny detector: where pictures come from, the cache, what is refused, and what is written.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{pair16, picture_folder, python, rootgan, scripted, text};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

/// Twelve features: mean and deviation of every channel, and of the upper half; classes from them. Called as the Inception
/// file is.
const TINY: &str = "\
class Detector(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False, use_fp16: bool = False,
                no_output_bias: bool = False):
        x = img.to(torch.float32) * SCALE
        half = x[:, :, : x.shape[2] // 2]
        parts = [x.mean(dim=[2, 3]), x.std(dim=[2, 3]), half.mean(dim=[2, 3]), half.std(dim=[2, 3])]
        f = torch.cat(parts, dim=1)
        if return_features:
            return f
        return torch.softmax(f if no_output_bias else f + 1, dim=1)
net = Detector()
";

fn detector(folder: &Path, name: &str, scale: &str) -> PathBuf {
    let path = folder.join(name);
    scripted(&path, &TINY.replace("SCALE", scale));
    path
}

/// Made once: starting Python takes longer than a test.
fn tiny_detector() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::read(detector(folder.path(), "tiny.pt", "(1 / 255)")).unwrap()
    })
}

struct Place {
    folder: tempfile::TempDir,
    detector: PathBuf,
}

impl Place {
    /// A detector, and 40 pictures of 16x16 in `reals`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let detector = folder.path().join("tiny.pt");
        std::fs::write(&detector, tiny_detector()).unwrap();
        picture_folder(&folder.path().join("reals"), 40, 16);
        Self { folder, detector }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with the cache of this place; the detector only if asked for.
    fn command(&self, options: &[&str]) -> assert_cmd::Command {
        let mut command = rootgan();
        command.args(["metrics", "--device", "cpu", "--cache", text(&self.at("cache"))]).args(options);
        command
    }

    /// The records that the program prints.
    fn records(&self, options: &[&str]) -> Vec<Value> {
        let with_detector = [&["--json", "--detector", text(&self.detector)], options].concat();
        let output = self.command(&with_detector).assert().success();
        let stdout = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn number(&self, options: &[&str], name: &str) -> f64 {
        let records = self.records(options);
        let found = records.iter().find_map(|record| record["results"][name].as_f64());
        found.unwrap_or_else(|| panic!("no {name} in {records:?}"))
    }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-3), "{a} and {b}");
}

#[test]
fn folders_give_every_number_with_its_detector_and_counts() {
    let place = Place::new();
    picture_folder(&place.at("fakes"), 30, 16);
    let (fakes, reals) = (place.at("fakes"), place.at("reals"));
    let options = ["--metrics", "fid30_full,kid30,pr30,dc20_k4,is30", "--fakes", text(&fakes), "--data", text(&reals)];
    let records = place.records(&options);
    let names: Vec<_> = records.iter().map(|record| record["metric"].as_str().unwrap()).collect();
    assert_eq!(names, ["fid30_full", "kid30", "pr30", "dc20_k4", "is30"]);
    for record in &records {
        assert_eq!(record["detector"]["name"], "tiny");
        assert_eq!(record["detector"]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(record["pictures"]["side"], 16);
        assert_eq!(record["snapshot_pkl"], "fakes");
        assert!(record["results"].as_object().unwrap().values().all(Value::is_f64), "{record}");
    }
    assert_eq!((&records[0]["num_fakes"], &records[0]["num_reals"]), (&30.into(), &40.into()));
    assert_eq!((&records[1]["num_reals"], &records[4]["num_reals"]), (&30.into(), &Value::Null));
    assert_eq!(records[0]["measure"], "Frechet distance, features of tiny");
    // The fakes are 30 of the 40 reals.
    assert_eq!(records[2]["results"]["pr30_precision"].as_f64(), Some(1.0));
    // The same numbers for people, with the warnings of few pictures.
    let mut command = place.command(&options);
    let warned = contains("warning: fid30_full: 40 real pictures are fewer than 2048").and(contains("30 fakes"));
    let line = contains("fid30_full").and(contains("detector tiny (sha256")).and(contains("40 reals"));
    command.args(["--detector", text(&place.detector)]).assert().success().stderr(warned).stdout(line);
}

#[test]
fn a_second_detector_is_for_the_metrics_of_vgg() {
    let place = Place::new();
    let (reals, kept) = (place.at("reals"), place.at("kept"));
    let other = detector(place.folder.path(), "other.pt", "0.5");
    let options = ["--metrics", "pr30,fid40,dc30", "--fakes", text(&reals), "--data", text(&reals)];
    let more = ["--vgg-detector", text(&other), "--save-moments", text(&kept)];
    let records = place.records(&[&options[..], &more].concat());
    let names: Vec<_> = records.iter().map(|record| record["detector"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "tiny", "other"]);
    for name in ["fakes.safetensors", "fakes-vgg.safetensors", "reals.safetensors", "reals-vgg.safetensors"] {
        assert!(kept.join(name).exists(), "{name}");
    }
}

#[test]
fn a_set_against_itself_is_at_distance_zero() {
    let place = Place::new();
    let reals = place.at("reals");
    let found =
        place.number(&["--metrics", "fid40_full", "--fakes", text(&reals), "--data", text(&reals)], "fid40_full");
    assert!(found.abs() < 1e-9, "{found}");
}

#[test]
fn a_generator_is_measured_as_its_dump_is() {
    let place = Place::new();
    let (generator, reals, dumped) = (pair16().0, place.at("reals"), place.at("dumped"));
    let seed = ["--seed", "7", "--batch", "8"];
    let mut dump = rootgan();
    dump.args(["dump", "--device", "cpu", "--generator", text(&generator), "--out", text(&dumped), "--count", "30"]);
    dump.args(seed).assert().success();
    let names = "fid30_full,kid30,pr30,is30,fid20";
    let of = |what: &[&str]| {
        let options = [&["--metrics", names, "--data", text(&reals)], what, &seed].concat();
        place.records(&options).into_iter().map(|record| record["results"].clone()).collect::<Vec<_>>()
    };
    let (made, read) = (of(&["--generator", text(&generator)]), of(&["--fakes", text(&dumped)]));
    assert_eq!(made.len(), 5);
    for (made, read) in made.iter().zip(&read) {
        for (name, value) in made.as_object().unwrap() {
            close(value.as_f64().unwrap(), read[name].as_f64().unwrap());
        }
    }
}

#[test]
fn the_cache_knows_a_folder_by_its_content() {
    let place = Place::new();
    picture_folder(&place.at("fakes"), 20, 16);
    let fakes = place.at("fakes");
    let run = |data: &str, names: &str| {
        let data = place.at(data);
        let options = ["--metrics", names, "--fakes", text(&fakes), "--data", text(&data)];
        let mut command = place.command(&options);
        let output = command.args(["--json", "--detector", text(&place.detector)]).assert().success();
        let (stdout, stderr) = (&output.get_output().stdout, &output.get_output().stderr);
        let record: Value = serde_json::from_slice(stdout).unwrap();
        let hit = String::from_utf8_lossy(stderr).contains("are in the cache");
        (record["results"][names].as_f64().unwrap(), hit)
    };
    let (first, hit) = run("reals", "fid20_full");
    assert!(!hit);
    std::fs::rename(place.at("reals"), place.at("moved")).unwrap();
    assert_eq!(run("moved", "fid20_full"), (first, true));
    // Other needs of the same pictures are added to the entry, and do not push out what was there.
    assert!(!run("moved", "kid20").1);
    assert!(run("moved", "kid20").1);
    assert_eq!(run("moved", "fid20_full"), (first, true));
    // Another picture is another folder.
    std::fs::copy(place.at("moved/picture001.png"), place.at("moved/picture000.png")).unwrap();
    let (changed, hit) = run("moved", "fid20_full");
    assert!(!hit && changed != first);
}

#[test]
fn an_entry_of_other_pictures_is_told_of_and_made_again() {
    let place = Place::new();
    picture_folder(&place.at("others"), 30, 16);
    let fakes = place.at("reals");
    let run = |data: &str| {
        let data = place.at(data);
        let options = ["--metrics", "fid20_full", "--fakes", text(&fakes), "--data", text(&data)];
        let mut command = place.command(&options);
        let output = command.args(["--json", "--detector", text(&place.detector)]).assert().success();
        let record: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        let stderr = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        (record["results"]["fid20_full"].as_f64().unwrap(), stderr)
    };
    let entries = || {
        let folder = std::fs::read_dir(place.at("cache")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let (first, _) = run("others");
    let others = entries().remove(0);
    run("reals");
    let reals = entries().into_iter().find(|path| *path != others).unwrap();
    std::fs::copy(reals, &others).unwrap();
    let (again, stderr) = run("others");
    assert!(stderr.contains("of other pictures") && again == first, "{stderr}");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let place = Place::new();
    std::fs::write(place.at("cache"), "a file where the folder would be").unwrap();
    let reals = place.at("reals");
    let options = ["--metrics", "fid20_full", "--fakes", text(&reals), "--data", text(&reals)];
    let mut command = place.command(&options);
    let output = command.args(["--json", "--detector", text(&place.detector)]).assert().success();
    let stderr = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(
        stderr.contains("warning: features of the real pictures are not kept") && stderr.contains("cache'"),
        "{stderr}"
    );
}

#[test]
fn saved_features_give_the_same_numbers_and_refuse_another_detector() {
    let place = Place::new();
    picture_folder(&place.at("fakes"), 20, 16);
    let (fakes, reals, kept) = (place.at("fakes"), place.at("reals"), place.at("kept"));
    let sides = ["--fakes", text(&fakes), "--data", text(&reals)];
    let names = ["--metrics", "fid20_full,kid20"];
    let save = ["--save-features", text(&kept)];
    let first = place.number(&[&names[..], &sides, &save].concat(), "fid20_full");
    let moments = place.at("moments");
    place.records(&[&["--metrics", "fid20_full"][..], &sides, &["--save-moments", text(&moments)]].concat());
    // From features alone, and from moments alone: no detector is needed.
    for folder in [&kept, &moments] {
        let (a, b) = (folder.join("fakes.safetensors"), folder.join("reals.safetensors"));
        let options = ["--json", "--metrics", "fid20_full", "--fakes-features", text(&a), "--data-features", text(&b)];
        let output = place.command(&options).assert().success();
        let record: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        close(record["results"]["fid20_full"].as_f64().unwrap(), first);
        assert_eq!(record["detector"]["name"], "tiny");
    }
    // Moments are no features.
    let (a, b) = (moments.join("fakes.safetensors"), moments.join("reals.safetensors"));
    let options = ["--metrics", "kid20", "--fakes-features", text(&a), "--data-features", text(&b)];
    place.command(&options).assert().code(1).stderr(contains("kid20").and(contains("rows of features are needed")));
    // Another detector is refused on either way.
    let other = detector(place.folder.path(), "other.pt", "0.5");
    let a = kept.join("fakes.safetensors");
    let options =
        ["--metrics", "fid20", "--fakes-features", text(&a), "--data", text(&reals), "--detector", text(&other)];
    place.command(&options).assert().code(1).stderr(contains("they are of tiny (").and(contains("is other (")));
    let elsewhere = place.at("elsewhere");
    let made = [&names[..], &sides, &["--save-features", text(&elsewhere), "--detector", text(&other)]].concat();
    place.command(&made).assert().success();
    let b = elsewhere.join("reals.safetensors");
    let options = ["--metrics", "fid20", "--fakes-features", text(&a), "--data-features", text(&b)];
    place.command(&options).assert().code(1).stderr(contains("different detectors").and(contains("of other (")));
}

#[test]
fn features_of_numpy_need_a_record_beside_them() {
    let place = Place::new();
    let file = place.at("a.npz");
    let code = "import sys, numpy; numpy.savez(sys.argv[1], features=numpy.random.randn(50, 4))";
    python(&["-c", code, text(&file)]);
    let options = ["--json", "--metrics", "fid50", "--fakes-features", text(&file), "--data-features", text(&file)];
    place.command(&options).assert().code(1).stderr(contains("which detector").and(contains("a.npz.json")));
    let record = serde_json::json!({
        "detector": {"name": "mine", "sha256": "00", "features": "my features", "resize": "none"},
        "pictures": {"side": 8, "channels": 3, "rule": "none"}, "count": 50,
    });
    std::fs::write(place.at("a.npz.json"), record.to_string()).unwrap();
    let output = place.command(&options).assert().success();
    let record: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert!(record["results"]["fid50"].as_f64().unwrap().abs() < 1e-9);
    assert_eq!(record["measure"], "Frechet distance, my features");
}

#[test]
fn lines_are_added_to_one_file_per_metric() {
    let place = Place::new();
    let (reals, out) = (place.at("reals"), place.at("made/here"));
    let options =
        ["--metrics", "fid40_full,is40", "--fakes", text(&reals), "--data", text(&reals), "--outdir", text(&out)];
    place.records(&options);
    place.records(&options);
    let lines = std::fs::read_to_string(out.join("metric-fid40_full.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["results"], records[1]["results"]);
    assert!(records[1]["timestamp"].as_f64() > records[0]["timestamp"].as_f64());
    assert!(out.join("metric-is40.jsonl").exists());
}

#[test]
fn only_the_file_of_published_numbers_measures_fid() {
    let place = Place::new();
    let reals = place.at("reals");
    let named = place.at("inception-2015-12-05.pt");
    std::fs::copy(&place.detector, &named).unwrap();
    let options = ["--metrics", "fid40", "--fakes", text(&reals), "--data", text(&reals), "--detector", text(&named)];
    place.command(&options).assert().success().stdout(contains(" FID; detector inception-2015-12-05"));
}

#[test]
fn a_config_file_names_the_detector_and_flags_win() {
    let place = Place::new();
    let reals = place.at("reals");
    let config = place.at("metrics.json");
    let record = serde_json::json!({"detector": text(&place.detector), "metrics": "fid10"});
    std::fs::write(&config, record.to_string()).unwrap();
    let sides = ["--fakes", text(&reals), "--data", text(&reals), "--config", text(&config)];
    place.command(&sides).assert().success().stdout(contains("fid10").and(contains("detector tiny")));
    let wins = [&sides[..], &["--metrics", "fid12"]].concat();
    place.command(&wins).assert().success().stdout(contains("fid12"));
    std::fs::write(&config, r#"{"detectors": "x"}"#).unwrap();
    place.command(&sides).assert().code(1).stderr(contains("metrics.json").and(contains("vgg_detector")));
}

#[test]
fn pictures_of_two_sizes_need_a_resolution() {
    let place = Place::new();
    picture_folder(&place.at("large"), 20, 24);
    let (large, reals) = (place.at("large"), place.at("reals"));
    let options =
        ["--metrics", "fid20", "--fakes", text(&large), "--data", text(&reals), "--detector", text(&place.detector)];
    place
        .command(&options)
        .assert()
        .code(1)
        .stderr(contains("24x24").and(contains("16x16")).and(contains("--resolution")));
    place.command(&options).args(["--resolution", "16"]).assert().success();
    picture_folder(&place.at("mixed"), 3, 16);
    std::fs::copy(place.at("large/picture001.png"), place.at("mixed/odd.png")).unwrap();
    let mixed = place.at("mixed");
    let options =
        ["--metrics", "fid3", "--fakes", text(&mixed), "--data", text(&reals), "--detector", text(&place.detector)];
    place.command(&options).assert().code(1).stderr(contains("odd.png").and(contains("24x24")));
}

#[test]
fn what_cannot_be_measured_is_said_with_the_remedy() {
    let place = Place::new();
    let (reals, generator) = (place.at("reals"), pair16().0);
    let (reals, tiny) = (text(&reals), text(&place.detector));
    let cases: [(&[&str], &str, &str); 9] = [
        (&["--data", reals, "--detector", tiny], "nothing to measure", "--fakes DIR_OR_ZIP"),
        (&["--fakes", reals, "--generator", text(&generator)], "two things to measure", "pass one"),
        (&["--metrics", "fid40", "--fakes", reals, "--detector", tiny], "needs real pictures", "--data"),
        (&["--metrics", "fid40", "--fakes", reals, "--data", reals], "no detector", "--detector FILE"),
        (&["--metrics", "fid41", "--fakes", reals, "--data", reals, "--detector", tiny], "41 pictures", "fid40_full"),
        (&["--metrics", "ppl2_wend_4", "--fakes", reals, "--detector", tiny], "needs a generator", "--generator"),
        (
            &["--metrics", "fid9k,ppl2_wend_4", "--data", reals, "--generator", text(&generator), "--detector", tiny],
            "no perceptual distance",
            "rootgan detector vgg16",
        ),
        (
            &["--metrics", "fid40", "--fakes", reals, "--data", reals, "--detector", text(&generator)],
            "it is a generator",
            "rootgan detector",
        ),
        (&["--metrics", "fid50kx", "--fakes", reals], "'fid50kx'", "fid2k_full"),
    ];
    for (options, what, remedy) in cases {
        let one_line = predicates::function::function(|text: &str| text.lines().count() == 1);
        place.command(options).assert().code(1).stderr(contains(what).and(contains(remedy)).and(one_line));
    }
}
