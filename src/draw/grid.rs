//! Preview grids: many pictures of one size in one PNG, row by row. A grid carries a mark of this program, by which it
//! is told from pictures that others made.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::draw::pixels::{png_bytes, to_interleaved};
use crate::files::atomic::write_atomically;

/// Number of bytes up to the end of a PNG's first chunk: the signature, and IHDR.
const HEAD_BYTES: usize = 8 + 25;
/// Chunk that follows IHDR in a grid: its length, type, the keyword `Software` of the PNG specification, and its
/// CRC-32.
const MADE_HERE: [u8; 28] = *b"\0\0\0\x10tEXtSoftware\0rootgan\x53\x10\xd9\xd8";

/// Writes `n` pictures as one PNG of `columns` by `ceil(n / columns)` cells; missing cells are black.
///
/// # Shapes
/// `images`: `n x c x h x w` bytes, planar, `c` 1 or 3.
///
/// # Errors
/// No pictures or columns, a length that does not fit the shape, or a file that cannot be written.
pub fn save_grid(path: &Path, images: &[u8], n: usize, c: usize, h: usize, w: usize, columns: usize) -> Result<()> {
    ensure!(
        n > 0 && columns > 0 && c * h * w > 0,
        "cannot draw the grid '{}': {n} pictures of {c}x{h}x{w} in {columns} columns; all must be at least 1",
        path.display()
    );
    ensure!(
        images.len() == n * c * h * w,
        "cannot draw the grid '{}': {} bytes for {n} pictures of {c}x{h}x{w}, which need {}",
        path.display(),
        images.len(),
        n * c * h * w
    );
    let (width, height) = (columns * w, n.div_ceil(columns) * h);
    let mut sheet = vec![0; height * width * c];
    for (index, planar) in images.chunks_exact(c * h * w).enumerate() {
        let (row, column) = (index / columns, index % columns);
        for (y, line) in to_interleaved(planar, c).chunks_exact(w * c).enumerate() {
            let start = ((row * h + y) * width + column * w) * c;
            sheet[start..start + w * c].copy_from_slice(line);
        }
    }
    let png = png_bytes(&sheet, width, height, c)?;
    let (head, rest) = png.split_at(HEAD_BYTES);
    write_atomically(path, |file| Ok([head, &MADE_HERE, rest].iter().try_for_each(|part| file.write_all(part))?))
}

/// Whether a file is a PNG that [`save_grid`] wrote.
pub fn is_grid(path: &Path) -> bool {
    let mut begin = Vec::new();
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let read = |begin: &mut Vec<u8>| File::open(path)?.take((HEAD_BYTES + MADE_HERE.len()) as u64).read_to_end(begin);
    is_file && read(&mut begin).is_ok() && begin.starts_with(b"\x89PNG") && begin.ends_with(&MADE_HERE)
}
