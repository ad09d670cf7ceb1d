//! `rootgan report`: a run or a comparison as one HTML file that needs no network, under 5 MB.

mod pictures;
mod private;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::pictures::ReportPictures;
use super::runs::catalog::Catalog;
use super::runs::files::{Folder, log_part};
use super::runs::results::ComparisonResults;
use super::runs::run::{WatchedRun, now};
use super::site::UPLOT;
use crate::run::comparison::{Arm, Comparison};

/// The largest file: mail and chat programs take so much.
const MAX_BYTES: usize = 5_000_000;
/// The most runs of a comparison.
const MAX_RUNS: usize = 60;
/// Bytes of a log, for the only run of a report and for one of several.
const LOG_BYTES: (u64, u64) = (100_000, 4_000);
/// Rows of statistics in all, and the fewest and most of one run.
const ALL_ROWS: usize = 3000;
const ROWS: (usize, usize) = (50, 1000);

const SHELL: &str = include_str!("../page/report.html");
const STYLES: [&str; 2] = [include_str!("../page/vendor/uPlot.min.css"), include_str!("../page/style.css")];
/// The modules of the page, each after those that it imports from.
const MODULES: [&str; 8] = [
    include_str!("../page/source.js"),
    include_str!("../page/format.js"),
    include_str!("../page/plots.js"),
    include_str!("../page/grids.js"),
    include_str!("../page/list.js"),
    include_str!("../page/run.js"),
    include_str!("../page/comparison.js"),
    include_str!("../page/app.js"),
];

/// Makes the report of a run's folder or a comparison's.
///
/// # Errors
/// There is no run in the folder, or too much for one file.
pub fn of_folder(folder: &Path) -> Result<String> {
    let shown = folder.display();
    let path = std::fs::canonicalize(folder)
        .with_context(|| format!("cannot read '{shown}'; pass the folder of a run or comparison"))?;
    let runs = Catalog::new(std::slice::from_ref(&path))?.runs();
    let results = ComparisonResults::read(&Folder::new(path.clone()));
    let is_run = runs.first().is_some_and(|run| run.folder.path() == path);
    let title = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rows = (ALL_ROWS / runs.len().max(1)).clamp(ROWS.0, ROWS.1);
    let mut entries: Vec<Value> = runs.iter().take(MAX_RUNS).map(|run| entry(run, rows, is_run)).collect();
    let mut lines = results.as_ref().map_or_else(Vec::new, |results| results.setting.clone());
    if let (Some(ComparisonResults { comparison, .. }), true) = (&results, runs.is_empty()) {
        // The runs may be gone, as their networks are large; the results tell the distances still.
        entries = comparison.arms.iter().map(|arm| entry_of_results(comparison, arm)).collect();
        lines.push("The folders of the runs are not there any more: this is what results.json has.".to_owned());
    }
    ensure!(!entries.is_empty(), "'{shown}' holds no run and no comparison; pass the folder of one");
    if runs.len() > MAX_RUNS {
        lines.push(format!("Of {} runs the first {MAX_RUNS} are shown.", runs.len()));
    }
    let mut report = json!({
        "kind": if is_run { "run" } else { "comparison" },
        "title": title, "made": now(), "version": env!("CARGO_PKG_VERSION"), "lines": lines, "runs": entries,
    });
    let room = MAX_BYTES.checked_sub(page(&title, &report).len() + MAX_BYTES / 100);
    let room = room.with_context(|| format!("'{shown}' has too much for one file; make a report of a single run"))?;
    let mut pictures = if is_run {
        ReportPictures::of_run(&runs[0])?
    } else {
        ReportPictures::of_runs(&runs[..runs.len().min(MAX_RUNS)])?
    };
    pictures.put_into(&mut report["runs"], room)?;
    Ok(page(&title, &report))
}

/// Returns everything about a run but its pictures.
fn entry(run: &WatchedRun, rows: usize, is_only: bool) -> Value {
    let summary = run.summary();
    let shorten = private::Shortener::new(&summary.options, run.folder.path());
    let most = if is_only { LOG_BYTES.0 } else { LOG_BYTES.1 };
    let log = run.folder.open("log.txt").and_then(|log| log_part(log, None, most)).ok();
    let log = log.map_or(
        json!({ "from": 0, "next": 0, "text": "" }),
        |part| json!({ "from": part.from, "next": part.next, "text": shorten.text(&part.text) }),
    );
    let mut summary = json!(summary);
    summary["options"] = shorten.options();
    if let Some(words) = summary["last_words"].as_str() {
        summary["last_words"] = json!(shorten.text(words));
    }
    json!({ "id": run.id, "summary": summary, "curves": run.curves_within(rows), "log": log, "pictures": {} })
}

/// Returns what the results of a comparison tell about a run whose folder is gone.
fn entry_of_results(comparison: &Comparison, arm: &Arm) -> Value {
    let points: Vec<Value> =
        arm.points.iter().map(|point| json!({ "kimg": point.kimg, "values": [point.value] })).collect();
    let series = json!({
        "metric": comparison.metric, "measure": comparison.measure, "detector": comparison.detector,
        "names": [comparison.metric], "lower_is_better": true, "points": points,
    });
    let kimg = arm.points.last().map_or(0.0, |point| point.kimg);
    let state = if arm.ended.is_some() { "stopped" } else { "finished" };
    let summary = json!({
        "name": arm.words(), "group": "", "arm": arm.words(), "arm_ended": arm.ended, "state": state, "kimg": kimg, "warnings": [],
        "metrics": [series], "grids": [], "options": {}, "rows": 0, "generation": 0, "log_bytes": 0,
    });
    let curves = json!({ "generation": 0, "first": 0, "rows": 0, "columns": {} });
    json!({ "id": arm.words(), "summary": summary, "curves": curves, "log": { "from": 0, "next": 0, "text": "" }, "pictures": {} })
}

/// Puts the data and everything that the page needs into one file. A browser runs and loads nothing else of it.
fn page(title: &str, report: &Value) -> String {
    let (style, script) = (STYLES.concat(), bundle());
    let hashes = [UPLOT, &script].map(hash_for_browser).join(" ");
    let policy =
        format!("default-src 'none'; img-src data:; style-src {}; script-src {hashes}", hash_for_browser(&style));
    // A tag in the data would end the element that holds them.
    let data = report.to_string().replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let parts = [
        ("policy", &*policy),
        ("title", &title),
        ("style", &style),
        ("uplot", UPLOT),
        ("script", &script),
        ("data", &data),
    ];
    // The data come last, so that nothing in them is taken for a place to fill.
    parts.iter().fold(SHELL.to_owned(), |page, (name, text)| page.replace(&format!("{{{{{name}}}}}"), text))
}

/// Joins the modules into one, which needs no imports: each name is there once.
fn bundle() -> String {
    let lines = MODULES.iter().flat_map(|module| module.lines()).filter(|line| !line.starts_with("import "));
    lines.map(|line| format!("{}\n", line.strip_prefix("export ").unwrap_or(line))).collect()
}

fn hash_for_browser(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_become_one_script_without_imports() {
        let script = bundle();
        assert!(!script.lines().any(|line| line.starts_with("import ") || line.starts_with("export ")));
        assert!(!script.contains("</script") && !UPLOT.contains("</script"));
        let mut names: Vec<&str> = Vec::new();
        for line in script.lines() {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let kind = words.next().unwrap_or_default();
            if ["const", "let", "function", "class"].contains(&kind) {
                names.extend(words.next().filter(|name| !name.is_empty()));
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name is there twice: {names:?}");
        assert!(count > 30, "{count}");
    }

    #[test]
    fn text_of_a_run_cannot_leave_its_place_in_the_file() {
        let html = page("</title><b>", &json!({ "runs": [], "x": "</script><script>alert(1)</script>{{script}}" }));
        assert!(!html.contains("alert(1)</script>") && !html.contains("</title><b>"));
        assert_eq!(html.matches("</script>").count(), 3);
        assert!(html.contains("{{script}}"), "what looks like a place in the data stays as it is");
    }

    #[test]
    fn a_comparison_whose_runs_are_gone_is_told_by_its_results() {
        let html = of_folder("samples/compare-cats".as_ref()).unwrap();
        assert!(html.contains("paired k2, seed 0") && html.contains("fid2k_full"));
        assert!(html.len() < 300_000, "{}", html.len());
        let nothing = tempfile::tempdir().unwrap();
        assert!(of_folder(nothing.path()).unwrap_err().to_string().contains("holds no run"));
    }
}
