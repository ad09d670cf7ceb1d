//! Preview grids: many pictures of one size in one PNG, row by row.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::io::pixels::{encode_png, to_interleaved};

/// How many pictures a preview grid holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pictures side by side, 7 to 32.
    pub columns: usize,
    /// Pictures on top of each other, 4 to 32.
    pub rows: usize,
}

impl Grid {
    /// What fits an 8K screen (7680 x 4320) at `width` x `height` pixels a picture, as the StyleGAN
    /// tools draw it: 7x4 at 1024, 15x8 at 512, 30x16 at 256, 32x32 at 128 and below.
    ///
    /// # Panics
    /// If a side is zero.
    pub fn for_resolution(width: usize, height: usize) -> Self {
        Self { columns: (7680 / width).clamp(7, 32), rows: (4320 / height).clamp(4, 32) }
    }

    /// How many pictures fill the grid.
    pub fn cells(&self) -> usize {
        self.columns * self.rows
    }
}

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
    encode_png(path, &sheet, width, height, c)
}
