//! Who may see the page: whoever knows the token, by a name or address that is this machine's.
//!
//! The token is in the printed address; the first visit turns it into a cookie that only this site gets. The check of `Host`
//! keeps out pages of others whose name is made to point to this machine (DNS rebinding), the check of `Origin` those that
//! would send something here. Weak where others can read what this user's terminal shows.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use rand::TryRngCore;
use subtle::ConstantTimeEq;

use super::answer::problem;

/// The largest body of a request.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// What a browser has to keep to on every page: no content, frame or connection of others, no inline script.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
];

/// The rules of access to one server.
#[derive(Clone, Debug)]
pub struct Access {
    token: String,
    cookie: String,
    bind: IpAddr,
    host_name: String,
}

impl Access {
    /// Makes rules with a new random token, for a server at this address and port.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with_new_token(bind: IpAddr, port: u16) -> Result<Self> {
        let mut bytes = [0; 16];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).context("cannot make a random token")?;
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // Cookies are the same for all ports, so that two servers need two names.
        Ok(Self { token, cookie: format!("rootgan-{port}"), bind, host_name: host_name() })
    }

    /// Returns the token, for the address that is printed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns the machine's name, by which others may know it where it listens for them.
    pub fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Whether the name in `Host` is one that this machine has, whatever the port, which a tunnel may change.
    fn is_own_host(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        if authority.as_str().contains('@') {
            return false;
        }
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // An address cannot be made to point elsewhere, unlike a name.
            Ok(ip) => ip.is_loopback() || ip == self.bind || self.bind.is_unspecified(),
            Err(_) => !self.bind.is_loopback() && name.eq_ignore_ascii_case(&self.host_name),
        }
    }

    fn is_token(&self, text: &str) -> bool {
        text.as_bytes().ct_eq(self.token.as_bytes()).into()
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().any(|(name, value)| name == self.cookie && self.is_token(value))
    }

    /// Decides on a request: refused, or let in, with the token in its address or in a cookie.
    fn judge(&self, request: &Request) -> Result<Entry, (StatusCode, &'static str)> {
        let headers = request.headers();
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let of_address = request.uri().authority().map_or(host, Authority::as_str);
        if hosts.next().is_some() || !self.is_own_host(host) || !self.is_own_host(of_address) {
            return Err((
                StatusCode::MISDIRECTED_REQUEST,
                "this name is not one of this machine's; use the printed address",
            ));
        }
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        if !is_read && request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and POST are understood"));
        }
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let own_origin = |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| rest == host);
        if !is_read && !origin.is_none_or(own_origin) {
            return Err((StatusCode::FORBIDDEN, "another page sent this"));
        }
        let query = request.uri().query().unwrap_or_default();
        let by_address =
            query.split('&').filter_map(|pair| pair.strip_prefix("token=")).any(|text| self.is_token(text));
        if !by_address && !self.has_cookie(headers) {
            return Err((
                StatusCode::UNAUTHORIZED,
                "open the address that `rootgan serve` printed: it ends in a token",
            ));
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "a request may have 1 MiB at most"));
        }
        Ok(if by_address { Entry::ByAddress } else { Entry::ByCookie })
    }
}

/// How the token came.
enum Entry {
    ByAddress,
    ByCookie,
}

/// Lets a request pass, or refuses it; both answers get the headers of [`HEADERS`].
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let request_is_for_data = request.uri().path().starts_with("/api");
    let mut response = match access.judge(&request) {
        Ok(entry) => {
            let mut response = next.run(request).await;
            let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", access.cookie, access.token);
            if let (Entry::ByAddress, Ok(cookie)) = (entry, HeaderValue::from_str(&cookie)) {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
            response
        }
        Err((status, sentence)) => {
            let mut response = refusal(request_is_for_data, status, sentence);
            // Whoever is refused has no claim on a connection, and the body is not read.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers as JSON to a script, and as plain text to whoever opened the page.
fn refusal(is_for_data: bool, status: StatusCode, sentence: &str) -> Response {
    let mut response = problem(status, sentence);
    if !is_for_data {
        *response.body_mut() = Body::from(format!("rootgan: {sentence}\n"));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}

fn host_name() -> String {
    let mut bytes = [0u8; 256];
    // SAFETY: the buffer has the length that is said, less the zero byte at its end.
    let status = unsafe { libc::gethostname(bytes.as_mut_ptr().cast(), bytes.len() - 1) };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    if status == 0 { String::from_utf8_lossy(&bytes[..end]).into_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(bind: &str) -> Access {
        Access { host_name: "box".into(), ..Access::with_new_token(bind.parse().unwrap(), 80).unwrap() }
    }

    fn status(access: &Access, request: axum::http::request::Builder) -> Option<u16> {
        access.judge(&request.body(Body::empty()).unwrap()).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn names_that_can_be_pointed_here_are_refused_and_addresses_of_this_machine_are_not() {
        let here = access("127.0.0.1");
        for host in ["127.0.0.1", "127.0.0.1:7788", "localhost:9", "LOCALHOST", "[::1]:80"] {
            assert!(here.is_own_host(host), "{host}");
        }
        let others = [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "box",
            "x@localhost",
        ];
        for host in others {
            assert!(!here.is_own_host(host), "{host}");
        }
        let everywhere = access("0.0.0.0");
        assert!(["10.0.0.1:80", "box:80", "localhost"].iter().all(|host| everywhere.is_own_host(host)));
        assert!(!everywhere.is_own_host("evil.example:80"));
        let one = access("10.0.0.1");
        assert!(one.is_own_host("10.0.0.1:80") && !one.is_own_host("10.0.0.2:80"));
    }

    #[test]
    fn the_token_comes_by_address_or_cookie_and_two_tokens_differ() {
        let access = access("127.0.0.1");
        let get = |uri: &str| Request::builder().uri(uri).header("host", "localhost");
        let token = access.token();
        assert_eq!(token.len(), 32);
        assert_ne!(token, Access::with_new_token(access.bind, 80).unwrap().token());
        assert_eq!(status(&access, get("/")), Some(401));
        assert_eq!(status(&access, get("/?token=")), Some(401));
        assert_eq!(status(&access, get(&format!("/?token={}", &token[..31]))), Some(401));
        assert_eq!(status(&access, get(&format!("/?x=1&token={token}"))), None);
        assert_eq!(status(&access, get("/").header("cookie", format!("a=b; rootgan-80={token}"))), None);
        assert_eq!(status(&access, get("/").header("cookie", format!("rootgan-81={token}"))), Some(401));
    }

    #[test]
    fn what_another_page_sends_is_refused() {
        let access = access("127.0.0.1");
        let post = |origin: &str| {
            let builder = Request::builder().method("POST").uri(format!("/?token={}", access.token()));
            builder.header("host", "localhost:80").header("origin", origin)
        };
        assert_eq!(status(&access, post("http://localhost:80")), None);
        for origin in ["http://localhost:81", "https://evil.example", "null", ""] {
            assert_eq!(status(&access, post(origin)), Some(403), "{origin}");
        }
    }

    #[test]
    fn other_methods_second_hosts_and_long_bodies_are_refused() {
        let access = access("127.0.0.1");
        let uri = format!("/?token={}", access.token());
        let request = |method: &str| Request::builder().method(method).uri(&uri).header("host", "localhost");
        assert_eq!(status(&access, request("DELETE")), Some(405));
        assert_eq!(status(&access, request("GET").header("host", "localhost")), Some(421));
        assert_eq!(status(&access, request("POST").header("content-length", "104857600")), Some(413));
        let absolute = Request::builder().uri(format!("http://evil.example/?token={}", access.token()));
        assert_eq!(status(&access, absolute.header("host", "localhost")), Some(421));
    }
}
