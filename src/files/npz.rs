//! Arrays in NumPy's `.npz`. Pictures are written as one array, whose rows are gathered in a plain file beside it, so that an
//! interrupted call can go on; arrays of float32, such as latents, are written and read whole. An archive appears whole or
//! not at all.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Seek, SeekFrom, Write};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use npyz::{Order, WriterBuilder};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::files::atomic::{remedy_for_write, replace_atomically, write_atomically};
use crate::files::bounded::read_bytes;
use crate::files::opening::to_change_or_make;

/// The array's name in the archive, which `numpy.savez` gives to the first one: `arr_0`.
const ENTRY: &str = "arr_0.npy";
/// About how many bytes are copied into the archive at a time.
const CHUNK_BYTES: u64 = 8 << 20;
/// The longest header of version 1 of the format, with the 10 bytes before it.
const MAX_HEADER_BYTES: u64 = 10 + u16::MAX as u64;
/// The most bytes that an array of float32 may have once it is unpacked: latents have far fewer, whatever a file claims.
const MAX_FLOAT_BYTES: u64 = 256 << 20;

/// A plain file of rows of equal length. Rows are only added at its end, and every row in it is whole.
pub struct RowFile {
    file: File,
    path: PathBuf,
    row_bytes: u64,
    rows: u64,
}

impl RowFile {
    /// Opens the file or makes it; a row that was interrupted is cut off.
    ///
    /// # Errors
    /// The file cannot be made or changed.
    ///
    /// # Panics
    /// Panics if `row_bytes` is zero.
    pub fn open(path: &Path, row_bytes: u64) -> Result<Self> {
        let attempt = || -> std::io::Result<Self> {
            let mut file = to_change_or_make(path)?;
            let rows = file.metadata()?.len() / row_bytes;
            file.set_len(rows * row_bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(Self { file, path: path.to_path_buf(), row_bytes, rows })
        };
        attempt().with_context(|| {
            format!("cannot write '{}'; check that its folder exists, is writable and has room", path.display())
        })
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows at the end.
    ///
    /// # Errors
    /// The bytes are no whole rows, or the disk is full.
    pub fn append(&mut self, rows: &[u8]) -> Result<()> {
        let bytes = rows.len() as u64;
        ensure!(
            bytes.is_multiple_of(self.row_bytes),
            "cannot add {bytes} bytes to '{}': its rows have {}",
            self.path.display(),
            self.row_bytes
        );
        self.file.write_all(rows).map_err(|error| {
            let error = anyhow::Error::from(error);
            let remedy = remedy_for_write(&error);
            error.context(format!(
                "cannot add to '{}'; {remedy}, then repeat the call and it goes on",
                self.path.display()
            ))
        })?;
        self.rows += bytes / self.row_bytes;
        Ok(())
    }
}

/// Writes the archive at `path` with the bytes of the file `rows` as its only array, uncompressed. `progress` is told
/// how many rows more are in it; its error ends the work, and nothing of the archive is left.
///
/// # Shapes
/// `rows`: `N x H x W x C` bytes, as `shape` says.
///
/// # Errors
/// The file `rows` has another length, or the archive cannot be written.
pub fn write_npz(path: &Path, rows: &Path, shape: [u64; 4], mut progress: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let row_bytes = shape[1..].iter().product::<u64>().max(1);
    let mut source = File::open(rows).with_context(|| format!("cannot read '{}'", rows.display()))?;
    let (found, expected) = (source.metadata()?.len(), shape[0] * row_bytes);
    ensure!(
        found == expected,
        "cannot make '{}' from '{}': it has {found} bytes, {expected} are expected; is another dump writing it?",
        path.display(),
        rows.display()
    );
    replace_atomically(path, |place| {
        let mut zip = zip::ZipWriter::new(BufWriter::new(File::create(place)?));
        // The entry is stored as NumPy does: with the 64-bit sizes that large arrays need.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        zip.start_file(ENTRY, options)?;
        npyz::WriteOptions::<u8>::new().default_dtype().shape(&shape).writer(&mut zip).write_header_only()?;
        let chunk = (CHUNK_BYTES / row_bytes).max(1);
        let mut left = shape[0];
        let mut buffer = vec![0; usize::try_from(chunk.min(left) * row_bytes)?];
        while left > 0 {
            let now = chunk.min(left);
            let part = &mut buffer[..usize::try_from(now * row_bytes)?];
            source.read_exact(part)?;
            zip.write_all(part)?;
            left -= now;
            progress(now)?;
        }
        Ok(zip.finish()?.flush()?)
    })
}

/// Returns the shape of the array in an archive that [`write_npz`] made.
///
/// # Errors
/// The file is no such archive.
pub fn npz_shape(path: &Path) -> Result<Vec<u64>> {
    let attempt = || -> Result<Vec<u64>> {
        let mut zip = zip::ZipArchive::new(File::open(path)?)?;
        let mut head = Vec::new();
        zip.by_name(ENTRY)?.take(MAX_HEADER_BYTES).read_to_end(&mut head)?;
        // Later versions of the format may claim gigabytes of header; files in them were not made here.
        ensure!(head.starts_with(b"\x93NUMPY\x01"), "it is not in version 1 of the format");
        Ok(npyz::NpyFile::new(&head[..])?.shape().to_vec())
    };
    attempt()
        .with_context(|| format!("cannot read the array arr_0 of '{}'; remove the file and repeat", path.display()))
}

/// Writes an archive at `path` with one array of float32, `values` in rows of C's order, uncompressed.
///
/// # Errors
/// The archive cannot be written.
///
/// # Panics
/// Panics if `values` do not fit `shape`.
pub fn write_floats(path: &Path, name: &str, shape: &[u64], values: &[f32]) -> Result<()> {
    let bytes = floats_as_npz(name, shape, values)?;
    write_atomically(path, |file| Ok(file.write_all(&bytes)?))
}

/// Returns the bytes of such an archive.
///
/// # Errors
/// The archive would be too large for its format.
///
/// # Panics
/// Panics if `values` do not fit `shape`.
pub fn floats_as_npz(name: &str, shape: &[u64], values: &[f32]) -> Result<Vec<u8>> {
    assert_eq!(shape.iter().product::<u64>(), values.len() as u64, "{shape:?}");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file(format!("{name}.npy"), options)?;
    npyz::WriteOptions::<f32>::new().default_dtype().shape(shape).writer(&mut zip).write_header_only()?;
    zip.write_all(&values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>())?;
    Ok(zip.finish()?.into_inner())
}

/// Reads the shape and the values of an array of float32 by its name, stored or compressed.
///
/// # Errors
/// The file is no `.npz`, has no such array, or the array has another type, is damaged or has over 256 MiB.
pub fn read_floats(path: &Path, name: &str) -> Result<(Vec<u64>, Vec<f32>)> {
    let bytes = read_bytes(path)?;
    let attempt = || -> Result<(Vec<u64>, Vec<f32>)> {
        let mut zip = zip::ZipArchive::new(Cursor::new(bytes))?;
        let entry =
            zip.by_name(&format!("{name}.npy")).map_err(|error| anyhow!("there is none of that name: {error}"))?;
        let mut content = Vec::new();
        entry.take(MAX_FLOAT_BYTES + 1).read_to_end(&mut content)?;
        ensure!(content.len() as u64 <= MAX_FLOAT_BYTES, "it has more than {} MiB", MAX_FLOAT_BYTES >> 20);
        // Later versions of the format may claim gigabytes of header.
        ensure!(content.starts_with(b"\x93NUMPY\x01"), "it is not in version 1 of the format");
        // Sizes whose product is no u64 are a panic in npyz where overflow is checked.
        let array = catch_unwind(|| npyz::NpyFile::new(&content[..])).map_err(|_| anyhow!("its shape cannot be"))??;
        let (shape, kind) = (array.shape().to_vec(), array.dtype().descr());
        ensure!(kind.contains("f4"), "its numbers are of type {kind}, float32 is expected");
        ensure!(array.order() == Order::C, "it is in the order of Fortran; pass it through numpy.ascontiguousarray");
        // The header may claim any number of values; room is made only for those that can be there.
        let claimed = shape.iter().try_fold(4u64, |bytes, &size| bytes.checked_mul(size));
        ensure!(claimed.is_some_and(|bytes| bytes < content.len() as u64), "it is cut short: its shape is {shape:?}");
        Ok((shape, array.into_vec::<f32>()?))
    };
    attempt().with_context(|| {
        format!("cannot read the array {name} of '{}'; pass an .npz with {name} in float32", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_row_is_cut_off_and_the_next_one_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.partial");
        std::fs::write(&path, [1, 1, 1, 2, 2, 2, 3]).unwrap();
        let mut rows = RowFile::open(&path, 3).unwrap();
        assert_eq!(rows.rows(), 2);
        rows.append(&[3, 3, 3]).unwrap();
        assert!(rows.append(&[4]).is_err());
        assert_eq!(rows.rows(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn the_array_reads_back_with_its_shape() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, path) = (folder.path().join("a.partial"), folder.path().join("a.npz"));
        let bytes: Vec<u8> = (0..5 * 2 * 2 * 3).collect();
        std::fs::write(&rows, &bytes).unwrap();
        let mut written = 0;
        let count = |more| {
            written += more;
            Ok(())
        };
        write_npz(&path, &rows, [5, 2, 2, 3], count).unwrap();
        assert_eq!(written, 5);
        assert_eq!(npz_shape(&path).unwrap(), [5, 2, 2, 3]);
        let mut zip = zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
        let array = npyz::NpyFile::new(zip.by_name("arr_0.npy").unwrap()).unwrap();
        assert_eq!(array.into_vec::<u8>().unwrap(), bytes);
    }

    #[test]
    fn packing_that_is_interrupted_leaves_the_rows_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, path) = (folder.path().join("a.partial"), folder.path().join("a.npz"));
        std::fs::write(&rows, [0; 24]).unwrap();
        let error =
            write_npz(&path, &rows, [2, 2, 2, 3], |_| Err(crate::system::signals::Interrupted.into())).unwrap_err();
        assert!(error.is::<crate::system::signals::Interrupted>());
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["a.partial"]);
    }

    #[test]
    fn a_file_of_another_length_makes_no_archive() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, path) = (folder.path().join("a.partial"), folder.path().join("a.npz"));
        std::fs::write(&rows, [0; 11]).unwrap();
        let message = write_npz(&path, &rows, [1, 2, 2, 3], |_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("11 bytes, 12 are expected") && !path.exists(), "{message}");
    }

    /// Makes an archive with one array of these bytes.
    fn archive(path: &Path, name: &str, content: &[u8]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }

    fn npy(header: &str, values: &[u8]) -> Vec<u8> {
        let mut content = b"\x93NUMPY\x01\x00".to_vec();
        content.extend((header.len() as u16).to_le_bytes());
        content.extend(header.as_bytes());
        content.extend(values);
        content
    }

    #[test]
    fn floats_read_back_with_their_shape() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let values = [0.5f32, -1.0, f32::MAX, 0.0, 1e-30, 7.0];
        write_floats(&path, "w", &[1, 3, 2], &values).unwrap();
        assert_eq!(read_floats(&path, "w").unwrap(), (vec![1, 3, 2], values.to_vec()));
        let message = format!("{:#}", read_floats(&path, "noise").unwrap_err());
        assert!(message.contains("the array noise") && message.contains("none of that name"), "{message}");
    }

    #[test]
    fn arrays_of_another_type_or_order_and_damaged_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let header = |kind: &str, fortran: &str, shape: &str| {
            format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
        };
        for (header, word) in [
            (header("<f8", "False", "(1, 1, 1)"), "<f8"),
            (header("<f4", "True", "(1, 2, 1)"), "Fortran"),
            (header("<f4", "False", "(1, 9, 9)"), "cut short"),
            (header("<f4", "False", "(4000000000, 4000000000)"), "cut short"),
            (header("<f4", "False", "(40000000000, 40000000000)"), ""),
            ("no header".to_owned(), ""),
        ] {
            archive(&path, "w.npy", &npy(&header, &[0; 8]));
            let message = format!("{:#}", read_floats(&path, "w").unwrap_err());
            assert!(message.contains("a.npz") && message.contains(word), "{message}");
        }
        std::fs::write(&path, b"no archive").unwrap();
        assert!(format!("{:#}", read_floats(&path, "w").unwrap_err()).contains("a.npz"));
    }
}
