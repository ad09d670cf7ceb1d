//! Finds the networks that a user means by `--from`: a run, a snapshot, a folder or file of TorchScript, a checkpoint of
//! another program, or the address of any such file. Whatever it is, networks as TorchScript files come out.

mod download;
mod imports;
mod network_folder;
mod python;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub use self::download::is_address;
pub use self::imports::{file_with_sha256, remove_scratch, scratch_folders};
use self::network_folder::GENERATOR_RAW;
pub use self::network_folder::{DISCRIMINATOR, EXPORT_RECORD, GENERATOR, refuse_present, replace_networks};
pub use self::python::{PythonOutput, run as run_python};
use crate::data::folder::EXTENSIONS;
use crate::files::checksum::sha256;
use crate::model::FileKind;
use crate::run::snapshot::{self, Network, SnapshotManifest};
use crate::system::ui::say;

/// Networks that were found, not read yet.
#[derive(Clone, Debug)]
pub struct Source {
    networks: PairFiles,
    /// Description for the terminal: `the snapshot at 20 kimg`.
    pub title: String,
    /// Origin for records that travel with the weights: names and numbers, no paths.
    pub record: Value,
}

#[derive(Clone, Debug)]
enum PairFiles {
    /// The files of a snapshot, in the manifest at this path, which has their checksums.
    Snapshot(PathBuf, Box<SnapshotManifest>),
    Files {
        generator: PathBuf,
        generator_raw: Option<PathBuf>,
        discriminator: Option<PathBuf>,
    },
}

impl Source {
    /// Finds what `from` means. An address is downloaded and a checkpoint of another program imported, both once. Where
    /// `expected` is given, the file has to have this SHA-256 (in hexadecimal).
    ///
    /// # Errors
    /// There is nothing of that name, nothing that holds networks, or another file than was expected.
    pub fn find(from: &Path, expected: Option<&str>) -> Result<Self> {
        let path = &local_file(from, expected)?;
        if path.is_dir() {
            return Self::in_folder(path);
        }
        if is_of_snapshot(path) {
            return Self::of_snapshot(path);
        }
        ensure!(path.exists(), "cannot find '{}': no such file or folder; check the path", path.display());
        match FileKind::detect(path)? {
            FileKind::TorchScript => Ok(Self::of_script(path)),
            FileKind::Safetensors | FileKind::Checkpoint { .. } => Self::of_checkpoint(path),
            FileKind::Foreign { what, remedy } => {
                bail!("cannot take networks from '{}': it is {what}; {remedy}", path.display())
            }
        }
    }

    /// Makes a source of these files.
    pub fn of_files(generator: &Path, discriminator: Option<&Path>) -> Self {
        let record = json!({ "generator": name_of(generator), "discriminator": discriminator.map(name_of) });
        let networks = PairFiles::Files {
            generator: generator.to_owned(),
            generator_raw: None,
            discriminator: discriminator.map(Path::to_owned),
        };
        Self { networks, title: "generator".to_owned(), record }
    }

    fn in_folder(folder: &Path) -> Result<Self> {
        let generator = folder.join(GENERATOR);
        // A run may hold an export, but not the other way round.
        let has_snapshots = !snapshot::all(folder)?.is_empty();
        if generator.is_file() && !has_snapshots {
            return Ok(Self::of_pair(folder));
        }
        ensure!(
            has_snapshots || !has_pictures(folder),
            "there are no networks in '{0}', but pictures: they go with --data '{0}', and --from takes a run or a checkpoint",
            folder.display()
        );
        Self::of_snapshot(folder)
    }

    fn of_pair(folder: &Path) -> Self {
        let there = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Self {
            record: json!({ "pair": name_of(folder) }),
            title: "generator".to_owned(),
            networks: PairFiles::Files {
                generator: folder.join(GENERATOR),
                generator_raw: there(GENERATOR_RAW),
                discriminator: there(DISCRIMINATOR),
            },
        }
    }

    fn of_snapshot(path: &Path) -> Result<Self> {
        let manifest = snapshot::find(path)?.manifest;
        let listed = SnapshotManifest::read(&manifest)?;
        Ok(Self {
            title: format!("the snapshot at {} kimg", listed.kimg),
            record: json!({ "snapshot": name_of(&manifest), "kimg": listed.kimg }),
            networks: PairFiles::Snapshot(manifest, Box::new(listed)),
        })
    }

    /// Makes a source of a generator alone; the name `generator.pt` brings what lies beside it, as its folder would.
    fn of_script(path: &Path) -> Self {
        match path.parent().filter(|_| path.file_name().is_some_and(|name| name == GENERATOR)) {
            Some(folder) => Self::of_pair(folder),
            None => Self::of_files(path, None),
        }
    }

    fn of_checkpoint(path: &Path) -> Result<Self> {
        let import = imports::import(path)?;
        let record = &import.record;
        let format = record["format"].as_str().unwrap_or("a checkpoint").to_owned();
        let side = &record["architecture"]["img_resolution"];
        say(format!("'{}': {format}, {side}x{side}", path.display()));
        Ok(Self {
            record: json!({ "import": name_of(path), "sha256": record["source_sha256"], "format": format }),
            title: format!("the generator of {format}"),
            ..Self::of_pair(&import.folder)
        })
    }

    /// Returns the path of the generator that makes pictures: the moving average where there is one. A snapshot's file
    /// is compared with its checksum, so call it before loading.
    ///
    /// # Errors
    /// A file that is missing or has changed since it was written.
    pub fn generator(&self) -> Result<PathBuf> {
        match &self.networks {
            PairFiles::Snapshot(manifest, listed) => listed.checked(manifest, Network::GEma),
            PairFiles::Files { generator, .. } => Ok(generator.clone()),
        }
    }

    /// Returns the path of the generator as trained, where it is another file.
    ///
    /// # Errors
    /// The errors of [`Source::generator`].
    pub fn generator_raw(&self) -> Result<Option<PathBuf>> {
        match &self.networks {
            PairFiles::Snapshot(manifest, listed) => listed.checked(manifest, Network::G).map(Some),
            PairFiles::Files { generator_raw, .. } => Ok(generator_raw.clone()),
        }
    }

    /// Returns the path of the discriminator, where there is one.
    ///
    /// # Errors
    /// The errors of [`Source::generator`].
    pub fn discriminator(&self) -> Result<Option<PathBuf>> {
        match &self.networks {
            PairFiles::Snapshot(manifest, listed) => listed.checked(manifest, Network::D).map(Some),
            PairFiles::Files { discriminator, .. } => Ok(discriminator.clone()),
        }
    }

    /// Returns the folder of the run that the networks belong to, if they do.
    pub fn run(&self) -> Option<&Path> {
        match &self.networks {
            PairFiles::Snapshot(manifest, _) => manifest.parent(),
            PairFiles::Files { .. } => None,
        }
    }

    /// Returns the manifest of a snapshot, and its path; None for other sources.
    pub fn snapshot(&self) -> Option<(&Path, &SnapshotManifest)> {
        match &self.networks {
            PairFiles::Snapshot(manifest, listed) => Some((manifest, listed)),
            PairFiles::Files { .. } => None,
        }
    }
}

/// Returns the path of a file, which is downloaded where `from` is an address. Where `expected` is given, the file has to have
/// this SHA-256 (in hexadecimal).
///
/// # Errors
/// The file cannot be downloaded, or is another one than was expected.
pub fn local_file(from: &Path, expected: Option<&str>) -> Result<PathBuf> {
    let expected = expected.map(parse_sha256).transpose()?;
    if let Some(url) = from.to_str().filter(|_| is_address(from)) {
        return download::download(url, expected.as_deref());
    }
    if let Some(expected) = expected {
        check_sha256(from, &expected)?;
    }
    Ok(from.to_owned())
}

/// Whether a path is a manifest, or a network that one lists. NVIDIA's checkpoints have the same names, but their own
/// endings.
fn is_of_snapshot(path: &Path) -> bool {
    let is_manifest = path.extension().is_some_and(|extension| extension == "json");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    is_manifest
        || Network::ALL
            .iter()
            .any(|network| name.starts_with("network-snapshot-") && name.ends_with(&format!(".{}.pt", network.name())))
}

/// Whether a folder that is no run holds pictures.
fn has_pictures(folder: &Path) -> bool {
    let is_picture = |path: PathBuf| {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        EXTENSIONS.contains(&ending.as_str())
    };
    let is_run = folder.join("training_options.json").is_file();
    !is_run && std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| is_picture(entry.path()))
}

fn parse_sha256(text: &str) -> Result<String> {
    let sha256 = text.trim().to_lowercase();
    ensure!(
        sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "--sha256 '{sha256}' is no SHA-256; pass its 64 hexadecimal digits"
    );
    Ok(sha256)
}

fn check_sha256(path: &Path, expected: &str) -> Result<()> {
    let found = sha256(path).with_context(|| format!("--sha256 is for a file, not '{}'", path.display()))?;
    ensure!(
        found == expected,
        "cannot use '{}': its sha256 is {found}, not {expected}; it is another file than you expect, so get it again from where \
         the checksum is from",
        path.display()
    );
    Ok(())
}

/// Returns the last part of a path: records travel with the weights, and where somebody keeps files is private.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
