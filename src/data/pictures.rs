//! The list of pictures in a folder, searched at any depth, or in a zip; and the reading of their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::archive::PictureZip;
use super::decode::read_bounded;
use super::folder::{EXTENSIONS, list_images};
use super::formats::{MAX_BYTES, stored_size};
use super::passed_over::{PassedOver, extension_of, is_passed_over};
use crate::files::opening::to_read;
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::Bar;

/// Largest size, in bytes, of a file beside the pictures; labels of millions of pictures have less.
const MAX_SIDE_FILE_BYTES: u64 = 128 << 20;

/// A list of picture files, in an order that is the same on every machine.
pub struct Pictures {
    root: PathBuf,
    zip: Option<PictureZip>,
    /// Names below the root, sorted by their bytes.
    names: Vec<PathBuf>,
    /// Pictures of a zip whose names point out of it, sorted.
    escaping: Vec<PathBuf>,
    passed_over: PassedOver,
}

impl Pictures {
    /// Lists the pictures in a folder or zip.
    ///
    /// # Errors
    /// `root` is missing or neither of them, or holds no picture.
    pub fn open(root: &Path) -> Result<Self> {
        let metadata = fs::metadata(root)
            .with_context(|| format!("cannot open the pictures '{}'; check the path", root.display()))?;
        if metadata.is_dir() {
            let (names, passed_over) = list_images(root)?;
            return Ok(Self { root: root.to_owned(), zip: None, names, escaping: Vec::new(), passed_over });
        }
        let remedy = match extension_of(root).as_str() {
            "tar" | "gz" | "tgz" | "bz2" | "xz" | "zst" | "7z" | "rar" => "unpack it first and pass the folder",
            _ => "pass the folder or zip that holds the pictures",
        };
        ensure!(
            metadata.is_file() && is_zip(root),
            "cannot read pictures from '{}': it is neither a folder nor a zip; {remedy}",
            root.display()
        );
        let zip = PictureZip::open(root)?;
        let (names, escaping, passed_over) = names_in(root, &zip)?;
        Ok(Self { root: root.to_owned(), zip: Some(zip), names, escaping, passed_over })
    }

    /// Returns the number of pictures, at least 1.
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns the folder or zip.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the names below the root, sorted by their bytes.
    pub fn names(&self) -> &[PathBuf] {
        &self.names
    }

    /// Returns names in a zip that point out of it, as `../../picture.png` does; their pictures are passed over.
    pub fn escaping(&self) -> &[PathBuf] {
        &self.escaping
    }

    /// Returns what was passed over beside the pictures.
    pub fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    /// Returns where picture `index` lies, for messages.
    pub fn place(&self, index: usize) -> PathBuf {
        self.root.join(&self.names[index])
    }

    /// Reads the bytes of picture `index`, still encoded.
    ///
    /// # Errors
    /// The picture cannot be read, is empty, or has more than 512 MiB.
    pub fn read(&self, index: usize) -> Result<Vec<u8>> {
        let bytes = self.content(&self.names[index], MAX_BYTES)?;
        ensure!(!bytes.is_empty(), "the file is empty");
        Ok(bytes)
    }

    /// Reads a file beside the pictures, such as `dataset.json`; None where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or has more than 128 MiB.
    pub fn side_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let there = match &self.zip {
            Some(zip) => zip.has(name),
            None => self.root.join(name).exists(),
        };
        if !there {
            return Ok(None);
        }
        let path = self.root.join(name);
        self.content(Path::new(name), MAX_SIDE_FILE_BYTES)
            .map(Some)
            .with_context(|| format!("cannot read '{}'; repair or remove it", path.display()))
    }

    /// Computes the SHA-256 over the content of all pictures, in order; names and places do not matter. A picture that
    /// cannot be read counts as empty.
    ///
    /// # Errors
    /// A signal came.
    pub fn content_sha256(&self, stop: &StopRequest) -> Result<String, Interrupted> {
        let bar = Bar::new(self.len() as u64, "checking pictures");
        let digest = |index| {
            stop.check()?;
            bar.inc(1);
            Ok(Sha256::digest(self.read(index).unwrap_or_default()))
        };
        let digests: Vec<_> = (0..self.len()).into_par_iter().map(digest).collect::<Result<_, Interrupted>>()?;
        bar.finish();
        Ok(format!("{:x}", Sha256::digest(digests.concat())))
    }

    /// Returns the height and width that all pictures have, by their headers; those that cannot be read are passed
    /// over.
    ///
    /// # Errors
    /// Pictures of different sizes, or that are not square: the error names one that is not as most are. No picture
    /// that can be read.
    pub fn common_side(&self) -> Result<u32> {
        let size = |index: usize| Some((index, stored_size(&self.read(index).ok()?).ok()?));
        let sizes: Vec<_> = (0..self.len()).into_par_iter().filter_map(size).collect();
        let mut frequency = BTreeMap::<u32, usize>::new();
        sizes.iter().for_each(|&(_, (width, _))| *frequency.entry(width).or_default() += 1);
        let root = self.root.display();
        let (&side, _) = frequency
            .iter()
            .max_by_key(|&(_, &count)| count)
            .with_context(|| format!("no picture in '{root}' can be read; check the files"))?;
        let odd = sizes.iter().find(|(_, size)| *size != (side, side));
        if let Some((index, (width, height))) = odd {
            bail!(
                "cannot take the pictures in '{root}' at their own size: '{}' has {width}x{height} pixels, {side}x{side} is \
                 expected of all; pass --resolution to crop and resize them",
                self.place(*index).display()
            );
        }
        Ok(side)
    }

    /// Keeps the pictures at these places only, in order.
    pub(super) fn keep(&mut self, places: &[usize]) {
        self.names = places.iter().map(|&place| std::mem::take(&mut self.names[place])).collect();
    }

    fn content(&self, name: &Path, limit: u64) -> Result<Vec<u8>> {
        match &self.zip {
            Some(zip) => zip.read(name.to_str().context("a name that is not UTF-8")?, limit),
            None => read_bounded(to_read(&self.root.join(name))?, limit),
        }
    }
}

/// Whether a file is a zip, which begins with its first entry, or with the end of an empty list.
fn is_zip(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = to_read(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && (start == *b"PK\x03\x04" || start == *b"PK\x05\x06")
}

/// Sorts the names of a zip: returns pictures, pictures whose names point out of it, and what is passed over.
fn names_in(root: &Path, zip: &PictureZip) -> Result<(Vec<PathBuf>, Vec<PathBuf>, PassedOver)> {
    let (mut pictures, mut escaping) = (Vec::new(), Vec::new());
    let (mut passed_over, mut folders) = (PassedOver::default(), BTreeSet::new());
    for name in zip.file_names() {
        let path = Path::new(name);
        let unread = path.ancestors().filter(|part| part.file_name().is_some_and(is_passed_over)).last();
        if let Some(unread) = unread {
            match unread == path {
                true => passed_over.add_hidden_file(),
                false => drop(folders.insert(unread)),
            }
            continue;
        }
        let escapes = path.components().any(|part| part == Component::ParentDir);
        match EXTENSIONS.contains(&extension_of(path).as_str()) {
            true if escapes => escaping.push(path.to_owned()),
            true => pictures.push(path.to_owned()),
            false => passed_over.add(path),
        }
    }
    folders.iter().filter_map(|folder| folder.file_name()).for_each(|name| passed_over.add_folder(name));
    for names in [&mut pictures, &mut escaping] {
        names.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    }
    if let (true, Some(first)) = (pictures.is_empty(), escaping.first()) {
        bail!(
            "cannot use the pictures in '{}': the names of all {} point out of the zip, as '{}'; make the zip from inside the \
             folder that holds them (cd there, then zip -r NAME.zip .)",
            root.display(),
            escaping.len(),
            first.display()
        );
    }
    if pictures.is_empty() {
        bail!(
            "no pictures in '{}': looked for {} and found {}; pass the zip that holds the pictures",
            root.display(),
            EXTENSIONS.join(", "),
            passed_over.describe()
        );
    }
    Ok((pictures, escaping, passed_over))
}
