//! Whatever is wrong with a command is said on one line, with exit code 1: no panic, no backtrace. Bad files have a table of
//! their own, `bad_inputs.rs`.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::path::PathBuf;

struct Stage {
    folder: tempfile::TempDir,
    generator: PathBuf,
    discriminator: PathBuf,
    data: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (generator, discriminator) = common::pair16();
        let data = folder.path().join("pictures");
        common::picture_folder(&data, 4, 16);
        Self { folder, generator, discriminator, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A finetune command that would work, but for `changes`: flags that come later win.
    fn finetune(&self, changes: &[&str]) -> assert_cmd::Command {
        let pair = (self.generator.clone(), self.discriminator.clone());
        Finetune::new(&pair, &self.data, &self.path("runs")).with(["--kimg", "0.008"]).with(changes).command()
    }
}

/// Exit code 1 and a last line that is the only error and holds all `words`.
fn refuses(command: &mut assert_cmd::Command, words: &[&str]) {
    let output = command.assert().code(1).get_output().clone();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(errors[0]), "the error is the last line: {text}");
    for word in words {
        assert!(errors[0].contains(word), "'{word}' is not in '{}'", errors[0]);
    }
    for never in ["panicked", "Exception raised", "frame #", "RUST_BACKTRACE", "Traceback"] {
        assert!(!text.contains(never), "'{never}' in {text}");
    }
}

#[test]
fn options_out_of_range_are_refused_together() {
    let stage = Stage::new();
    refuses(&mut stage.finetune(&["--root-k", "0"]), &["--root-k", "at least 1, not 0", "default is 20"]);
    refuses(&mut stage.finetune(&["--root-k", "-3", "--g-lr", "0"]), &["not -3", "--g-lr must be above 0"]);
    refuses(&mut stage.finetune(&["--root-slope-cap", "0"]), &["slope cap must be finite and above 0"]);
    refuses(&mut stage.finetune(&["--micro-batch", "3"]), &["--batch 8 is not divisible by --micro-batch 3"]);
    refuses(&mut stage.finetune(&["--batch", "6"]), &["groups of 4 images", "a multiple of 4 as --batch, not 6"]);
    refuses(&mut stage.finetune(&["--loss", "logistic", "--root-k", "3"]), &["belongs to --loss rooted"]);
    refuses(&mut stage.finetune(&["--aug", "fixed"]), &["--aug fixed needs --p"]);
    refuses(&mut stage.finetune(&["--aug", "fixed", "--p", "36"]), &["--p must be from 0 to 1, not 36"]);
    refuses(&mut stage.finetune(&["--augpipe", "bcg"]), &["'bcg' is unknown", "bgcfnc"]);
    for more in [&[][..], &["--dry-run"]] {
        let measured = |names, detector| {
            let metrics = ["--metrics", names, "--detector", detector];
            stage.finetune(&[&metrics[..], more].concat())
        };
        refuses(&mut measured("fid5k,fdi5k", "no/such.pt"), &["--metrics: ", "fdi5k"]);
        refuses(&mut measured("fid5k", "no/such.pt"), &["no/such.pt"]);
    }
    assert!(!stage.path("runs").exists(), "a refused run leaves no folder");
}

#[test]
fn a_pair_that_does_not_fit_names_both_files_and_sizes() {
    let stage = Stage::new();
    let (generator, _) = common::shipped_pair("net_uncond_r32.safetensors");
    let other = common::text(&generator);
    let words = [other, "discriminator.pt", "makes 32x32 images", "expects 16x16"];
    refuses(&mut stage.finetune(&["--generator", other]), &words);
    let (_, discriminator) = common::shipped_pair("net_cond_r16_clamp.safetensors");
    refuses(&mut stage.finetune(&["--discriminator", common::text(&discriminator)]), &["0 classes", "3"]);
}

#[test]
fn a_folder_without_usable_pictures_says_what_else_it_has() {
    let stage = Stage::new();
    let folder = stage.path("others");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("readme.txt"), "hello").unwrap();
    let refused = |words: &[&str]| refuses(&mut stage.finetune(&["--data", common::text(&folder)]), words);
    refused(&["no pictures in", "1 other file: 1 txt"]);
    std::fs::write(folder.join("a.jpg"), "not a jpeg").unwrap();
    refused(&["1 of 1 are unreadable", "a.jpg", "not png, jpeg"]);
}

#[test]
fn more_than_a_tenth_of_bad_pictures_is_an_error_and_a_tenth_is_not() {
    let stage = Stage::new();
    common::picture_folder(&stage.data, 9, 16);
    std::fs::write(stage.data.join("cut.png"), &std::fs::read(stage.data.join("picture000.png")).unwrap()[..60])
        .unwrap();
    stage.finetune(&["--dry-run"]).assert().success();
    std::fs::write(stage.data.join("second.png"), "x").unwrap();
    refuses(&mut stage.finetune(&["--dry-run"]), &["2 of 11 are unreadable", "cut.png"]);
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_reason() {
    let stage = Stage::new();
    refuses(&mut stage.finetune(&["--device", "cuda:99"]), &["cuda:99", "cannot use device"]);
    refuses(&mut stage.finetune(&["--device", "tpu"]), &["unknown device 'tpu'", "auto, cpu, cuda"]);
    if !tch::utils::has_cuda() {
        refuses(&mut stage.finetune(&["--device", "cuda"]), &["cannot use device 'cuda'", "pass --device cpu"]);
    }
}

#[test]
fn runs_are_not_written_into_the_pictures() {
    let stage = Stage::new();
    let inside = stage.data.join("runs");
    refuses(&mut stage.finetune(&["--outdir", common::text(&inside)]), &["lies in the picture folder"]);
}

#[test]
fn values_that_no_flag_takes_are_said_on_one_line() {
    let stage = Stage::new();
    refuses(&mut stage.finetune(&["--grid", "wide"]), &["COLUMNSxROWS"]);
    refuses(&mut stage.finetune(&["--batch", "100000000000"]), &["--batch 100000000000 is more than"]);
    refuses(&mut stage.finetune(&["--seed", "-1"]), &["invalid value '-1'", "--seed"]);
}

#[test]
fn what_is_missing_is_asked_for() {
    refuses(common::rootgan().arg("finetune"), &["--generator G.pt", "--discriminator D.pt"]);
    let (generator, discriminator) = common::pair16();
    let pair = ["--generator", common::text(&generator), "--discriminator", common::text(&discriminator)];
    refuses(common::rootgan().arg("finetune").args(pair), &["--data is missing", "--outdir is missing"]);
}

/// Judges one image too many in every other batch of eight, so that the losses of generated and real images do not add up.
const ERRATIC: &str = r#"
class D(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = (images * self.weight).square().mean(dim=[1, 2, 3]).unsqueeze(1)
        if images.shape[0] < 8:
            return logits
        self.calls.add_(1)
        if int(self.calls.item()) % 2 == 1:
            return logits
        return torch.cat([logits, logits[:1]])

net = D()
"#;

#[test]
fn where_something_failed_that_should_not_is_in_the_log_and_with_v_on_the_terminal() {
    let stage = Stage::new();
    let d = stage.path("d.pt");
    common::scripted(&d, ERRATIC);
    let regular = ["--r1-gamma", "0", "--pl-weight", "0", "--aug", "noaug", "--pairing", "none"];
    let options = [&regular[..], &["--discriminator", common::text(&d)]].concat();
    let place = "it happened at ";
    let mut command = stage.finetune(&options);
    refuses(&mut command, &["phase Dmain of iteration 0", "must match the size"]);
    let log = std::fs::read_to_string(stage.path("runs/00000-pictures-rooted20-batch8/log.txt")).unwrap();
    assert!(log.contains(place) && log.contains("src/train/iteration.rs:"), "{log}");
    let output = stage.finetune(&options).arg("-v").assert().code(1).get_output().clone();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("src/train/iteration.rs:") && text.lines().last().unwrap().starts_with("error: "), "{text}");
}

#[test]
fn a_quiet_command_tells_only_results_warnings_and_errors() {
    let stage = Stage::new();
    let output = stage.finetune(&["-q", "--aug", "noaug"]).assert().success().get_output().clone();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("run directory: "));
    refuses(&mut stage.finetune(&["--quiet", "--batch", "0"]), &["--batch must be at least 1"]);
    let output = stage.finetune(&["-v", "--aug", "noaug"]).assert().success().get_output().clone();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("networks loaded and tried out: ") && text.contains("checkpoint at 0.0 kimg: "), "{text}");
}
