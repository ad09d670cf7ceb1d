//! The section *Explore*: pictures of generators as a page asks for them, made on one thread that owns the generators.
//!
//! A picture is made in the very way of `rootgan generate`, so that a saved one equals what the command shown with it
//! writes. A request whose page has already asked for something newer is passed over.

mod generators;
mod view;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

use anyhow::{Context, Error, Result, anyhow};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use tch::Device;
use tokio::sync::oneshot;

use self::generators::Generators;
use self::view::{AskedView, view_of};
use self::worker::{Request, Wish, Worker};
use super::answer::{Content, constant, json_of, problem};
use super::runs::catalog::Catalog;
use super::site::{Asset, Section};

/// Requests that may wait for the thread.
const MOST_WAITING: usize = 64;

/// Files of the page.
const ASSETS: [Asset; 2] = [
    Asset { name: "explore.js", content: Content::JavaScript, text: include_str!("../page/explore.js") },
    Asset { name: "explore.css", content: Content::Css, text: include_str!("../page/explore.css") },
];

/// The way to the thread that makes pictures.
struct Explorer {
    generators: Arc<Generators>,
    requests: SyncSender<Request>,
}

/// Makes the section of the generators in `named` (the names that the user gave, and their files) and of the snapshots of
/// the catalog's runs.
///
/// # Errors
/// The system refuses a thread.
pub fn section(named: Vec<(PathBuf, PathBuf)>, catalog: Arc<Catalog>, device: Device) -> Result<Section> {
    let api = Router::new()
        .route("/", get(list))
        .route("/picture", get(picture_of))
        .route("/ws", get(ws_of))
        .route("/command", get(command_of))
        .with_state(Arc::new(Explorer::start(named, catalog, device)?));
    Ok(Section {
        path: "/explore",
        title: "Explore",
        head: "<link rel=\"stylesheet\" href=\"/assets/explore.css\">\n<script type=\"module\" src=\"/assets/explore.js\"></script>",
        main: include_str!("../page/explore.html"),
        assets: &ASSETS,
        api,
    })
}

async fn list(State(explorer): State<Arc<Explorer>>, headers: HeaderMap) -> Response {
    let listed = tokio::task::spawn_blocking(move || explorer.generators.list()).await.unwrap_or_default();
    json_of(&headers, &json!({ "generators": listed }))
}

async fn picture_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    answer(&headers, Content::Png, explorer.ask(asked, Wish::Picture).await)
}

async fn ws_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    answer(&headers, Content::Binary, explorer.ask(asked, Wish::Ws).await)
}

async fn command_of(State(explorer): State<Arc<Explorer>>, headers: HeaderMap, asked: AskedView) -> Response {
    // Looking for a snapshot reads folders, and would block the server's only thread.
    let command = tokio::task::spawn_blocking(move || explorer.generators.command(&view_of(asked)?)).await;
    answer(&headers, Content::Text, command.map_err(Error::from).flatten().map(String::into_bytes))
}

fn answer(headers: &HeaderMap, content: Content, outcome: Result<Vec<u8>>) -> Response {
    match outcome {
        Ok(bytes) => constant(headers, content, bytes),
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

impl Explorer {
    /// Starts the thread. `named` are generators by the names that the user gave, and their files.
    ///
    /// # Errors
    /// The system refuses a thread.
    fn start(named: Vec<(PathBuf, PathBuf)>, catalog: Arc<Catalog>, device: Device) -> Result<Self> {
        let generators = Arc::new(Generators::new(named, catalog));
        let (requests, received) = sync_channel(MOST_WAITING);
        let worker = Worker::new(Arc::clone(&generators), device);
        let work = move || worker.work(&received);
        Builder::new().name("explore".to_owned()).spawn(work).context("cannot start the thread that makes pictures")?;
        Ok(Self { generators, requests })
    }

    async fn ask(&self, asked: AskedView, wish: Wish) -> Result<Vec<u8>> {
        let view = view_of(asked)?;
        view.plan()?;
        let (reply, answer) = oneshot::channel();
        let request = Request { view, wish, reply };
        self.requests.try_send(request).map_err(|_| anyhow!("too many pictures are waiting; try again"))?;
        answer.await.context("this was passed over for something newer")?
    }
}
