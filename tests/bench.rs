//! `rootgan bench` on the 16x16 pair: every number is there and of the right size.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use serde_json::Value;

/// Features: the mean colours.
const DETECTOR: &str = "\
class Detector(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False):
        return img.to(torch.float32).mean(dim=[2, 3])
net = Detector()
";

#[test]
fn every_part_is_measured_and_the_operations_are_those_of_the_shapes() {
    let (generator, discriminator) = common::pair16();
    let place = tempfile::tempdir().unwrap();
    let (detector, trace) = (place.path().join("detector.pt"), place.path().join("trace.json"));
    common::scripted(&detector, DETECTOR);
    let output = common::rootgan()
        .args([
            "bench",
            "--device",
            "cpu",
            "--batch",
            "4",
            "--iterations",
            "1",
            "--all",
            "--json",
            "--augment-p",
            "0.5",
            "--free-seconds",
            "0.2",
        ])
        .args(["--generator", common::text(&generator), "--discriminator", common::text(&discriminator)])
        .args(["--detector", common::text(&detector), "--trace", common::text(&trace)])
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let positive = |value: &Value| assert!(value.as_f64().is_some_and(|number| number > 0.0), "{report}");
    for phase in ["Gmain", "Greg", "Dmain", "Dreg"] {
        positive(&report["phase_seconds"][phase]);
        positive(&report["augmented_phase_seconds"][phase]);
    }
    for name in ["seconds_per_image", "peak_host_memory_mib", "convolution_peak_gflop_per_second"] {
        positive(&report[name]);
    }
    for name in ["generated", "dumped", "decoded", "loaded"] {
        positive(&report["others"][format!("{name}_images_per_second")]);
    }
    let recorded: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let names: Vec<&str> =
        recorded["traceEvents"].as_array().unwrap().iter().filter_map(|e| e["name"].as_str()).collect();
    assert!(
        names.contains(&"aten::convolution_backward") && names.contains(&"run_synthesis"),
        "{} events",
        names.len()
    );
    positive(&report["free"]["seconds_per_image"]);
    assert!(report["free"]["iterations"].as_u64().unwrap().is_multiple_of(16));
    assert!(report["free"]["share_of_time_in_kernels"].is_null() && report["gpu_memory_mib"].is_null(), "{report}");
    positive(&report["others"]["checkpoint_seconds"]);
    positive(&report["others"]["features_of_images_per_second"]);
    assert!(report["others"]["checkpoint_bytes"].as_u64().unwrap() > 100_000);
    let share = report["share_of_convolution_peak"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{share}");

    // By hand. Channels: 32 at 4 and 8, 16 at 16. Multiplications per image, in 3x3 kernels:
    // G: b4.conv1 32*32*16, b8.conv0 32*32*16, b8.conv1 32*32*64, b16.conv0 16*32*64, b16.conv1 16*16*256;
    // D: b16.conv0 16*16*256, b16.conv1 32*16*64, b8.conv0 32*32*64, b8.conv1 32*32*16, b4.conv 32*33*16;
    // and 1x1: G's torgb 3*32*16 + 3*32*64 + 3*16*256, D's fromrgb 16*3*256, skips 32*16*64 and 32*32*16.
    let g = 2.0 * (9.0 * (16_384.0 * 2.0 + 65_536.0 + 32_768.0 + 65_536.0) + 1_536.0 + 6_144.0 + 12_288.0);
    let d = 2.0 * (9.0 * (65_536.0 + 32_768.0 + 65_536.0 + 16_384.0 + 16_896.0) + 12_288.0 + 32_768.0 + 16_384.0);
    let expected = (g * 4.75 + d * 8.375) / 1e9;
    let found = report["convolution_gflop_per_image"].as_f64().unwrap();
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}
