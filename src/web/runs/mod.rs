//! The section *Runs*: the list of runs, and for each its numbers, grids and log as JSON and PNG below `/api/runs`.

pub mod catalog;
pub mod files;
pub mod locks;
pub mod metrics;
pub mod results;
pub mod run;
pub mod statistics;
mod tail;
pub mod warnings;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use self::catalog::Catalog;
use self::files::Grid;
use self::run::WatchedRun;
use super::answer::{Content, file, json_of, problem};
use super::site::{Asset, Section, UPLOT};

/// Bytes of a log in one answer.
const LOG_BYTES: u64 = 64 << 10;

/// Files of the page.
const ASSETS: [Asset; 10] = [
    Asset { name: "app.js", content: Content::JavaScript, text: include_str!("../page/app.js") },
    Asset { name: "source.js", content: Content::JavaScript, text: include_str!("../page/source.js") },
    Asset { name: "format.js", content: Content::JavaScript, text: include_str!("../page/format.js") },
    Asset { name: "list.js", content: Content::JavaScript, text: include_str!("../page/list.js") },
    Asset { name: "run.js", content: Content::JavaScript, text: include_str!("../page/run.js") },
    Asset { name: "comparison.js", content: Content::JavaScript, text: include_str!("../page/comparison.js") },
    Asset { name: "plots.js", content: Content::JavaScript, text: include_str!("../page/plots.js") },
    Asset { name: "grids.js", content: Content::JavaScript, text: include_str!("../page/grids.js") },
    Asset { name: "uPlot.js", content: Content::JavaScript, text: UPLOT },
    Asset { name: "uPlot.css", content: Content::Css, text: include_str!("../page/vendor/uPlot.min.css") },
];

/// Makes the section of the runs that a catalog finds.
pub fn section(catalog: Arc<Catalog>) -> Section {
    let api = Router::new()
        .route("/", get(list))
        .route("/{id}", get(summary))
        .route("/{id}/curves", get(curves))
        .route("/{id}/log", get(log))
        .route("/{id}/grids/{name}", get(grid))
        .with_state(catalog);
    Section {
        path: "/",
        title: "Runs",
        head: include_str!("../page/head.html"),
        main: include_str!("../page/runs.html"),
        assets: &ASSETS,
        api,
    }
}

type Runs = State<Arc<Catalog>>;

/// Answers with what `work` makes of a run; reading files would block the server's only thread.
async fn of_run(
    catalog: Arc<Catalog>,
    id: String,
    work: impl FnOnce(&WatchedRun) -> Response + Send + 'static,
) -> Response {
    blocking(move || match catalog.find(&id) {
        Some(run) => work(&run),
        None => problem(StatusCode::NOT_FOUND, "there is no such run; it may have been moved or removed"),
    })
    .await
}

async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let failed = |_| problem(StatusCode::INTERNAL_SERVER_ERROR, "reading the run failed");
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

async fn list(State(catalog): Runs, headers: HeaderMap) -> Response {
    blocking(move || {
        json_of(&headers, &json!({ "runs": catalog.runs().iter().map(|run| entry(run)).collect::<Vec<_>>() }))
    })
    .await
}

/// Returns a run's line in the list.
fn entry(run: &WatchedRun) -> Value {
    let mut summary = run.summary();
    let metric = summary.metrics.first().map(|series| {
        json!({ "metric": series.metric, "last": series.first_values().last(), "best": series.best(), "lower_is_better": series.lower_is_better })
    });
    let grid = summary.grids.iter().rfind(|grid| grid.kimg.is_some()).cloned();
    let warnings: Vec<&str> = summary.warnings.iter().map(|warning| warning.rule).collect();
    let about: serde_json::Map<String, Value> = ["loss", "root_k", "r1_gamma", "batch", "data", "seed"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), summary.options.remove(name)?)))
        .collect();
    json!({
        "id": run.id, "name": summary.name, "group": summary.group, "arm": summary.arm, "state": summary.state,
        "kimg": summary.kimg, "total_kimg": summary.total_kimg, "last_time": summary.last_time,
        "end_time": summary.end_time, "metric": metric, "grid": grid, "warnings": warnings, "about": about,
    })
}

async fn summary(State(catalog): Runs, Path(id): Path<String>, headers: HeaderMap) -> Response {
    of_run(catalog, id, move |run| json_of(&headers, &run.summary())).await
}

/// The place up to which a client has the curves.
#[derive(Deserialize)]
struct Had {
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    rows: usize,
}

async fn curves(State(catalog): Runs, Path(id): Path<String>, Query(had): Query<Had>, headers: HeaderMap) -> Response {
    of_run(catalog, id, move |run| json_of(&headers, &run.curves(had.generation, had.rows))).await
}

/// The byte up to which a client has the log; without it, the end of the log is sent.
#[derive(Deserialize)]
struct LogPlace {
    from: Option<u64>,
}

async fn log(
    State(catalog): Runs,
    Path(id): Path<String>,
    Query(place): Query<LogPlace>,
    headers: HeaderMap,
) -> Response {
    of_run(catalog, id, move |run| {
        match run.folder.open("log.txt").and_then(|log| files::log_part(log, place.from, LOG_BYTES)) {
            Ok(part) => json_of(&headers, &part),
            Err(_) => problem(StatusCode::NOT_FOUND, "this run has no log"),
        }
    })
    .await
}

async fn grid(State(catalog): Runs, Path((id, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    of_run(catalog, id, move |run| {
        // Only names that grids have are opened.
        match Grid::from_file_name(&name).and_then(|grid| run.folder.open(&grid.file_name()).ok()) {
            Some(picture) => file(&headers, Content::Png, picture),
            None => problem(StatusCode::NOT_FOUND, "this run has no such grid"),
        }
    })
    .await
}
