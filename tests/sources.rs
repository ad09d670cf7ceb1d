//! `--from` takes networks in any format and from anywhere: what comes out is the same, and each thing that can go wrong is
//! told in one line.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{golden_dir, picture_folder, python, rootgan, text};
use rootgan::files::checksum::sha256;
use tempfile::{TempDir, tempdir};

/// A cache of its own, and a folder to work in.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempdir().unwrap() }
    }

    /// One whose imports are those of all such tests, which need not import a file again.
    fn with_imports() -> Self {
        let place = Self::new();
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache/rootgan/imports");
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::create_dir_all(place.path("cache/rootgan")).unwrap();
        std::os::unix::fs::symlink(shared, place.path("cache/rootgan/imports")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rootgan(&self) -> assert_cmd::Command {
        let mut command = rootgan();
        command.env("XDG_CACHE_HOME", self.path("cache")).current_dir(self.folder.path());
        command
    }

    /// Makes the picture of seed 0 from a source; returns its pixels, and what was said.
    fn picture(&self, from: &str) -> (Vec<u8>, String) {
        let out = self.path("picture.png");
        let said =
            self.rootgan().args(["generate", "--seeds", "0", "--grid", text(&out), "--from", from]).assert().success();
        let said = String::from_utf8(said.get_output().stderr.clone()).unwrap();
        (pixels(&out), said)
    }

    /// Runs a command that has to fail; returns its one line.
    fn refusal(&self, arguments: &[&str]) -> String {
        let failed = self.rootgan().args(arguments).assert().failure().code(1);
        let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && said.trim_end().ends_with(errors[0]), "{said}");
        assert!(!said.contains("Traceback"), "{said}");
        errors[0].to_owned()
    }
}

fn shipped(name: &str) -> String {
    text(&golden_dir().join(name)).to_owned()
}

#[test]
fn every_format_gives_the_same_picture_and_is_imported_once() {
    let place = Place::new();
    let pickle = shipped("nvidia_like_r32.pkl");
    let pair = place.path("pair");
    python(&["python/rootgan", "import", &pickle, "--out", text(&pair)]);
    let (expected, _) = place.picture(text(&pair.join("generator.pt")));

    let (picture, said) = place.picture(&pickle);
    assert!(said.contains("importing '") && said.contains("NVIDIA pickle"), "{said}");
    assert!(picture == expected);
    let (picture, said) = place.picture(&pickle);
    assert!(picture == expected && !said.contains("importing '"), "{said}");

    place.rootgan().args(["export", "--from", text(&pair), "--out", "exported"]).assert().success();
    let state_dict = ["export", "--from", text(&pair), "--format", "state-dict", "--out", "state.pt"];
    place.rootgan().args(state_dict).assert().success();
    for from in [text(&pair), "exported", "exported/generator.pt", "exported/weights.safetensors", "state.pt"] {
        assert!(place.picture(from).0 == expected, "{from}");
    }

    let listed = place.rootgan().args(["cache", "list"]).assert().success();
    let listed = String::from_utf8(listed.get_output().stdout.clone()).unwrap();
    assert_eq!(listed.lines().filter(|line| line.starts_with("imports")).count(), 3, "{listed}");
    place.rootgan().args(["cache", "clear", "imports"]).assert().success();
    assert!(place.picture(&pickle).1.contains("importing '"));
}

#[test]
fn a_file_whose_name_begins_with_a_dash_is_imported() {
    let place = Place::new();
    std::fs::copy(golden_dir().join("rosinality_like_r32.pt"), place.path("-x.pt")).unwrap();
    let out = place.path("picture.png");
    place.rootgan().args(["generate", "--seeds", "0", "--grid", text(&out), "--from=-x.pt"]).assert().success();
    place.rootgan().args(["import", "--out=-pair", "--", "-x.pt"]).assert().success();
    assert!(place.path("-pair/generator.pt").is_file());
}

#[test]
fn a_pickle_is_finetuned_measured_and_exported_by_name_alone() {
    let place = Place::with_imports();
    let pickle = shipped("nvidia_like_r32.pkl");
    picture_folder(&place.path("discs"), 8, 32);
    let finetune =
        ["finetune", "--data", "discs", "--outdir", "runs", "--kimg", "0.016", "--batch", "8", "--grid", "2x2"];
    let run = common::command::run_folder(place.rootgan().args(finetune).args(["--from", &pickle]));
    let run = place.path(text(&run));
    place.rootgan().args(["inspect", &pickle]).assert().success();
    place.rootgan().args(["bench", "--iterations", "1", "--batch", "4", "--from", &pickle]).assert().success();
    place.rootgan().args(["dump", "--count", "2", "--out", "dump", "--from", text(&run)]).assert().success();
    for (format, file) in [("rosinality", "out.pt"), ("safetensors", "out.safetensors")] {
        let export = ["export", "--from", text(&run), "--format", format, "--out", file];
        place.rootgan().args(export).assert().success();
        assert!(place.picture(file).0 == place.picture(text(&run)).0, "{format}");
    }
    // The run goes on where it was, without the source.
    std::fs::remove_file(place.path("cache/rootgan/imports")).unwrap();
    place.rootgan().args(["finetune", "--override", "--kimg", "0.024", "--resume", text(&run)]).assert().success();
    let both = place.refusal(&["finetune", "--resume", text(&run), "--from", &pickle]);
    assert!(both.contains("goes on with its own networks"), "{both}");
}

#[test]
fn a_generator_alone_needs_a_discriminator_for_training_only() {
    let place = Place::with_imports();
    picture_folder(&place.path("discs"), 8, 32);
    let pair = common::shipped_pair("net_uncond_r32.safetensors");
    std::fs::copy(&pair.0, place.path("alone.pt")).unwrap();
    place.picture("alone.pt");
    let finetune =
        ["finetune", "--data", "discs", "--outdir", "runs", "--kimg", "0.008", "--batch", "8", "--from", "alone.pt"];
    let line = place.refusal(&finetune);
    assert!(line.contains("'alone.pt': it has no discriminator") && line.contains("--discriminator"), "{line}");
    place.rootgan().args(finetune).args(["--discriminator", text(&pair.1)]).assert().success();
}

#[test]
fn what_holds_no_networks_is_named() {
    let place = Place::new();
    std::fs::write(place.path("a.txt"), "words").unwrap();
    std::fs::write(place.path("empty.pkl"), "").unwrap();
    std::fs::write(place.path("page.pkl"), "<!DOCTYPE html><p>sign in").unwrap();
    std::fs::write(place.path("pointer.pkl"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    std::fs::write(place.path("packed.gz"), b"\x1f\x8b\x08\0").unwrap();
    std::fs::write(place.path("weights.h5"), b"\x89HDF\r\n").unwrap();
    std::fs::write(place.path("cut.pkl"), &std::fs::read(shipped("nvidia_like_r32.pkl")).unwrap()[..5000]).unwrap();
    std::fs::create_dir(place.path("empty")).unwrap();
    std::fs::create_dir(place.path("stopped")).unwrap();
    std::fs::write(place.path("stopped/training_options.json"), "{}").unwrap();
    picture_folder(&place.path("photos"), 1, 8);
    for (from, expected) in [
        ("a.txt", "'a.txt': it is a text file"),
        ("cut.pkl", "cannot read 'cut.pkl': it claims"),
        ("empty", "no complete snapshot"),
        ("stopped", "go on with it: rootgan finetune --resume stopped"),
        ("photos", "no networks in 'photos', but pictures: they go with --data 'photos'"),
        ("none.pkl", "'none.pkl': no such file"),
        ("ftp://host/file.pkl", "only http and https"),
    ] {
        let line = place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", from]);
        assert!(line.contains(expected), "{line}");
    }
    for (file, expected) in [
        ("a.txt", "it is a text file"),
        ("empty.pkl", "it is an empty file; copy or download it again"),
        ("page.pkl", "it is a web page; its download went wrong"),
        ("pointer.pkl", "it is a Git LFS pointer, not the file itself; fetch the file with git lfs pull"),
        ("packed.gz", "it is compressed with gzip; unpack it"),
        ("weights.h5", "it is a Keras or HDF5 file"),
    ] {
        let import = place.refusal(&["import", file, "--out", "imported"]);
        let from = place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", file]);
        assert!(import.contains(expected) && from.contains(expected), "{import} {from}");
    }
    // What failed left nothing in the cache.
    let imports = place.path("cache/rootgan/imports");
    assert_eq!(std::fs::read_dir(imports).unwrap().count(), 0);
}

#[test]
fn without_a_cache_that_can_be_written_it_works_and_warns() {
    let place = Place::new();
    std::fs::write(place.path("cache"), "a file is in the way").unwrap();
    let mut expected = names_in(place.folder.path());
    let mut command = place.rootgan();
    command.env("TMPDIR", place.folder.path());
    let grid = ["generate", "--seeds", "0", "--grid", "a.png", "--from", &shipped("nvidia_like_r32.pkl")];
    let done = command.args(grid).assert().success();
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(said.contains("warning: the import of '") && said.contains("XDG_CACHE_HOME"), "{said}");
    expected.insert("a.png".to_owned());
    assert_eq!(names_in(place.folder.path()), expected, "the temporary import is gone");
}

#[test]
fn a_signal_ends_an_import_and_nothing_is_left() {
    let place = Place::new();
    // Python that takes its time, and tells when it is asked to stop.
    let python = place.path("python");
    let script = "#!/bin/sh\ntrap 'touch stopped; exit 143' TERM\ntouch begun\nwhile :; do sleep 0.1; done\n";
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_rootgan"))
        .args(["generate", "--seeds", "0", "--grid", "a.png", "--from", &shipped("nvidia_like_r32.pkl")])
        .env("XDG_CACHE_HOME", place.path("cache"))
        .env("ROOTGAN_PYTHON", &python)
        .current_dir(place.folder.path())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !place.path("begun").exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(place.path("begun").exists(), "the import has not begun");
    assert_cmd::Command::new("kill").arg(child.id().to_string()).assert().success();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(place.path("stopped").exists());
    assert_eq!(std::fs::read_dir(place.path("cache/rootgan/imports")).unwrap().count(), 0);
}

/// The pixels of a grid, without the command in its metadata, which names another source or file every time.
fn pixels(grid: &Path) -> Vec<u8> {
    image::open(grid).unwrap().into_rgb8().into_raw()
}

/// What is in a folder, without PyTorch's own among temporary files.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("torchinductor_")).collect()
}

#[test]
fn two_processes_import_one_file_once() {
    let place = Place::new();
    let pickle = shipped("nvidia_like_r32.pkl");
    let said: Vec<String> = std::thread::scope(|scope| {
        let start = |name: &'static str| {
            let mut command = place.rootgan();
            command.args(["generate", "--seeds", "0", "--grid", name, "--from", &pickle]);
            scope.spawn(move || String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap())
        };
        let both = ["a.png", "b.png"].map(start);
        both.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(said.iter().filter(|text| text.contains("importing '")).count(), 1, "{said:?}");
    assert!(pixels(&place.path("a.png")) == pixels(&place.path("b.png")));
}

// ---- addresses

/// What a server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It sends the file, from the place that is asked for.
    Whole,
    /// It closes after so many bytes.
    Cut(usize),
    /// It sends the whole file whatever is asked for.
    NoRanges,
    NotFound,
    Page,
    /// It says how long the file is, and then nothing.
    Silent,
}

/// A server on the loopback that answers each request in the next manner, the last one for ever.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn of(content: Vec<u8>, manners: &'static [Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/ffhq.pkl", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().flatten().enumerate() {
                let request = answer(stream, &content, manners[index.min(manners.len() - 1)]);
                seen.lock().unwrap().push(request);
            }
        });
        Self { address, requests }
    }
}

fn answer(mut stream: TcpStream, content: &[u8], manner: Manner) -> String {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = request
        .iter()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = range.filter(|_| matches!(manner, Manner::Whole | Manner::Cut(_))).unwrap_or(0);
    let (status, body) = match manner {
        Manner::NotFound => ("404 Not Found", &b"nothing here"[..]),
        Manner::Page => ("200 OK", &b"\n<!DOCTYPE html><html>sign in</html>"[..]),
        _ if from > 0 => ("206 Partial Content", &content[from..]),
        _ => ("200 OK", content),
    };
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"one\"\r\nConnection: close\r\n\r\n", body.len());
    let sent = match manner {
        Manner::Cut(bytes) => &body[..bytes],
        Manner::Silent => &[],
        _ => body,
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
    if manner == Manner::Silent {
        // The connection stays open until the program goes away.
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    }
    request.join("\n")
}

fn pickle_bytes() -> Vec<u8> {
    std::fs::read(shipped("nvidia_like_r32.pkl")).unwrap()
}

#[test]
fn an_address_is_downloaded_once_and_told_with_its_checksum() {
    let place = Place::with_imports();
    let server = Server::of(pickle_bytes(), &[Manner::Whole]);
    let expected = sha256(Path::new(&shipped("nvidia_like_r32.pkl"))).unwrap();
    let (picture, said) = place.picture(&server.address);
    assert!(said.contains(&format!("downloaded 'ffhq.pkl': 0.9 MB, sha256 {expected}")), "{said}");
    assert!(picture == place.picture(&shipped("nvidia_like_r32.pkl")).0);
    let with_sum = ["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address, "--sha256"];
    place.rootgan().args(with_sum).arg(expected.to_uppercase()).assert().success();
    assert_eq!(server.requests.lock().unwrap().len(), 1, "it is kept");

    // A file that was cut in the cache is fetched again.
    let kept = std::fs::read_dir(place.path("cache/rootgan/downloads")).unwrap().flatten().map(|entry| entry.path());
    let file = kept.map(|entry| entry.join("ffhq.pkl")).find(|file| file.exists()).unwrap();
    let whole = pickle_bytes();
    for damaged in [b"cut".to_vec(), [&whole[..whole.len() - 1], b"x"].concat()] {
        std::fs::write(&file, damaged).unwrap();
        assert!(place.picture(&server.address).0 == picture);
    }
    assert_eq!(server.requests.lock().unwrap().len(), 3);

    // Another file than expected is asked for again, as the one that is kept may be old.
    let line = place.refusal(&[&with_sum[..], &[&"0".repeat(64)]].concat());
    assert!(line.contains(&format!("its sha256 is {expected}, not 0000")), "{line}");
    assert!(line.contains("it was downloaded just now"), "{line}");
    assert_eq!(server.requests.lock().unwrap().len(), 4);
    let line = place.refusal(&[&with_sum[..], &["12"]].concat());
    assert!(line.contains("64 hexadecimal digits"), "{line}");
}

#[test]
fn a_download_that_was_cut_off_goes_on_where_it_was() {
    let place = Place::with_imports();
    let server = Server::of(pickle_bytes(), &[Manner::Cut(100_000), Manner::Cut(50_000), Manner::Whole]);
    for bytes in ["100000", "150000"] {
        let line = place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address]);
        assert!(line.contains("was cut off") && line.contains("call this again to go on"), "{bytes}: {line}");
    }
    let (picture, said) = place.picture(&server.address);
    assert!(said.contains("going on at 0.1 MB") || said.contains("going on at 0.2 MB"), "{said}");
    assert!(picture == place.picture(&shipped("nvidia_like_r32.pkl")).0);
    let requests = server.requests.lock().unwrap().join("\n\n").to_lowercase();
    assert!(requests.contains("range: bytes=100000-") && requests.contains("range: bytes=150000-"), "{requests}");
    assert!(requests.contains("if-range: \"one\""), "{requests}");
    let left: Vec<_> = std::fs::read_dir(place.path("cache/rootgan/downloads")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_signal_ends_a_download_from_a_silent_server_at_once() {
    let place = Place::new();
    let server = Server::of(pickle_bytes(), &[Manner::Silent]);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_rootgan"))
        .args(["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address])
        .env("XDG_CACHE_HOME", place.path("cache"))
        .current_dir(place.folder.path())
        .spawn()
        .unwrap();
    let downloads = place.path("cache/rootgan/downloads");
    let has_begun = || {
        let entries = std::fs::read_dir(&downloads).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "part"))
    };
    let begun = Instant::now();
    while !has_begun() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(has_begun(), "the download has not begun");
    let asked = Instant::now();
    assert_cmd::Command::new("kill").arg(child.id().to_string()).assert().success();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[test]
fn a_server_without_ranges_is_asked_for_everything_again() {
    let place = Place::with_imports();
    let server = Server::of(pickle_bytes(), &[Manner::Cut(100_000), Manner::NoRanges]);
    place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address]);
    assert!(place.picture(&server.address).0 == place.picture(&shipped("nvidia_like_r32.pkl")).0);
}

#[test]
fn answers_that_are_no_checkpoint_are_told_and_not_kept() {
    let place = Place::new();
    for (manners, expected) in [
        (&[Manner::NotFound][..], "the server answers 404 Not Found; check the address"),
        (&[Manner::Page][..], "is a page of text and no checkpoint"),
    ] {
        let server = Server::of(pickle_bytes(), manners);
        let line = place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address]);
        assert!(line.contains(expected), "{line}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line =
        place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", &format!("http://{closed}/a.pkl")]);
    assert!(line.contains("cannot download") && line.contains("check the address and the network"), "{line}");
    let entries = std::fs::read_dir(place.path("cache/rootgan/downloads")).unwrap().flatten();
    assert!(
        entries.map(|entry| entry.file_name()).all(|name| name.to_string_lossy().starts_with('.')),
        "nothing is kept"
    );
}

#[test]
fn an_address_needs_a_place_for_the_file() {
    let place = Place::new();
    std::fs::write(place.path("cache"), "a file is in the way").unwrap();
    let server = Server::of(pickle_bytes(), &[Manner::Whole]);
    let line = place.refusal(&["generate", "--seeds", "0", "--grid", "a.png", "--from", &server.address]);
    assert!(line.contains("XDG_CACHE_HOME chooses another place") && line.contains("pass the file"), "{line}");
}
