//! `rootgan compare` from end to end on a 16x16 pair: what it writes, and that an interruption changes nothing.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;
use serde_json::Value;

const DETECTOR: &str = "\
class Detector(torch.nn.Module):
    def forward(self, img: torch.Tensor, return_features: bool = False):
        x = img.to(torch.float32) / 255
        return torch.cat([x.mean(dim=[2, 3]), x[:, :, :8].mean(dim=[2, 3])], dim=1)
net = Detector()
";

struct Stage {
    place: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        common::scripted(&place.path().join("detector.pt"), DETECTOR);
        common::picture_folder(&place.path().join("discs"), 12, 16);
        Self { place }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn compare(&self, name: &str, more: &[&str]) -> Command {
        let (generator, discriminator) = common::pair16();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
        command
            .args(["compare", "--device", "cpu", "--losses", "logistic,rooted:2", "--seeds", "2", "--batch", "8"])
            .args(["--kimg", "0.096", "--eval-kimg", "0.032", "--metrics", "fid20_full", "--grid", "2x2"])
            .args(["--checkpoint-minutes", "0"])
            .arg("--generator")
            .arg(generator)
            .arg("--discriminator")
            .arg(discriminator)
            .arg("--data")
            .arg(self.place.path().join("discs"))
            .arg("--detector")
            .arg(self.place.path().join("detector.pt"))
            .arg("--out")
            .arg(self.out(name))
            .args(more)
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.place.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn tune(&self, more: &[&str]) -> Command {
        let (generator, discriminator) = common::pair16();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
        command
            .args(["tune", "--kimg", "0.064", "--metrics", "fid20_full", "--out", "tuned"])
            .args(["--device", "cpu", "--batch", "8", "--grid", "2x2", "--detector", "detector.pt", "--data", "discs"])
            .arg("--generator")
            .arg(generator)
            .arg("--discriminator")
            .arg(discriminator)
            .args(more)
            .current_dir(self.place.path())
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.out("cache"));
        command
    }
}

/// Loss, seed, and kimg and metric at each evaluation.
type Curve = (String, u64, Vec<(f64, f64)>);

fn curves(out: &Path) -> Vec<Curve> {
    let results: Value = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let arms = results["comparison"]["arms"].as_array().unwrap().clone();
    let point = |point: &Value| (point["kimg"].as_f64().unwrap(), point["value"].as_f64().unwrap());
    let arm = |arm: &Value| {
        let points = arm["points"].as_array().unwrap().iter().map(point).collect();
        (arm["name"].as_str().unwrap().to_owned(), arm["seed"].as_u64().unwrap(), points)
    };
    arms.iter().map(arm).collect()
}

/// The folders of runs, in the order of their names.
fn runs_in(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    let mut runs: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    runs.sort();
    runs
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn losses_and_seeds_are_run_measured_and_reported_and_an_interruption_changes_nothing() {
    let stage = Stage::new();
    succeed(stage.compare("whole", &[]));
    let whole = stage.out("whole");
    let found = curves(&whole);
    let arms: Vec<_> = found.iter().map(|(loss, seed, _)| (loss.as_str(), *seed)).collect();
    assert_eq!(arms, [("logistic", 0), ("logistic", 1), ("rooted, k = 2", 0), ("rooted, k = 2", 1)]);
    for (loss, seed, points) in &found {
        let kimg: Vec<f64> = points.iter().map(|point| point.0).collect();
        assert_eq!(kimg, [0.0, 0.04, 0.072, 0.096], "{loss} {seed}");
        // The same weights at the start, whatever the loss and the seed; afterwards each goes its own way.
        assert_eq!(points[0].1, found[0].2[0].1);
    }
    let ends: Vec<u64> = found.iter().map(|(_, _, points)| points.last().unwrap().1.to_bits()).collect();
    assert!((1..4).all(|i| !ends[..i].contains(&ends[i])), "four different runs");
    let report = fs::read_to_string(whole.join("report.md")).unwrap();
    for words in ["| rooted, k = 2 |", "Baseline: logistic", "over 2 seeds", "--kimg 0.096"] {
        assert!(report.contains(words), "'{words}' is not in:\n{report}");
    }
    assert!(!report.contains(common::text(stage.place.path())), "no path of the machine is in the report");
    for name in ["results.csv", "metric-vs-kimg.png", "metric-vs-kimg.svg", "metric-vs-time.png"] {
        assert!(whole.join(name).is_file(), "{name}");
    }

    // Killed in the second run, then called again.
    let mut child = stage.compare("killed", &[]).stderr(Stdio::null()).spawn().unwrap();
    let second = stage.out("killed").join("rooted2-seed0/checkpoints/000000000040");
    let begun = Instant::now();
    while !second.exists() && begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!stage.out("killed").join("report.md").exists());
    succeed(stage.compare("killed", &[]));
    assert_eq!(curves(&stage.out("killed")), found);

    // Complete runs are not trained again, and another comparison does not get into the folder.
    let statistics = || -> Vec<_> {
        runs_in(&whole).into_iter().map(|run| (fs::read(run.join("stats.jsonl")).unwrap(), run)).collect()
    };
    let before = statistics();
    assert_eq!(before.len(), 4);
    succeed(stage.compare("whole", &[]));
    assert_eq!(curves(&whole), found);
    assert!(statistics() == before, "a run was trained again");
    // Nor are those whose networks were deleted.
    for run in runs_in(&whole) {
        for file in fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()) {
            if file.is_dir() {
                fs::remove_dir_all(file).unwrap();
            } else if !["json", "jsonl", "png"].iter().any(|kept| file.extension().is_some_and(|end| end == *kept)) {
                fs::remove_file(file).unwrap();
            }
        }
    }
    succeed(stage.compare("whole", &[]));
    assert_eq!(curves(&whole), found);
    assert!(statistics() == before, "a run without networks was trained again");
    assert!(runs_in(&whole).iter().all(|run| !run.join("checkpoints").exists()), "a run without networks was begun");
    let refused = stage.compare("whole", &["--r1-gamma", "3"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("comparison with other options"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let stage = Stage::new();
    for (flags, words) in [
        (&["--losses", "hinge"][..], "'hinge' is no loss to compare"),
        (&["--loss", "logistic"], "the losses are those of --losses"),
        (&["--metrics", "is20"], "less has to be better"),
        (&["--losses", "logistic,logistic"], "is there twice"),
        (&["--seeds", "0"], "--seeds 1 or more"),
    ] {
        let mut command = assert_cmd::Command::from_std(stage.compare("out", flags));
        command.assert().code(1).stderr(contains(words));
    }
}

/// A mistake that only the networks or the pictures show leaves nothing behind, so the call can be corrected.
#[test]
fn a_mistake_in_the_last_arm_is_told_before_the_first_is_trained() {
    let stage = Stage::new();
    let arms = |arm: &'static str| ["--losses", "logistic", "--arm", arm, "--seeds", "1", "--kimg", "0.032"];
    for (flags, words) in [
        (arms("b: --aug fixed").to_vec(), ["the arm 'b'", "--p"]),
        (arms("b: --root-k 0.5").to_vec(), ["the arm 'b'", "root-k"]),
        ([&arms("b: --aug fixed --p 0.2")[..], &["--data", "nowhere"]].concat(), ["the arm 'logistic'", "nowhere"]),
    ] {
        let mut command = assert_cmd::Command::from_std(stage.compare("out", &flags));
        words.into_iter().fold(command.assert().code(1), |done, word| done.stderr(contains(word)));
        assert_eq!(runs_in(&stage.out("out")), Vec::<PathBuf>::new());
    }
    succeed(stage.compare("out", &arms("b: --aug fixed --p 0.2")));
    assert_eq!(curves(&stage.out("out")).len(), 2);
    let report = fs::read_to_string(stage.out("out/report.md")).unwrap();
    assert!(report.contains("Trained by rootgan") && report.contains(", 1 thread"), "{report}");
}

/// The same of `tune`, whose first gamma would be the one that fails.
#[test]
fn a_mistaken_search_can_be_corrected() {
    let stage = Stage::new();
    let mistaken = stage.tune(&["--gammas", "1", "--data", "nowhere"]);
    assert_cmd::Command::from_std(mistaken).assert().code(1).stderr(contains("nowhere"));
    assert_eq!(runs_in(&stage.out("tuned")), Vec::<PathBuf>::new());
    succeed(stage.tune(&["--gammas", "1"]));
}

/// Removes what a version in which no pairs were the default did not write.
fn forget_pairing(record: &mut Value) {
    match record {
        Value::Object(members) => {
            members.remove("pairing");
            members.values_mut().for_each(forget_pairing);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_pairing),
        _ => {}
    }
}

/// A name keeps its meaning where the default changes: an arm of before goes on without pairs if the call says so, and is refused
/// otherwise. So is a search.
#[test]
fn comparisons_of_before_pairs_were_the_default_are_no_mixture_of_both() {
    let stage = Stage::new();
    let short = ["--seeds", "1", "--kimg", "0.016", "--eval-kimg", "0.016"];
    let options_of =
        |run: &str| serde_json::from_slice(&fs::read(stage.out(run).join("training_options.json")).unwrap());
    let form = |run: &str| {
        let options: Value = options_of(run).unwrap();
        (options["pairing"].as_str().unwrap().to_owned(), options["r2_gamma"].as_f64().unwrap())
    };
    let old = |name: &str| {
        let path = stage.out(name).join("compare.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        forget_pairing(&mut record);
        fs::write(path, record.to_string()).unwrap();
    };
    let refused = |mut command: Command, words: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{said}");
    };

    let losses = [&short[..], &["--r2-gamma", "3"]].concat();
    succeed(stage.compare("losses", &losses));
    assert_eq!(form("losses/rooted2-seed0"), ("none".to_owned(), 3.0));
    old("losses");
    succeed(stage.compare("losses", &[&losses[..], &["--seeds", "2"]].concat()));
    assert_eq!(form("losses/rooted2-seed1"), ("none".to_owned(), 3.0));
    refused(stage.compare("losses", &[&losses[..], &["--pairing", "relativistic"]].concat()), "with other options");

    let arm = |flags: &'static str| [&short[..], &["--losses", "logistic", "--arm", flags]].concat();
    succeed(stage.compare("arm", &arm("a: --root-k 20 --pairing none")));
    old("arm");
    refused(
        stage.compare("arm", &arm("a: --root-k 20")),
        r#"of {"root_k":20.0,"pairing":"none"} among its arms, now it is {"root_k":20.0,"pairing":"relativistic"}"#,
    );
    succeed(stage.compare("arm", &arm("a: --root-k 20 --pairing none")));
    succeed(stage.compare("arm", &arm("b: --root-k 20")));
    assert_eq!((form("arm/a-seed0").0.as_str(), form("arm/b-seed0").0.as_str()), ("none", "relativistic"));
    let report = fs::read_to_string(stage.out("arm/report.md")).unwrap();
    assert!(report.contains("b: `--root-k 20.0 --pairing relativistic`"), "{report}");

    let tune = |more: &[&str]| stage.tune(&[&["--gammas", "2", "--kimg", "0.032"], more].concat());
    succeed(tune(&["--pairing", "none"]));
    old("tuned");
    refused(tune(&[]), "with other options");
    succeed(tune(&["--pairing", "none"]));
}

/// What was stopped as hopeless is trained where nobody asks for that any more.
#[test]
fn a_stopped_arm_goes_on_without_stop_hopeless() {
    let stage = Stage::new();
    let arms = ["--losses", "logistic", "--arm", "hasty: --loss logistic --g-lr 0.5", "--seeds", "1"];
    let report = || fs::read_to_string(stage.out("out/report.md")).unwrap();
    succeed(stage.compare("out", &[&arms[..], &["--stop-hopeless", "1.01"]].concat()));
    assert!(report().contains("hasty, seed 0, has no end") && report().contains("1.01 times"), "{}", report());
    succeed(stage.compare("out", &arms));
    assert!(!report().contains("has no end"), "{}", report());
    let curves = curves(&stage.out("out"));
    assert!(curves.iter().all(|(.., points)| points.last().unwrap().0 == 0.096), "{curves:?}");
    // What the report leaves out is told, and several data sets would lie elsewhere.
    let fewer = stage.compare("out", &["--losses", "logistic", "--seeds", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&fewer.stderr);
    assert!(fewer.status.success() && said.contains("the report leaves hasty out"), "{said}");
    let several = stage.compare("out", &[&arms[..], &["--more-data", "more"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&several.stderr);
    assert!(!several.status.success() && said.contains("a comparison on one data set"), "{said}");
}

/// A search that was stopped between a tick and its evaluation judges the round before by what that had come to.
#[test]
fn tuning_goes_on_where_the_last_tick_was_not_measured() {
    let stage = Stage::new();
    let call = ["--gammas", "2"];
    succeed(stage.tune(&call));
    let run = stage.out("tuned/gamma2-seed0");
    let (record, metric) = (run.join("compare-complete.json"), run.join("metric-fid20_full.jsonl"));
    // As if it had been stopped in the last round: the second is done, the ticks are further than the metric.
    let lines = fs::read_to_string(&metric).unwrap();
    let early: Vec<&str> = lines.lines().filter(|line| kimg_of(line) < 0.05).collect();
    assert!(early.len() < lines.lines().count());
    fs::write(&metric, early.join("\n") + "\n").unwrap();
    fs::write(&record, r#"{ "kimg": 0.032 }"#).unwrap();
    let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let later = checkpoints
        .filter(|path| path.file_name().unwrap().to_string_lossy().parse::<u64>().is_ok_and(|images| images > 56));
    later.for_each(|path| fs::remove_dir_all(path).unwrap());
    let output = stage.tune(&call).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("NaN"), "{said}");
    let report = fs::read_to_string(stage.out("tuned/report.md")).unwrap();
    assert!(report.contains("best: r1_gamma = 2\nuse:  rootgan finetune"), "{report}");
}

fn kimg_of(line: &str) -> f64 {
    serde_json::from_str::<Value>(line).unwrap()["kimg"].as_f64().unwrap()
}

/// Named arms, values of an option, a second data set, and a run that falls apart beside one that does not.
#[test]
fn arms_of_any_options_are_compared_on_several_data_sets() {
    let stage = Stage::new();
    common::picture_folder(&stage.out("more"), 8, 16);
    let (generator, discriminator) = common::pair16();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rootgan"));
    command
        .args(["compare", "--device", "cpu", "--batch", "8", "--kimg", "0.064", "--eval-kimg", "0.016", "--seeds", "1"])
        .args(["--metrics", "fid20_full", "--grid", "2x2", "--stop-hopeless", "1.05", "--checkpoint-minutes", "0"])
        .args(["--arm", "calm: --loss logistic", "--arm", "wild: --loss logistic --g-lr 100 --d-lr 100"])
        .args(["--vary", "r1_gamma=1,2", "--generator"])
        .arg(generator)
        .arg("--discriminator")
        .arg(discriminator)
        .args(["--data", "discs", "--more-data", "more", "--detector", "detector.pt", "--out", "out"])
        .current_dir(stage.place.path())
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", stage.out("cache"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index = fs::read_to_string(stage.out("out/report.md")).unwrap();
    assert!(index.contains("## [discs](discs/report.md)") && index.contains("## [more](more/report.md)"), "{index}");
    for set in ["discs", "more"] {
        let names: Vec<String> = curves(&stage.out(&format!("out/{set}"))).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["calm, r1_gamma = 1", "calm, r1_gamma = 2", "wild, r1_gamma = 1", "wild, r1_gamma = 2"]);
        let report = fs::read_to_string(stage.out(&format!("out/{set}/report.md"))).unwrap();
        assert!(report.contains("Baseline: calm, r1_gamma = 1"), "{report}");
        assert!(report.contains("wild, r1_gamma = 1, seed 0, has no end"), "{report}");
    }
    // The same call goes on where it was: everything is complete, and what was ended stays so.
    let again = command.output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(fs::read_to_string(stage.out("out/report.md")).unwrap(), index);
}

/// The worse of two gammas ends early, and the command that is printed can be run.
#[test]
fn tuning_ends_with_a_command_that_works() {
    let stage = Stage::new();
    let mut tune = stage.tune(&["--gammas", "auto,2,50"]);
    let output = tune.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().find_map(|line| line.strip_prefix("use:  rootgan ")).unwrap();
    assert!(line.contains("--r1-gamma ") && line.contains("--data discs --outdir runs"), "{line}");
    assert!(!line.contains("--kimg") && !line.contains("--detector"), "{line}");
    assert_eq!(printed.contains("auto is as good"), printed.contains("\nor:   rootgan finetune "), "{printed}");
    let lengths: Vec<usize> = curves(&stage.out("tuned")).into_iter().map(|(_, _, points)| points.len()).collect();
    let (most, least) = (lengths.iter().max().unwrap(), lengths.iter().min().unwrap());
    assert!(lengths.len() == 3 && least < most, "{lengths:?}");
    // The report compares with the first arm, and with no run that was shorter.
    let report = fs::read_to_string(stage.out("tuned/report.md")).unwrap();
    assert!(report.contains("Baseline: r1_gamma = auto"), "{report}");
    assert!(report.contains("seed 0, has no end: it was behind after 0.0"), "{report}");

    let mut finetune = Command::new(env!("CARGO_BIN_EXE_rootgan"));
    finetune.args(shlex::split(line).unwrap()).args(["--kimg", "0.008"]);
    finetune.current_dir(stage.place.path()).env("OMP_NUM_THREADS", "1");
    let output = finetune.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The same call finds everything done.
    assert_eq!(String::from_utf8(tune.output().unwrap().stdout).unwrap(), printed);
    // Runs on other pictures do not go into the same race.
    common::picture_folder(&stage.out("more"), 8, 16);
    // A list of rates that is wrong is told before anything is trained.
    let wrong = stage.tune(&["--gammas", "auto,2,50", "--rates", "0.5,x"]).output().unwrap();
    let message = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && message.contains("cannot try 'x'") && !message.contains("kimg"), "{message}");
    let other = tune.args(["--data", "more"]).output().unwrap();
    let message = String::from_utf8(other.stderr).unwrap();
    assert!(!other.status.success() && message.contains("holds a comparison with other options"), "{message}");
}

/// In the race of the learning rates the best gamma, which is trained already, is judged where the others are.
#[test]
fn tuning_compares_runs_after_the_same_images() {
    let stage = Stage::new();
    let mut tune = stage.tune(&["--gammas", "2", "--rates", "50"]);
    let output = tune.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let of_gamma: Vec<&str> = said.lines().filter(|line| line.starts_with("r1_gamma = 2: ")).collect();
    assert_eq!(of_gamma.len(), 6, "{said}");
    assert_eq!(of_gamma[..3], of_gamma[3..], "{said}");
    let value = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    assert!(value(of_gamma[0]) != value(of_gamma[2]), "{said}");
}

/// Where everything falls apart there is nothing to recommend.
#[test]
fn tuning_recommends_nothing_where_all_fell_apart() {
    let stage = Stage::new();
    let (_, far) = common::far_off_pair(stage.place.path());
    let options = ["--discriminator", common::text(&far), "--root-k", "2", "--pairing", "none", "--max-bad-steps", "3"];
    let output = stage.tune(&["--gammas", "auto,2"]).args(options).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the arms that were left fell apart within 0.0"), "{said}");
    assert!(output.stdout.is_empty() && stage.out("tuned/report.md").is_file(), "{said}");
}

#[test]
fn an_arm_that_diverges_counts_as_fallen_apart_and_ends_nothing() {
    let stage = Stage::new();
    let (_, far) = common::far_off_pair(stage.place.path());
    let options = ["--losses", "rooted:20,rooted:2", "--seeds", "1", "--max-bad-steps", "3"];
    succeed(stage.compare("apart", &[&["--discriminator", common::text(&far)][..], &options].concat()));
    let results: Value = serde_json::from_slice(&fs::read(stage.out("apart").join("results.json")).unwrap()).unwrap();
    let arms = results["comparison"]["arms"].as_array().unwrap();
    let collapsed: Vec<_> = arms.iter().map(|arm| arm["collapsed"].as_bool().unwrap()).collect();
    assert!(collapsed[1], "{results}");
    assert!(arms[1]["ended"].as_str().unwrap().contains("steps in a row were skipped"), "{results}");
}
