//! What `rootgan inspect` says of each kind of file, and that what it cannot use is one line and exit
//! code 1.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use common::{pair16, picture_folder, python, rootgan};
use predicates::str::contains;
use rootgan::run::snapshot::SnapshotFiles;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

fn inspect(path: &Path) -> Value {
    let output = rootgan().args(["inspect", "--json"]).arg(path).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

/// The one line on stderr, behind that on importing.
fn refusal(path: &Path) -> String {
    let assert = rootgan().arg("inspect").arg(path).assert().code(1);
    let output = assert.get_output();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("importing '")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    let stderr = lines[0].to_owned();
    assert!(stderr.contains(path.file_name().unwrap().to_str().unwrap()), "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

fn present(report: &Value, name: &str) -> bool {
    let methods = report["methods"].as_array().unwrap();
    methods.iter().find(|method| method["name"] == name).unwrap()["present"] == true
}

#[test]
fn a_generator_of_the_contract_shows_sizes_parameters_and_all_methods() {
    let (generator, _) = pair16();
    let report = inspect(&generator);
    assert_eq!(report["kind"], "generator");
    let sizes = &report["sizes"];
    assert_eq!((&sizes["img_resolution"], &sizes["z_dim"], &sizes["num_ws"]), (&json!(16), &json!(32), &json!(6)));
    for name in ["forward", "run_mapping", "run_synthesis", "describe", "get_provenance", "set_provenance"] {
        assert!(present(&report, name), "{name}");
    }
    assert_eq!(report["switched_off"], json!([]));
    assert_eq!(report["provenance"]["source"], "random initialisation");
    let (all, trained) =
        (report["parameters"]["all"].as_u64().unwrap(), report["parameters"]["trained"].as_u64().unwrap());
    assert!(trained > 10_000 && all > trained, "{trained} of {all}");
    rootgan().arg("inspect").arg(&generator).assert().success().stdout(contains("img_resolution   16"));
}

#[test]
fn a_discriminator_of_the_contract_is_told_from_a_generator() {
    let report = inspect(&pair16().1);
    assert_eq!(report["kind"], "discriminator");
    assert_eq!(report["sizes"]["mbstd_group_size"], 4);
    assert_eq!(report["switched_off"], json!([]));
}

#[test]
fn a_generator_that_only_takes_z_says_what_is_switched_off() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("foreign.pt");
    let code = "import sys, torch\n\
                net = torch.nn.Sequential(torch.nn.Linear(64, 192), torch.nn.Unflatten(1, (3, 8, 8)))\n\
                torch.jit.script(net).save(sys.argv[1])";
    python(&["-c", code, path.to_str().unwrap()]);
    // Nothing of a file is run, unless it is asked for.
    let report = inspect(&path);
    assert_eq!((&report["kind"], &report["sizes"]), (&json!("other TorchScript"), &json!({})));
    assert!(report["declarations"].to_string().contains("input: Tensor) -> Tensor"), "{report}");
    assert!(report["switched_off"].to_string().contains("--z-dim N"));
    let output = rootgan().args(["inspect", "--json", "--z-dim", "64"]).arg(&path).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["kind"], "z-only generator");
    assert_eq!(report["sizes"], json!({ "z_dim": 64, "img_resolution": 8, "img_channels": 3 }));
    assert!(present(&report, "forward") && !present(&report, "run_mapping") && !present(&report, "describe"));
    let off = report["switched_off"].to_string();
    for expected in ["path length", "style mixing", "truncation", "w_avg", "no method run_synthesis"] {
        assert!(off.contains(expected), "{expected}: {off}");
    }
    assert_eq!(report["parameters"]["all"], 64 * 192 + 192);
}

#[test]
fn a_run_directory_shows_its_newest_snapshot() {
    let folder = tempdir().unwrap();
    let (generator, discriminator) = pair16();
    let files = SnapshotFiles::at(folder.path(), 12);
    std::fs::copy(&generator, &files.g_ema).unwrap();
    std::fs::copy(&generator, &files.g).unwrap();
    std::fs::copy(&discriminator, &files.d).unwrap();
    files.write_manifest(12_345, Value::Null).unwrap();
    for path in [folder.path(), &files.manifest] {
        let report = inspect(path);
        assert_eq!((&report["kind"], &report["snapshot"]["kimg"]), (&json!("generator"), &json!(12.345)));
        assert_eq!(report["snapshot"]["files"]["D"], files.d.to_str().unwrap());
    }
    std::fs::write(&files.d, "damaged").unwrap();
    let stderr = rootgan().arg("inspect").arg(folder.path()).assert().code(1).get_output().stderr.clone();
    assert!(String::from_utf8(stderr).unwrap().contains("network-snapshot-000012.D.pt"));
}

#[test]
fn weights_in_safetensors_show_their_sizes_and_how_to_use_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/net_uncond_r32.safetensors");
    let report = inspect(&file);
    assert_eq!(report["kind"], "safetensors");
    assert_eq!(report["sizes"]["img_resolution"], 32);
    assert!(report["switched_off"].to_string().contains("pass it as --from"));
}

#[test]
fn numbers_in_safetensors_that_are_no_weights_are_told() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("indices.safetensors");
    let code = "import sys, torch; from safetensors.torch import save_file\n\
                save_file({'a': torch.zeros(3), 'b': torch.ones(2, 2, dtype=torch.int64)}, sys.argv[1])";
    python(&["-c", code, path.to_str().unwrap()]);
    let report = inspect(&path);
    assert_eq!((&report["kind"], &report["parameters"]["all"]), (&json!("safetensors"), &json!(7)));
    assert!(report["switched_off"].to_string().contains("weights are floats, and 'b' is of type I64"), "{report}");
}

#[test]
fn a_text_in_place_of_a_record_is_kept_as_the_source() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("credited.pt");
    let code = "import sys, torch\n\
                class Credited(torch.nn.Module):\n    \
                    def forward(self, z: torch.Tensor) -> torch.Tensor:\n        \
                        return z\n    \
                    @torch.jit.export\n    \
                    def get_provenance(self) -> str:\n        \
                        return 'Made by Jane Doe, CC-BY-4.0'\n\
                torch.jit.script(Credited()).save(sys.argv[1])";
    let script = folder.path().join("make.py");
    std::fs::write(&script, code).unwrap();
    python(&[script.to_str().unwrap(), path.to_str().unwrap()]);
    assert_eq!(inspect(&path)["provenance"], json!({ "source": "Made by Jane Doe, CC-BY-4.0" }));
}

#[test]
fn a_missing_file_is_one_line() {
    assert!(refusal(Path::new("no/such/generator.pt")).contains("no such file"));
}

#[test]
fn a_picture_is_recognised_and_points_to_data() {
    let folder = tempdir().unwrap();
    picture_folder(folder.path(), 1, 8);
    let message = refusal(&folder.path().join("picture000.png"));
    assert!(message.contains("a picture") && message.contains("--data"), "{message}");
}

#[test]
fn other_formats_are_recognised_by_their_first_bytes() {
    let folder = tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("notes.txt", b"not a network\n", "a text file"),
        ("empty.pt", b"", "an empty file"),
        ("stylegan2.pkl", b"\x80\x04\x95\0\0}\x94\x8c\x23torch_utils.persistence", "copy or download it again"),
        ("generator.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX model"),
        ("cut.pt", b"PK\x03\x04\0\0\0\0", "a damaged zip archive"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(&path);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_checkpoint_of_torch_save_is_told_from_torchscript() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("checkpoint.pt");
    let code = "import sys, torch; torch.save({'g_ema': {'w': torch.zeros(3)}}, sys.argv[1])";
    python(&["-c", code, path.to_str().unwrap()]);
    let message = refusal(&path);
    assert!(message.contains("checkpoint.pt") && message.contains("rosinality"), "{message}");
}
