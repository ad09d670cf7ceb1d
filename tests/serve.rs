//! `rootgan serve` and `rootgan report`: who is let in, what is served and what never is, and that a page has its data.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::command::Finetune;
use predicates::str::contains;

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
    token: String,
    place: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Server {
    /// Serves a small run and a generator.
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        common::picture_folder(&place.path().join("discs"), 4, 16);
        let runs = place.path().join("runs");
        Finetune::new(&common::pair16(), &place.path().join("discs"), &runs)
            .with(["--kimg=0.032", "--tick-kimg=0.016", "--image-ticks=1", "--snapshot-ticks=1", "--desc=small"])
            .run();
        fs::write(place.path().join("secret.txt"), "not for anybody").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", runs.join("00000-discs-small/fakes000099.png")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rootgan"))
            .args(["serve", "--device", "cpu", "--from"])
            .arg(common::pair16().0)
            .arg(&runs)
            .env("OMP_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (address, token) = line.trim().strip_prefix("open http://").unwrap().split_once("/?token=").unwrap();
        Self { child, address: address.to_owned(), token: token.to_owned(), place }
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn get_with(&self, path: &str, headers: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
    }

    /// Asks as the page does.
    fn get(&self, path: &str) -> Answer {
        let token = &self.token;
        self.get_with(path, &format!("Host: {}\r\nAuthorization: Bearer {token}\r\n", self.address))
    }

    fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        serde_json::from_slice(&answer.body).unwrap()
    }
}

#[test]
fn only_who_knows_the_token_and_a_name_of_this_machine_is_let_in() {
    let server = Server::start();
    let host = format!("Host: {}\r\n", server.address);
    assert_eq!(server.get_with("/", &host).status, 403);
    assert_eq!(
        server.get_with("/api/runs", &format!("{host}Authorization: Bearer {}\r\n", "0".repeat(32))).status,
        403
    );
    assert_eq!(server.get_with("/?token=0", &host).status, 403);
    let elsewhere = format!("Host: evil.example\r\nAuthorization: Bearer {}\r\n", server.token);
    assert_eq!(server.get_with("/api/runs", &elsewhere).status, 421);
    assert_eq!(server.get_with("/api/runs", "").status, 421, "no Host at all");
    // The address with the token gives a cookie, and an address without it.
    let first = server.get_with(&format!("/?token={}", server.token), &host);
    assert_eq!(first.status, 303);
    let head = first.head.to_lowercase();
    assert!(head.contains("httponly; samesite=strict") && head.contains("location: /\r\n"), "{head}");
    let cookie =
        first.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().split(';').next().unwrap();
    let page = server.get_with("/", &format!("{host}Cookie: {cookie}\r\n"));
    assert_eq!(page.status, 200);
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(page.head.contains(header), "{header} is not in {}", page.head);
    }
    // No other machine can reach it.
    assert!(server.address.starts_with("127.0.0.1:"));
}

#[test]
fn nothing_outside_of_the_runs_is_served() {
    let server = Server::start();
    let id = server.json("/api/runs")["runs"][0]["id"].as_str().unwrap().to_owned();
    let pictures = format!("/api/runs/{id}/pictures");
    assert_eq!(server.get(&format!("{pictures}/fakes_init.png")).status, 200);
    for name in [
        "../training_options.json",
        "..%2ftraining_options.json",
        "%2e%2e/%2e%2e/secret.txt",
        "..%2f..%2f..%2fsecret.txt",
        "training_options.json",
        "network-snapshot-000000.G.pt",
        "fakes000099.png",
        "%2fetc%2fpasswd",
        "",
        "%00",
    ] {
        let answer = server.get(&format!("{pictures}/{name}"));
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.head);
        assert!(!String::from_utf8_lossy(&answer.body).contains("root:"), "{name}");
    }
    for path in ["/../../etc/passwd", "/secret.txt", "/api/runs/../secret.txt", "//etc/passwd", "/api/runs/none"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    assert!(server.place.path().join("secret.txt").is_file());
}

#[test]
fn a_large_body_is_refused_before_it_is_read() {
    let server = Server::start();
    let (host, token) = (&server.address, &server.token);
    for length in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
        let request = format!(
            "POST /api/runs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{length}\r\n\r\n"
        );
        assert_eq!(server.send(&request).status, 413);
    }
}

#[test]
fn many_requests_at_once_are_answered_or_sent_away_in_bounded_memory() {
    let server = Server::start();
    let before = resident_kib(server.child.id());
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || (0..40).map(|_| server.get("/api/runs").status).collect::<Vec<_>>();
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.len(), 2000);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!(statuses.contains(&200));
    let grown = resident_kib(server.child.id()).saturating_sub(before);
    assert!(grown < 64 << 10, "the server grew by {grown} KiB");
}

fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_run_is_shown_with_its_ticks_grids_and_options() {
    let server = Server::start();
    let runs = server.json("/api/runs");
    assert_eq!(runs["runs"][0]["name"], "00000-discs-small");
    let id = runs["runs"][0]["id"].as_str().unwrap();
    let run = server.json(&format!("/api/runs/{id}"));
    assert_eq!((run["state"].as_str(), run["total_kimg"].as_f64()), (Some("done"), Some(0.032)));
    assert_eq!(run["ticks"].as_array().unwrap().len() as u64, run["tick_count"].as_u64().unwrap());
    assert!(run["ticks"][1]["means"]["Loss/G/loss"].is_f64(), "{run}");
    let files = |run: &serde_json::Value| run["grids"].to_string();
    assert!(!files(&run).contains("fakes000099.png"), "a link is no grid");
    assert!(run["grids"].as_array().unwrap().len() >= 2 && run["options"]["batch"] == 8, "{run}");
    let rest = server.json(&format!("/api/runs/{id}?after={}", run["tick_count"]));
    assert_eq!(rest["ticks"].as_array().unwrap().len(), 0);
    // A picture that has not changed is not sent again.
    let path = format!("/api/runs/{id}/pictures/fakes_init.png");
    let first = server.get(&path);
    let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (host, token) = (&server.address, &server.token);
    let again =
        server.get_with(&path, &format!("Host: {host}\r\nAuthorization: Bearer {token}\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn an_explored_picture_is_what_generate_writes() {
    let server = Server::start();
    let generators = server.json("/api/explore");
    let all = generators["generators"].as_array().unwrap();
    assert!(all.len() >= 3, "the named one and the snapshots: {generators}");
    assert_eq!(all[0]["id"], "g0");
    let made = |name: &str, options: &[&str], file: &str| {
        let out = server.place.path().join(name);
        let mut command = common::rootgan();
        command
            .args(["generate", "--device", "cpu", "--generator"])
            .arg(common::pair16().0)
            .args(options)
            .arg("--outdir")
            .arg(&out);
        command.assert().success();
        fs::read(out.join(file)).unwrap()
    };
    let shown = |query: &str| {
        let answer = server.get(&format!("/api/explore/picture?generator=g0&{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
        answer.body
    };
    assert!(
        shown("seed=7&psi=0.7&noise=none")
            == made("plain", &["--seeds=7", "--psi=0.7", "--noise-mode=none"], "seed0007.png")
    );
    // What seeds do not say goes by way of its ws.
    for (at, view) in
        ["seed=3&to=9&at=0.25", "seed=3&mix=4&layers=middle&psi=0.5", "seed=3&moves=0:2,1:-1.5"].into_iter().enumerate()
    {
        let ws = server.place.path().join(format!("{at}.npz"));
        fs::write(&ws, server.get(&format!("/api/explore/ws?generator=g0&{view}")).body).unwrap();
        let by_ws = made(&format!("ws{at}"), &["--ws", ws.to_str().unwrap()], "ws0000.png");
        assert!(shown(view) == by_ws, "{view}");
        assert!(by_ws != shown("seed=3"), "{view}");
    }
    let command = String::from_utf8(server.get("/api/explore/command?generator=g0&seed=7&psi=0.5").body).unwrap();
    assert!(command.starts_with("rootgan generate --from ") && command.contains("--seeds 7 --psi 0.5 "), "{command}");
    for refused in [
        "seed=-1",
        "seed=1&psi=1e9",
        "seed=1&moves=0:1e9",
        "seed=1&moves=99:1",
        "seed=1&at=2&to=3",
        "seed=1&noise=loud",
        "seed=1&class=2",
    ] {
        assert_eq!(server.get(&format!("/api/explore/picture?generator=g0&{refused}")).status, 400, "{refused}");
    }
    assert_eq!(server.get("/api/explore/picture?generator=..%2fg&seed=1").status, 400);
}

#[test]
fn a_report_is_one_file_with_everything_in_it() {
    let server = Server::start();
    let out = server.place.path().join("report.html");
    let report = |what: &Path| {
        let mut command = common::rootgan();
        command.arg("report").arg(what).arg("--out").arg(&out);
        command
    };
    report(&server.place.path().join("discs")).assert().code(1).stderr(contains("there is no run in"));
    report(&server.place.path().join("runs")).assert().success();
    let page = fs::read_to_string(&out).unwrap();
    assert!(page.len() < 5_000_000 && page.contains("data:image/jpeg;base64,") && page.contains("00000-discs-small"));
    for outside in ["src=\"http", "href=\"style.css\"", "src=\"runs.js\"", "import {"] {
        assert!(!page.contains(outside), "{outside}");
    }
    report(&server.place.path().join("runs")).assert().code(1).stderr(contains("something of that name is there"));
}
