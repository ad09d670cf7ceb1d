//! Every parser of files and texts against damaged ones: it returns, with a value or an error, within bounded memory.
//!
//! The inputs are those of `tests/corpus/`, as they are and damaged in many ways. As a test it takes seconds and
//! always does the same; `scripts/checks/fuzz` runs each parser for long, with `ROOTGAN_FUZZ_SECONDS` and new damage. What
//! is found is kept in `target/fuzz/<parser>/`; with its cause repaired it belongs into the corpus.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rootgan::config::{GridSize, MemoryFacts, NetworkFacts, Options, RunSettings};
use rootgan::data::decode::decode_picture;
use rootgan::data::{ConvertOptions, LabelChoice, Labels, Pictures, convert};
use rootgan::files::npz::{npz_shape, read_floats};
use rootgan::model::safety::Contents;
use rootgan::model::{self, DiscriminatorSpec, FileKind, GeneratorSpec, ScriptModule, weights};
use rootgan::run::checkpoint::Resumed;
use rootgan::run::checkpoint::{seal, tensors};
use rootgan::run::snapshot::{self, Network, SnapshotManifest};

use serde_json::{Value, json};

/// How much more memory than before a parser may take for a file of some kilobytes.
const MOST_BYTES: u64 = 3 << 29;
/// One that takes longer hangs.
const MOST_TIME: Duration = Duration::from_secs(30);
/// Inputs do not grow beyond.
const MOST_LENGTH: usize = 1 << 16;

/// A parser of what is in a file, called with a folder of its own.
type Parse = fn(&Path, &[u8]) -> Result<()>;

/// One parser's turn: all of the corpus in this folder, then `cases` damaged ones, or as many as the time allows.
fn fuzz(parser: &str, folder: &str, cases: u64, parse: Parse) {
    // Memory is the whole process's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = std::env::var("ROOTGAN_FUZZ_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = match seconds {
        Some(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64,
        None => 1,
    };
    let mut run = Run::new(parser, parse);
    let corpus = corpus(folder);
    corpus.iter().for_each(|input| run.try_one(input));
    let accepted = corpus.len() as u64 - run.refused;
    assert!(accepted > 0, "{parser}: damage to what is refused anyway finds little; the last: {}", run.last_refusal);
    let mut damage = Damage { rng: ChaCha8Rng::seed_from_u64(seed), corpus };
    while until.map_or(run.cases < cases, |until| Instant::now() < until) {
        run.try_one(&damage.next());
    }
    println!(
        "{parser}: {} cases, {} findings, {} refused, {} panics caught by the parser, longest {:.2} s, seed {seed}",
        run.cases,
        run.findings.len(),
        run.refused,
        run.caught,
        run.longest.as_secs_f64()
    );
    assert!(run.findings.is_empty(), "{parser}:\n{}", run.findings.join("\n"));
}

/// What has happened so far.
struct Run {
    parse: Parse,
    place: tempfile::TempDir,
    kept: PathBuf,
    current: File,
    /// Memory at the beginning, or after the last finding.
    peak: u64,
    cases: u64,
    refused: u64,
    last_refusal: String,
    caught: u64,
    longest: Duration,
    findings: Vec<String>,
}

impl Run {
    fn new(parser: &str, parse: Parse) -> Self {
        common::configure_torch();
        std::panic::set_hook(Box::new(|_| {}));
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../fuzz").join(parser);
        fs::create_dir_all(&kept).unwrap();
        // In memory, where there is such a place: a disk would take most of the time.
        let fast = Path::new("/dev/shm");
        let place = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() }.unwrap();
        let peak = peak_bytes();
        let current = File::create(kept.join("current")).unwrap();
        let (cases, refused, caught, longest, findings) = (0, 0, 0, Duration::ZERO, Vec::new());
        Self {
            parse,
            place,
            kept,
            current,
            peak,
            last_refusal: String::new(),
            cases,
            refused,
            caught,
            longest,
            findings,
        }
    }

    fn try_one(&mut self, input: &[u8]) {
        // Whatever ends the process leaves its cause here.
        self.current.set_len(0).unwrap();
        self.current.write_all_at(input, 0).unwrap();
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.parse)(self.place.path(), input)));
        let (taken, more) = (begun.elapsed(), peak_bytes().saturating_sub(self.peak));
        self.peak = if more > MOST_BYTES { peak_bytes() } else { self.peak };
        self.cases += 1;
        self.longest = self.longest.max(taken);
        match outcome {
            Err(panic) => self.keep(input, &format!("panicked: {}", rootgan::tensor::panic_line(&*panic))),
            Ok(_) if more > MOST_BYTES => self.keep(input, &format!("took {} MiB", more >> 20)),
            Ok(_) if taken > MOST_TIME => self.keep(input, &format!("took {} s", taken.as_secs())),
            Ok(Err(error)) => {
                self.refused += 1;
                self.last_refusal = format!("{error:#}");
                self.caught += u64::from(self.last_refusal.contains("panicked"));
            }
            Ok(Ok(())) => {}
        }
    }

    fn keep(&mut self, input: &[u8], what: &str) {
        let path = self.kept.join(format!("finding-{:02}", self.findings.len()));
        fs::write(&path, input).unwrap();
        self.findings.push(format!("{what}, with '{}'", path.display()));
        assert!(self.findings.len() < 100, "{}", self.findings.join("\n"));
    }
}

/// The most memory that this process has had.
fn peak_bytes() -> u64 {
    // SAFETY: all zeros are a value of this plain structure, and it is written by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}

/// Makes one input of others.
struct Damage {
    rng: ChaCha8Rng,
    corpus: Vec<Vec<u8>>,
}

/// Lengths and counts that parsers trip over.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// Pieces of text that they trip over.
const WORDS: [&str; 22] = [
    "null",
    "true",
    "-1",
    "1e999",
    "-1e308",
    "0.5",
    "18446744073709551616",
    "4294967295",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "\\ud800",
    ",",
    ":",
    "-",
    "x",
    "\u{feff}",
    "../",
    "[[[[[[[[[[[[[[[[",
];

impl Damage {
    fn next(&mut self) -> Vec<u8> {
        let mut input = self.one_of_the_corpus();
        let wounds = if self.rng.random_bool(0.6) { 1 } else { self.rng.random_range(2..=5) };
        let json = if self.rng.random_bool(0.7) { serde_json::from_slice(&input).ok() } else { None };
        match json {
            Some(mut value) => {
                (0..wounds).for_each(|_| self.damage_json(&mut value));
                input = value.to_string().into_bytes();
            }
            None => (0..wounds).for_each(|_| self.damage(&mut input)),
        }
        input.truncate(MOST_LENGTH);
        if self.rng.random_bool(0.5) {
            restore_png_checksums(&mut input);
        }
        input
    }

    fn one_of_the_corpus(&mut self) -> Vec<u8> {
        self.corpus[self.rng.random_range(0..self.corpus.len())].clone()
    }

    fn damage(&mut self, input: &mut Vec<u8>) {
        let (at, end) = self.range(input.len());
        match self.rng.random_range(0..16) {
            0 | 1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.rng.random_range(0..8)),
            2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.rng.random()),
            3 => input.truncate(at),
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].repeat(self.rng.random_range(1..=3));
                drop(input.splice(at..at, piece));
            }
            6 | 7 => self.overwrite_number(input, at),
            8 | 11..=13 => self.exchange_digits(input, at),
            9 => {
                let word = WORDS[self.rng.random_range(0..WORDS.len())];
                let over = if self.rng.random() { at } else { end };
                drop(input.splice(at..over, word.bytes()));
            }
            10 => {
                let other = self.one_of_the_corpus();
                let (from, to) = self.range(other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            _ => input[at..end].iter_mut().for_each(|byte| *byte = self.rng.random()),
        }
    }

    /// One value of a JSON text becomes another, goes or comes twice: the text stays well-formed.
    fn damage_json(&mut self, value: &mut Value) {
        let go_on = self.rng.random_bool(0.9);
        match value {
            Value::Object(fields) if go_on && !fields.is_empty() => {
                let at = self.rng.random_range(0..fields.len());
                let key = fields.keys().nth(at).unwrap().clone();
                match self.rng.random_range(0..12) {
                    0 => drop(fields.remove(&key)),
                    1 => drop(fields.insert(format!("{key}{}", self.rng.random_range(0..9)), fields[&key].clone())),
                    _ => self.damage_json(&mut fields[&key]),
                }
            }
            Value::Array(items) if go_on && !items.is_empty() => {
                let at = self.rng.random_range(0..items.len());
                match self.rng.random_range(0..8) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => self.damage_json(&mut items[at]),
                }
            }
            Value::Number(_) if self.rng.random_bool(0.7) => *value = self.number(),
            other => {
                *other = match self.rng.random_range(0..7) {
                    0 => Value::Null,
                    1 => Value::Bool(self.rng.random()),
                    2 => Value::Array(vec![other.clone(); self.rng.random_range(0..4)]),
                    3 => Value::Object(serde_json::Map::new()),
                    4 => WORDS[self.rng.random_range(0..WORDS.len())].into(),
                    _ => self.number(),
                }
            }
        }
    }

    fn number(&mut self) -> Value {
        let whole = NUMBERS[self.rng.random_range(0..NUMBERS.len())].wrapping_add(self.rng.random_range(0..3));
        match self.rng.random_range(0..8) {
            0 => json!(-(whole as f64)),
            1 => json!(whole as f64 + 0.5),
            2 => json!(1e308),
            3 => json!(5e-324),
            4 => json!(self.rng.random::<f64>()),
            _ => json!(whole),
        }
    }

    /// A piece, mostly a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let at = self.rng.random_range(0..=length);
        let most = if self.rng.random_bool(0.8) { 16 } else { length };
        (at, (at + self.rng.random_range(0..=most)).min(length))
    }

    /// A number in the bytes becomes another, of 1 to 8 bytes, in either order.
    fn overwrite_number(&mut self, input: &mut [u8], at: usize) {
        let width = 1 << self.rng.random_range(0..4);
        let near = NUMBERS[self.rng.random_range(0..NUMBERS.len())].wrapping_add(self.rng.random_range(0..3));
        let mut bytes = near.to_le_bytes()[..width].to_vec();
        if self.rng.random() {
            bytes.reverse();
        }
        input.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = new);
    }

    /// The next number in the text becomes another.
    fn exchange_digits(&mut self, input: &mut Vec<u8>, at: usize) {
        let at = if self.rng.random() { at } else { self.rng.random_range(0..=at) };
        let Some(first) = input[at..].iter().position(u8::is_ascii_digit).map(|first| at + first) else { return };
        let count = input[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = NUMBERS[self.rng.random_range(0..NUMBERS.len())].to_string();
        input.splice(first..first + count, number.bytes());
    }
}

/// Without them, damage in a png stops at its checksums.
fn restore_png_checksums(bytes: &mut [u8]) {
    let mut at = 8;
    while bytes.starts_with(b"\x89PNG") && at + 12 <= bytes.len() {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = at + 8 + length;
        if end + 4 > bytes.len() {
            return;
        }
        let sum = !bytes[at + 4..end].iter().fold(!0u32, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
        });
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// The files of a corpus by name.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = corpus_folder(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "'{}' is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Writes the input to a file of this name.
fn file(place: &Path, name: &str, input: &[u8]) -> PathBuf {
    let path = place.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, input).unwrap();
    path
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

#[test]
fn pictures() {
    fuzz("pictures", "pictures", 200, |place, input| {
        let path = file(place, "picture.png", input);
        decode_picture(&path, 16, 3)?;
        decode_picture(&path, 8, 1).map(drop)
    });
}

#[test]
fn zips() {
    fuzz("zips", "zips", 100, |place, input| {
        let pictures = Pictures::open(&file(place, "pictures.zip", input))?;
        (0..pictures.len().min(20)).for_each(|index| drop(pictures.read(index)));
        pictures.side_file("dataset.json")?;
        Labels::from_pictures(&pictures, 3).map(drop)
    });
}

/// As `rootgan dataset` goes through a zip: sizes, animations, digests, labels, report.
#[test]
fn checks() {
    fuzz("checks", "zips", 50, |place, input| {
        let path = file(place, "pictures.zip", input);
        let findings = convert(&path, None, &ConvertOptions::default())?;
        assert!(findings.lines().iter().all(|line| line.lines().count() <= 1));
        Ok(())
    });
}

#[test]
fn labels() {
    fuzz("labels", "labels", 150, |place, input| {
        ["a.png", "b/c.png"].into_iter().for_each(|name| drop(file(place, name, b"x")));
        file(place, "dataset.json", input);
        let pictures = Pictures::open(place)?;
        let chosen = [LabelChoice::Auto, LabelChoice::Json].map(|choice| Labels::chosen(&pictures, choice));
        let labels = Labels::from_pictures(&pictures, 3)?;
        assert_eq!(labels.counts().iter().sum::<u64>(), 2);
        for labels in chosen {
            drop(labels?.0.map(|labels| labels.summary()));
        }
        Ok(())
    });
}

#[test]
fn configurations() {
    fuzz("configurations", "configurations", 200, |place, input| {
        let options = Options::from_file(&file(place, "c.json", input))?;
        let resolution = 16;
        let facts = NetworkFacts {
            resolution,
            mbstd_group_size: 4,
            has_ws: true,
            is_random: false,
            has_precision: true,
            on_cuda: false,
            processes: 1,
            memory: MemoryFacts::default(),
        };
        let config = RunSettings::resolve(&options, facts)?;
        Ok(serde_json::to_string(config.effective()).map(drop)?)
    });
}

#[test]
fn grids() {
    fuzz("grids", "grids", 300, |_, input| {
        let text = text(input);
        let grid: GridSize = text.parse()?;
        assert_eq!(grid.to_string().parse::<GridSize>()?, grid);
        Ok(())
    });
}

#[test]
fn seeds() {
    fuzz("seeds", "seeds", 200, |_, input| rootgan::cli::generate::parse_seeds(&text(input)).map(drop));
}

#[test]
fn safetensors() {
    fuzz("safetensors", "safetensors", 200, |place, input| {
        weights::read(&file(place, "w.safetensors", input)).map(drop)
    });
}

#[test]
fn states() {
    fuzz("states", "safetensors", 100, |place, input| {
        tensors::read(&file(place, "state.safetensors", input)).map(drop)
    });
}

#[test]
fn checkpoints() {
    fuzz("checkpoints", "checkpoints", 150, |place, input| {
        let folder = place.join("checkpoints/000000000008");
        file(&folder, "state.safetensors", b"hello");
        // With its right checksum, where it is so much of a manifest: the damage is to go deeper than that.
        let sealed = serde_json::from_slice::<Value>(input).ok().filter(Value::is_object).map(|mut manifest| {
            seal(&mut manifest);
            manifest.to_string().into_bytes()
        });
        file(&folder, "checkpoint.json", sealed.as_deref().unwrap_or(input));
        let (resumed, _) = Resumed::open(place)?;
        resumed.record.check_pictures("", place)?;
        drop(resumed.record.differences("cpu", Some("a GPU"), 1, 2));
        Ok(())
    });
}

#[test]
fn manifests() {
    fuzz("manifests", "manifests", 150, |place, input| {
        for network in Network::ALL {
            file(place, &format!("network-snapshot-000000.{}.pt", network.name()), b"hello");
        }
        file(place, "network-snapshot-000000.json", input);
        let path = snapshot::find(place)?.manifest;
        let manifest = SnapshotManifest::read(&path)?;
        for network in Network::ALL {
            assert_eq!(manifest.checked(&path, network)?.parent(), Some(place));
        }
        Ok(())
    });
}

#[test]
fn descriptions() {
    fuzz("descriptions", "descriptions", 200, |_, input| {
        let (path, text) = (Path::new("g.pt"), text(input));
        if let Ok(spec) = model::parse_description::<DiscriminatorSpec>(path, &text, "discriminator") {
            assert!(spec.mbstd_group_size > 0 && spec.img_resolution > 0 && spec.c_dim >= 0);
        }
        let spec: GeneratorSpec = model::parse_description(path, &text, "generator")?;
        assert!(spec.z_dim > 0 && spec.img_resolution > 0 && spec.c_dim >= 0);
        Ok(())
    });
}

#[test]
fn npz_files() {
    fuzz("npz_files", "npz_files", 150, |place, input| npz_shape(&file(place, "a.npz", input)).map(drop));
}

#[test]
fn ws_files() {
    fuzz("ws_files", "ws_files", 150, |place, input| {
        let (shape, values) = read_floats(&file(place, "w.npz", input), "w")?;
        assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        Ok(())
    });
}

#[test]
fn file_kinds() {
    fuzz("file_kinds", "file_kinds", 150, |place, input| FileKind::detect(&file(place, "a.pt", input)).map(|_| ()));
}

#[test]
fn contents_of_networks() {
    fuzz("contents_of_networks", "networks", 3000, |_, input| match Contents::read(input) {
        Ok(_) => Ok(()),
        Err(refusal) => anyhow::bail!("{refusal}"),
    });
}

#[test]
fn networks() {
    fuzz("networks", "networks", 50, |place, input| {
        let script = ScriptModule::load(&file(place, "a.pt", input), tch::Device::Cpu)?;
        drop(script.provenance());
        Ok(())
    });
}
