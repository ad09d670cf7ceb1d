//! `rootgan serve` over raw HTTP, and `rootgan report`: who is let in, what is never served, and what a client can use.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A run's folder as training leaves it, without its networks.
fn make_run(folder: &Path, ticks: u32) {
    fs::create_dir_all(folder).unwrap();
    let options = json!({ "kimg": 40.0, "loss": "rooted", "root_k": 2.0, "g_lr": 0.002, "d_lr": 0.002, "data": "/home/ann/cats", "grid": "2x2" });
    fs::write(folder.join("training_options.json"), options.to_string()).unwrap();
    fs::write(folder.join("log.txt"), "run directory: x\nerror: the disk is full\n").unwrap();
    (0..ticks).for_each(|tick| add_tick(folder, tick, "\n"));
    for name in ["reals", "fakes_init", "fakes000004"] {
        image::RgbImage::from_pixel(32, 32, image::Rgb([200, 10, 10]))
            .save(folder.join(format!("{name}.png")))
            .unwrap();
    }
    let line = json!({ "results": { "fid2k": 3.5 }, "kimg": 4.0, "measure": "FID", "detector": { "name": "d" } });
    fs::write(folder.join("metric-fid2k.jsonl"), format!("{line}\n")).unwrap();
}

fn add_tick(folder: &Path, tick: u32, end: &str) {
    let part = |value: f64| json!({ "num": 8, "mean": value, "std": 0.1, "max": value });
    let line = json!({ "Progress/kimg": part(f64::from(tick) * 4.0), "Loss/G/loss": part(1.5), "timestamp": 1.7e9 + f64::from(tick) });
    let mut file = fs::File::options().append(true).create(true).open(folder.join("stats.jsonl")).unwrap();
    write!(file, "{line}{end}").unwrap();
}

/// A server of its own, which ends with the test.
struct Server {
    process: Child,
    address: SocketAddr,
    token: String,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rootgan"))
            .args(["serve", "--port", "0"])
            .arg(folder)
            .args(more)
            .env("OMP_NUM_THREADS", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let rest = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("no address: {line:?}"));
        let (address, token) = rest.split_once("/?token=").unwrap();
        Self { address: address.parse().unwrap(), token: token.to_owned(), process, _stdout: stdout }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends a request with the token and more header lines.
    fn get(&self, path: &str, headers: &str) -> Answer {
        let between = if path.contains('?') { '&' } else { '?' };
        let request = format!(
            "GET {path}{between}token={} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.token, self.address
        );
        self.send(request.as_bytes())
    }

    fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Answer::read(stream)
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Memory that is the process's own, in MiB.
    fn own_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A refused body may end the connection by a reset, after the answer.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A folder `runs` with one run, and a secret beside it.
fn served() -> (tempfile::TempDir, PathBuf, Server) {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("secret.png"), "SECRET").unwrap();
    let run = place.path().join("runs/00000-cats-rooted2");
    make_run(&run, 3);
    let server = Server::start(&place.path().join("runs"));
    (place, run, server)
}

fn id_of(server: &Server) -> String {
    server.json("/api/runs")["runs"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_is_seen_without_the_token_or_under_another_name() {
    let (_place, _run, server) = served();
    for path in ["/", "/api/runs", "/assets/app.js", "/nothing", "/?token=0123456789abcdef0123456789abcdef"] {
        let answer = server.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes());
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.text().contains("open the address that `rootgan serve` printed"));
        assert!(!answer.head.contains("set-cookie"), "{path}");
    }
    for host in ["evil.example", "evil.example:7788", "127.0.0.1.evil.example", "10.1.2.3"] {
        let request = format!("GET /?token={} HTTP/1.1\r\nHost: {host}\r\n\r\n", server.token);
        assert_eq!(server.send(request.as_bytes()).status, 421, "{host}");
    }
    let cookie = server.get("/", "");
    let (name, rest) = cookie.header("set-cookie").split_once('=').unwrap();
    assert!(rest.ends_with("; path=/; httponly; samesite=strict"), "{rest}");
    let request = format!(
        "GET /api/runs HTTP/1.1\r\nHost: localhost\r\nCookie: {name}={}\r\nConnection: close\r\n\r\n",
        server.token
    );
    assert_eq!(server.send(request.as_bytes()).status, 200);
}

#[test]
fn every_answer_forbids_scripts_and_frames_of_others() {
    let (_place, _run, server) = served();
    for path in ["/", "/api/runs", "/nothing"] {
        let answer = server.get(path, "");
        assert!(answer.header("content-security-policy").contains("default-src 'self'"));
        assert!(!answer.header("content-security-policy").contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
    }
    assert!(!server.get("/", "").text().contains("<script>"), "an inline script would not run");
}

#[test]
fn files_have_their_types_and_come_once() {
    let (_place, run, server) = served();
    let id = id_of(&server);
    let grid = format!("/api/runs/{id}/grids/fakes000004.png");
    for (path, content) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/api/runs", "application/json"),
        (&*format!("/api/runs/{id}/curves"), "application/json"),
        (&*grid, "image/png"),
    ] {
        let answer = server.get(path, "");
        assert_eq!((answer.status, answer.header("content-type")), (200, content), "{path}");
        let again = server.get(path, &format!("If-None-Match: {}\r\n", answer.header("etag")));
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
    }
    assert_eq!(server.get(&grid, "").body, fs::read(run.join("fakes000004.png")).unwrap());
    assert_eq!(server.get("/assets/secret.js", "").status, 404);
}

#[test]
fn no_file_outside_of_the_runs_is_served() {
    let (place, run, server) = served();
    let secret = place.path().join("secret.png");
    symlink(&secret, run.join("fakes000008.png")).unwrap();
    symlink(place.path(), place.path().join("runs/00009-link")).unwrap();
    fs::write(run.join("network-snapshot-000004.G_ema.pt"), "SECRET").unwrap();
    let id = id_of(&server);
    let summary = server.json(&format!("/api/runs/{id}"));
    assert!(!summary["grids"].to_string().contains("fakes000008"), "a link is no grid");
    let paths = [
        "/../secret.png",
        "/..%2fsecret.png",
        "/%2e%2e/secret.png",
        "/assets/../../secret.png",
        "/assets/%2e%2e%2fsecret.png",
        "/api/runs/../secret.png",
        "/api/runs/%2e%2e%2f/grids/secret.png",
        "/api/runs/ID/grids/../../secret.png",
        "/api/runs/ID/grids/..%2f..%2fsecret.png",
        "/api/runs/ID/grids/%2e%2e%2f%2e%2e%2fsecret.png",
        "/api/runs/ID/grids/fakes000008.png",
        "/api/runs/ID/grids/network-snapshot-000004.G_ema.pt",
        "/api/runs/ID/grids//etc/passwd",
        "/api/runs/ID/grids/%00fakes000004.png",
        "/api/runs/ID/grids/stats.jsonl",
        "/api/runs/00009-link",
        "//etc/passwd",
    ];
    for path in paths {
        let answer = server.get(&path.replace("ID", &id), "");
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("SECRET") && !answer.text().contains("root:"), "{path}");
    }
    let log = run.join("log.txt");
    fs::remove_file(&log).unwrap();
    symlink(&secret, &log).unwrap();
    assert_eq!(server.get(&format!("/api/runs/{id}/log"), "").status, 404);
}

#[test]
fn a_growing_run_is_followed_and_half_a_line_waits() {
    let (_place, run, server) = served();
    let id = id_of(&server);
    let summary = server.json(&format!("/api/runs/{id}"));
    assert_eq!((summary["rows"].as_u64(), summary["kimg"].as_f64()), (Some(3), Some(8.0)));
    assert_eq!(
        (summary["state"].as_str(), summary["last_words"].as_str()),
        (Some("failed"), Some("error: the disk is full"))
    );
    assert_eq!(summary["metrics"][0]["points"][0], json!({ "kimg": 4.0, "values": [3.5] }));
    let had = format!("generation={}&rows=3", summary["generation"]);
    add_tick(&run, 3, "\n");
    add_tick(&run, 4, "");
    std::thread::sleep(Duration::from_millis(1100));
    let news = server.json(&format!("/api/runs/{id}/curves?{had}"));
    assert_eq!((news["first"].as_u64(), news["rows"].as_u64()), (Some(3), Some(4)));
    assert_eq!(news["columns"]["Progress/kimg"], json!([12.0]));
    // The run goes back to a checkpoint: all rows are sent again.
    fs::write(run.join("stats.jsonl"), "").unwrap();
    add_tick(&run, 1, "\n");
    std::thread::sleep(Duration::from_millis(1100));
    let news = server.json(&format!("/api/runs/{id}/curves?{had}"));
    assert_eq!((news["first"].as_u64(), news["columns"]["Progress/kimg"].clone()), (Some(0), json!([4.0])));
    assert_eq!(server.json(&format!("/api/runs/{id}/log?from=17"))["text"], "error: the disk is full\n");
}

#[test]
fn a_large_body_is_refused_before_it_is_sent() {
    let (_place, _run, server) = served();
    let before = server.own_memory();
    for length in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect();
        let head =
            format!("POST /api/runs?token={} HTTP/1.1\r\nHost: {}\r\n{length}\r\n\r\n", server.token, server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 100 << 20 && stream.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 20 << 20, "{length}: {sent} bytes were taken");
    }
    assert!(server.own_memory() < before + 32, "{} MiB, {before} before", server.own_memory());
    assert_eq!(server.get("/", "").status, 200);
}

#[test]
fn thousands_of_connections_are_answered_in_bounded_memory() {
    const THREADS: usize = 8;
    const EACH: usize = 250;
    allow_open_files();
    let (_place, _run, server) = served();
    server.get("/api/runs", "");
    let (before, begun) = (server.own_memory(), Instant::now());
    let request = format!(
        "GET /api/runs?token={} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.token, server.address
    );
    let ask = |_| {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    // All are open before the first answer is read.
    let work = || {
        let streams: Vec<TcpStream> = (0..EACH).map(ask).collect();
        streams.into_iter().map(Answer::read).filter(|answer| answer.status == 200).count()
    };
    let answered: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(answered, THREADS * EACH);
    assert!(server.own_memory() < before + 48, "{} MiB, {before} before", server.own_memory());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// Both ends of the connections of a test may be more than the usual limit.
fn allow_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls fill in, and read, the value that they get.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(8192);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn ctrl_c_ends_it_quietly() {
    let (_place, _run, mut server) = served();
    // SAFETY: the process is this test's own.
    assert_eq!(unsafe { libc::kill(server.process.id() as i32, libc::SIGINT) }, 0);
    let status = server.process.wait().unwrap();
    let mut errors = String::new();
    server.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(status.success() && errors == "Ctrl-C ends it\n", "{status}: {errors}");
}

#[test]
fn what_cannot_be_served_is_said() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    for (folder, words) in [("missing", "cannot serve"), ("file", "it is a file; pass a run's folder")] {
        let output = common::rootgan()
            .arg("serve")
            .arg(place.path().join(folder))
            .assert()
            .failure()
            .get_output()
            .stderr
            .clone();
        let text = String::from_utf8(output).unwrap();
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_report_is_one_small_file_without_addresses_or_private_paths() {
    let place = tempfile::tempdir().unwrap();
    let (run, out) = (place.path().join("00000-cats-rooted2"), place.path().join("report.html"));
    make_run(&run, 3);
    let report = || {
        let mut command = common::rootgan();
        command.arg("report").arg(&run).arg("--out").arg(&out);
        command.assert()
    };
    report().success();
    let html = fs::read_to_string(&out).unwrap();
    assert!(html.len() < 1_000_000, "{}", html.len());
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 3);
    assert!(html.contains("default-src 'none'") && html.contains("the disk is full"));
    assert!(!html.contains("/home/ann") && !html.contains("src=\"") && !html.contains("@import"));
    let refused = String::from_utf8(report().failure().get_output().stderr.clone()).unwrap();
    assert!(refused.contains("is there already; remove it or pass another --out"), "{refused}");
}

#[test]
fn an_explored_picture_is_what_generate_writes() {
    let place = tempfile::tempdir().unwrap();
    common::picture_folder(&place.path().join("discs"), 4, 16);
    let runs = place.path().join("runs");
    common::command::Finetune::new(&common::pair16(), &place.path().join("discs"), &runs)
        .with(["--kimg=0.032", "--tick-kimg=0.016", "--snapshot-ticks=1"])
        .run();
    let generator = common::pair16().0;
    // Runs of one name in two folders, and one whose snapshot is a link.
    let trained = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let snapshot = rootgan::run::snapshot::find(&trained).unwrap();
    for (folder, is_link) in [("cats/seed0", false), ("dogs/seed0", false), ("birds/seed0", true)] {
        let folder = runs.join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(trained.join("training_options.json"), folder.join("training_options.json")).unwrap();
        fs::copy(&snapshot.manifest, folder.join(snapshot.manifest.file_name().unwrap())).unwrap();
        let g_ema = folder.join(snapshot.g_ema.file_name().unwrap());
        match is_link {
            true => symlink(&snapshot.g_ema, g_ema).unwrap(),
            false => fs::write(g_ema, fs::read(&snapshot.g_ema).unwrap()).unwrap(),
        }
    }
    let server = Server::start_with(&runs, &["--device", "cpu", "--from", generator.to_str().unwrap()]);
    let generators = server.json("/api/explore");
    let all = generators["generators"].as_array().unwrap();
    assert!(all.len() >= 3, "the named one and the snapshots: {generators}");
    let named = all[0]["id"].as_str().unwrap().to_owned();
    let of =
        |name: &str| all.iter().filter(|entry| entry["name"].as_str().unwrap().starts_with(name)).collect::<Vec<_>>();
    assert_eq!((of("cats/seed0").len(), of("dogs/seed0").len(), of("birds/seed0").len()), (1, 1, 0), "{generators}");
    assert_ne!(of("cats/seed0")[0]["run"], of("dogs/seed0")[0]["run"], "{generators}");
    let made = |name: &str, options: &[&str], file: &str| {
        let out = place.path().join(name);
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
        let answer = server.get(&format!("/api/explore/picture?generator={named}&{query}"), "");
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
        let ws = place.path().join(format!("{at}.npz"));
        fs::write(&ws, server.get(&format!("/api/explore/ws?generator={named}&{view}"), "").body).unwrap();
        let by_ws = made(&format!("ws{at}"), &["--ws", ws.to_str().unwrap()], "ws0000.png");
        assert!(shown(view) == by_ws, "{view}");
        assert!(by_ws != shown("seed=3"), "{view}");
    }
    // A snapshot of the run, by its name in the list.
    let id = all.last().unwrap()["id"].as_str().unwrap();
    let g_ema = snapshot.g_ema;
    let out = place.path().join("snapshot");
    let mut command = common::rootgan();
    command.args(["generate", "--device", "cpu", "--seeds", "7", "--generator"]).arg(&g_ema).arg("--outdir").arg(&out);
    command.assert().success();
    let answer = server.get(&format!("/api/explore/picture?generator={id}&seed=7"), "");
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
    assert!(answer.body == fs::read(out.join("seed0007.png")).unwrap(), "{id}");
    assert_eq!(server.get("/api/explore/picture?generator=0-000000&seed=7", "").status, 400);
    let command =
        String::from_utf8(server.get(&format!("/api/explore/command?generator={named}&seed=7&psi=0.5"), "").body)
            .unwrap();
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
        let answer = server.get(&format!("/api/explore/picture?generator={named}&{refused}"), "");
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(answer.status == 400 && problem["error"].is_string(), "{refused}: {}", answer.text());
    }
    assert_eq!(server.get("/api/explore/picture?generator=..%2fg&seed=1", "").status, 400);
}
