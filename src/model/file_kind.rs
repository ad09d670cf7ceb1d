//! Tells by its content what a file is that was given as a network, so that the message can name it and a remedy.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::opening::to_read;

/// The kind of a file, told by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A TorchScript file, as `torch.jit.save` writes it.
    TorchScript,
    /// A safetensors file: weights alone.
    Safetensors,
    /// A checkpoint of another program, which can be imported.
    Checkpoint {
        /// Words after "it is" in a message, as in `an NVIDIA StyleGAN pickle`.
        what: &'static str,
    },
    /// A file that rootgan cannot use.
    Foreign {
        /// Words after "it is" in a message, as in `a picture`.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
}

/// The number of bytes at the beginning of a pickle in which the names of its classes are looked for.
const HEAD_BYTES: u64 = 1 << 20;

/// Files of other kinds that are taken for networks: how they begin, what they are, and the remedy.
const OTHERS: [(&[u8], &str, &str); 6] = [
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"\x89HDF", "a Keras or HDF5 file", REMEDY),
];
/// The remedy where nothing can be made of a file.
const REMEDY: &str = "pass networks: a run, a snapshot, TorchScript (.pt), or a checkpoint such as NVIDIA's .pkl";

impl FileKind {
    /// Looks at the first bytes of a file, and at the names in a zip archive.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn detect(path: &Path) -> Result<Self> {
        let mut head = Vec::new();
        to_read(path)
            .and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head))
            .with_context(|| format!("cannot read '{}'", path.display()))?;
        let has = |text: &str| head.windows(text.len()).any(|window| window == text.as_bytes());
        Ok(match head.as_slice() {
            [] => FileKind::Foreign { what: "an empty file", remedy: "copy or download it again" },
            // This comes first: the length that a safetensors file begins with may look like any other magic number.
            [_, _, _, _, _, _, _, 0, b'{', ..] => FileKind::Safetensors,
            [b'P', b'K', 3, 4, ..] => kind_of_zip(path)?,
            [0x80, 2..=5, ..] if has("torch_utils.persistence") => {
                FileKind::Checkpoint { what: "an NVIDIA StyleGAN pickle" }
            }
            [0x80, 2..=5, ..] if has("dnnlib.tflib") => FileKind::Foreign {
                what: "a pickle of the TensorFlow StyleGAN",
                remedy: "convert it with a PyTorch StyleGAN2 first, then import the result with rootgan import",
            },
            [0x80, 2..=5, ..] => {
                FileKind::Checkpoint { what: "a Python pickle, perhaps of torch.save before torch 1.6" }
            }
            [8, 1..=20, 0x12, ..] => {
                FileKind::Foreign { what: "an ONNX model", remedy: "pass the TorchScript file that it was made from" }
            }
            bytes => foreign(bytes),
        })
    }
}

/// Tells what a file is that holds no network of any kind.
fn foreign(bytes: &[u8]) -> FileKind {
    if let Some((_, what, remedy)) = OTHERS.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return FileKind::Foreign { what, remedy };
    }
    let (what, remedy) = if begins_as_page(bytes) {
        ("a web page", "its download went wrong: copy the address of the file itself, or download it with a browser")
    } else if image::guess_format(bytes).is_ok() {
        ("a picture", "put pictures into a folder and pass that with --data")
    } else if is_text(&bytes[..bytes.len().min(256)]) {
        ("a text file", REMEDY)
    } else {
        ("of a format unknown here", REMEDY)
    };
    FileKind::Foreign { what, remedy }
}

/// Tells zip archives apart by their entries: TorchScript, the checkpoints of Python's `torch.save` and NumPy's
/// archives are all zip files.
fn kind_of_zip(path: &Path) -> Result<FileKind> {
    let file = File::open(path).with_context(|| format!("cannot read '{}'", path.display()))?;
    let Ok(archive) = zip::ZipArchive::new(file) else {
        return Ok(FileKind::Foreign { what: "a damaged zip archive", remedy: "copy or download it again" });
    };
    let any = |ending: &str| archive.file_names().any(|name| name.ends_with(ending));
    Ok(if any("/constants.pkl") {
        FileKind::TorchScript
    } else if any("/data.pkl") {
        FileKind::Checkpoint { what: "a checkpoint of Python's torch.save (rosinality's, say)" }
    } else if any(".npy") {
        FileKind::Foreign { what: "a NumPy archive", remedy: "pass a TorchScript file (.pt)" }
    } else {
        FileKind::Foreign { what: "a zip archive", remedy: "unpack it, and pass pictures as a folder with --data" }
    })
}

/// Whether bytes begin as those of a web page do.
pub fn begins_as_page(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
    let text = head.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']).to_lowercase();
    ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| text.starts_with(tag))
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0)
}
