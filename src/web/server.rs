//! The server: routes, limits, and the headers that every answer has.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::access::Access;
use super::explore::{Explorer, View};
use super::runs::{self, RunEntry};
use crate::system::signals::StopRequest;

/// Threads that answer; pictures are made on one of their own.
const THREADS: usize = 2;
/// Requests that are worked on at a time, and those that may wait; more are sent away at once.
const AT_A_TIME: usize = 16;
const MOST_WAITING: usize = 256;
/// The longest time for one answer.
const LONGEST: Duration = Duration::from_secs(60);
/// The time between two looks at signals.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Files of the page: name, type, content.
const PAGE: [(&str, &str, &str); 6] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("explore", "text/html; charset=utf-8", include_str!("page/explore.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("charts.js", "text/javascript; charset=utf-8", include_str!("page/charts.js")),
    ("runs.js", "text/javascript; charset=utf-8", include_str!("page/runs.js")),
    ("explore.js", "text/javascript; charset=utf-8", include_str!("page/explore.js")),
];
/// Headers of every answer: nothing from elsewhere is loaded, no other page may show this one, and no address leaves.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "private, no-cache"),
    (header::VARY, "Cookie"),
];

/// What the server shows.
pub struct Site {
    /// Folders of runs.
    pub roots: Vec<PathBuf>,
    /// Makes pictures.
    pub explorer: Explorer,
}

struct Shared {
    site: Site,
    access: Access,
    working: Semaphore,
    waiting: Semaphore,
}

type Answer = Result<Response, StatusCode>;

/// Serves until a signal comes. `tell` gets the address with its token once requests are answered.
///
/// # Errors
/// The address cannot be used.
pub fn serve(site: Site, address: SocketAddr, stop: &StopRequest, tell: impl FnOnce(&str)) -> Result<()> {
    let cannot = || format!("cannot serve at {address}: is it taken? pass another --port");
    let listener = TcpListener::bind(address).with_context(cannot)?;
    listener.set_nonblocking(true).with_context(cannot)?;
    let bound = listener.local_addr()?;
    let access = Access::new(bound.port());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(AT_A_TIME)
        .enable_all()
        .build()
        .context("cannot start the server's threads")?;
    let link = format!("http://{bound}/?token={}", access.token());
    let shared =
        Arc::new(Shared { site, access, working: Semaphore::new(AT_A_TIME), waiting: Semaphore::new(MOST_WAITING) });
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tell(&link);
        let ended = async {
            while stop.received().is_none() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            served = axum::serve(listener, router(shared)) => served.context("the server ended"),
            () = ended => Ok(()),
        }
    })
}

fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new()
        .route("/api/runs", get(list_runs))
        .route("/api/runs/{id}", get(show_run))
        .route("/api/runs/{id}/pictures/{name}", get(show_picture))
        .route("/api/explore", get(list_generators))
        .route("/api/explore/picture", get(make_picture))
        .route("/api/explore/ws", get(make_ws))
        .route("/api/explore/command", get(make_command));
    for (name, kind, content) in PAGE {
        router =
            router.route(&format!("/{name}"), get(move || async move { ([(header::CONTENT_TYPE, kind)], content) }));
    }
    router.layer(from_fn_with_state(Arc::clone(&shared), guard)).with_state(shared)
}

/// Lets a request in or sends it away, and gives every answer its headers.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match let_in(&shared, &request) {
        Admission::In => within_limits(&shared, next.run(request)).await,
        Admission::WithToken => {
            let place = request.uri().path().to_owned();
            let headers = [(header::SET_COOKIE, shared.access.set_cookie()), (header::LOCATION, place)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Admission::Refused(status, words) => (status, words).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

enum Admission {
    In,
    /// The address has the token: the browser gets it as a cookie, and an address without it.
    WithToken,
    Refused(StatusCode, &'static str),
}

fn let_in(shared: &Shared, request: &Request) -> Admission {
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_some_and(Access::is_host) {
        return Admission::Refused(StatusCode::MISDIRECTED_REQUEST, "open this page by localhost or an address\n");
    }
    // Nothing here takes a body.
    let has_body = text(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || request.headers().contains_key(header::TRANSFER_ENCODING);
    if has_body {
        return Admission::Refused(StatusCode::PAYLOAD_TOO_LARGE, "nothing here takes a body\n");
    }
    let mut query = request.uri().query().unwrap_or_default().split('&');
    if query.any(|pair| pair.strip_prefix("token=").is_some_and(|token| shared.access.is_token(token))) {
        return Admission::WithToken;
    }
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if text(header::COOKIE).is_some_and(|cookies| shared.access.is_in_cookies(cookies))
        || bearer.is_some_and(|token| shared.access.is_token(token))
    {
        return Admission::In;
    }
    Admission::Refused(StatusCode::FORBIDDEN, "open the address that rootgan serve has printed, with its token\n")
}

/// Answers when there is room, and within the longest time.
async fn within_limits(shared: &Shared, answer: impl Future<Output = Response>) -> Response {
    let Ok(_waiting) = shared.waiting.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n").into_response();
    };
    let answered = async {
        let _working = shared.working.acquire().await;
        answer.await
    };
    match tokio::time::timeout(LONGEST, answered).await {
        Ok(response) => response,
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "this took too long\n").into_response(),
    }
}

/// Does work that reads files on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StatusCode> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn json_answer(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn list_runs(State(shared): State<Arc<Shared>>) -> Answer {
    let runs = blocking(move || runs::list(&shared.site.roots)).await?;
    Ok(json_answer(&json!({ "runs": runs })))
}

async fn find_run(shared: Arc<Shared>, id: String) -> Result<RunEntry, StatusCode> {
    let found = blocking(move || runs::list(&shared.site.roots).into_iter().find(|run| run.id == id)).await?;
    found.ok_or(StatusCode::NOT_FOUND)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: usize,
}

async fn show_run(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Answer {
    let run = find_run(shared, id).await?;
    let view = blocking(move || runs::view(&run.folder, after)).await?.map_err(|_| StatusCode::NOT_FOUND)?;
    let mut value = serde_json::to_value(view).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    value["name"] = json!(run.name);
    Ok(json_answer(&value))
}

async fn show_picture(
    State(shared): State<Arc<Shared>>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let run = find_run(shared, id).await?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let read = move || -> Option<(String, Option<Vec<u8>>)> {
        let path = runs::picture(&run.folder, &name)?;
        let found = std::fs::metadata(&path).ok()?;
        let changed = found.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
        let tag = format!("\"{}-{changed}\"", found.len());
        let bytes = if known.as_deref() == Some(&tag) { None } else { Some(std::fs::read(&path).ok()?) };
        Some((tag, bytes))
    };
    let (tag, bytes) = blocking(read).await?.ok_or(StatusCode::NOT_FOUND)?;
    Ok(match bytes {
        Some(bytes) => ([(header::CONTENT_TYPE, "image/png".to_owned()), (header::ETAG, tag)], bytes).into_response(),
        None => (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response(),
    })
}

async fn list_generators(State(shared): State<Arc<Shared>>) -> Answer {
    let list = blocking(move || shared.site.explorer.list(&runs::list(&shared.site.roots))).await?;
    Ok(json_answer(&json!({ "generators": list })))
}

/// Answers with what the explorer makes of a view, or with the words of its error.
fn made(outcome: Result<Vec<u8>>, kind: &'static str) -> Response {
    match outcome {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

async fn make_picture(State(shared): State<Arc<Shared>>, Query(view): Query<View>) -> Response {
    made(shared.site.explorer.picture(&shared.site.roots, view).await, "image/png")
}

async fn make_ws(State(shared): State<Arc<Shared>>, Query(view): Query<View>) -> Response {
    made(shared.site.explorer.ws(&shared.site.roots, view).await, "application/octet-stream")
}

async fn make_command(State(shared): State<Arc<Shared>>, Query(view): Query<View>) -> Response {
    made(
        shared.site.explorer.command(&shared.site.roots, view).await.map(String::into_bytes),
        "text/plain; charset=utf-8",
    )
}

/// Prints a line at once, though stdout may be a pipe.
pub fn print_line(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
