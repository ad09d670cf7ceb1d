//! Responses: JSON and constant files with an ETag, so that a page that asks again for the same gets an empty answer;
//! files of runs in pieces, so that memory does not depend on their size; refusals as JSON with one sentence.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tokio_util::io::ReaderStream;

/// Bytes of a file that are in memory at a time.
const PIECE_BYTES: usize = 32 << 10;

/// The types of content that are served; there are no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A page.
    Html,
    /// A style sheet.
    Css,
    /// A script.
    JavaScript,
    /// Data.
    Json,
    /// A picture.
    Png,
    /// Words.
    Text,
    /// A file to keep.
    Binary,
}

impl Content {
    /// Returns the MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Css => "text/css; charset=utf-8",
            Self::JavaScript => "text/javascript; charset=utf-8",
            Self::Json => "application/json",
            Self::Png => "image/png",
            Self::Text => "text/plain; charset=utf-8",
            Self::Binary => "application/octet-stream",
        }
    }
}

/// Answers with bytes, or with "not modified" where the client has them already.
pub fn constant(request: &HeaderMap, content: Content, bytes: Vec<u8>) -> Response {
    let tag = format!("\"{:08x}-{:x}\"", crc32c::crc32c(&bytes), bytes.len());
    match is_known(request, &tag) {
        true => not_modified(&tag),
        false => tagged(&tag, content, Body::from(bytes)),
    }
}

/// Answers with a value as JSON, as [`constant`] does.
pub fn json_of(request: &HeaderMap, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => constant(request, Content::Json, bytes),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the answer cannot be JSON: {error}")),
    }
}

/// Answers with an open file, piece by piece.
pub fn file(request: &HeaderMap, content: Content, file: File) -> Response {
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the file cannot be read: {error}")),
    };
    let tag = format!(
        "\"{:x}-{:x}-{:x}\"",
        metadata.ino(),
        metadata.mtime_nsec() + metadata.mtime() * 1_000_000_000,
        metadata.len()
    );
    if is_known(request, &tag) {
        return not_modified(&tag);
    }
    // A file that grows meanwhile must not get longer than its announced length.
    let reader = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), metadata.len());
    let mut response = tagged(&tag, content, Body::from_stream(ReaderStream::with_capacity(reader, PIECE_BYTES)));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(metadata.len()));
    response
}

/// Answers that something cannot be had, with one sentence.
pub fn problem(status: StatusCode, sentence: &str) -> Response {
    let mut response = Response::new(Body::from(json!({ "error": sentence }).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Content::Json.mime()));
    response
}

fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

fn not_modified(tag: &str) -> Response {
    let mut response = tagged(tag, Content::Json, Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

fn tagged(tag: &str, content: Content, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content.mime()));
    // The browser keeps it, but asks each time whether it is still the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    response
}
