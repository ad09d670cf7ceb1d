//! Grids: many pictures of one size in one PNG, row by row. A grid carries a mark of this program, by which it is told
//! from pictures that others made, and the command that made it.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::draw::pixels::{png_bytes, png_text, to_interleaved};
use crate::files::atomic::write_atomically;

/// The mark: a text under a keyword of the PNG specification.
const MADE_HERE: (&str, &str) = ("Software", "rootgan");
/// The keyword of the PNG specification under which the command is kept.
pub const COMMAND_KEYWORD: &str = "Comment";

/// A grid before it is written.
#[derive(Clone, Copy, Debug)]
pub struct GridSheet<'a> {
    /// The pictures one after the other, `n x c x h x w` bytes, planar.
    pub pictures: &'a [u8],
    /// Number of pictures.
    pub n: usize,
    /// Channels: 1 or 3.
    pub c: usize,
    /// Height and width of a picture in pixels.
    pub size: (usize, usize),
    /// Pictures side by side.
    pub columns: usize,
    /// The command line that makes the grid again, for its metadata; None where other files beside it tell.
    pub command: Option<&'a str>,
}

impl GridSheet<'_> {
    /// Writes the pictures as one PNG of `columns` by `ceil(n / columns)` cells; missing cells are black.
    ///
    /// # Errors
    /// No pictures or columns, a length that does not fit the shape, or a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let Self { pictures, n, c, size: (h, w), columns, command } = *self;
        ensure!(
            n > 0 && columns > 0 && c * h * w > 0,
            "cannot draw the grid '{}': {n} pictures of {c}x{h}x{w} in {columns} columns; all must be at least 1",
            path.display()
        );
        ensure!(
            pictures.len() == n * c * h * w,
            "cannot draw the grid '{}': {} bytes for {n} pictures of {c}x{h}x{w}, which need {}",
            path.display(),
            pictures.len(),
            n * c * h * w
        );
        let (width, height) = (columns * w, n.div_ceil(columns) * h);
        let mut sheet = vec![0; height * width * c];
        for (index, planar) in pictures.chunks_exact(c * h * w).enumerate() {
            let (row, column) = (index / columns, index % columns);
            for (y, line) in to_interleaved(planar, c).chunks_exact(w * c).enumerate() {
                let start = ((row * h + y) * width + column * w) * c;
                sheet[start..start + w * c].copy_from_slice(line);
            }
        }
        let texts: Vec<_> = std::iter::once(MADE_HERE).chain(command.map(|text| (COMMAND_KEYWORD, text))).collect();
        let png = png_bytes(&sheet, width, height, c, &texts)?;
        write_atomically(path, |file| Ok(file.write_all(&png)?))
    }
}

/// Whether a file is a PNG that [`GridSheet::save`] wrote.
pub fn is_grid(path: &Path) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    is_file && png_text(path, MADE_HERE.0).is_some_and(|text| text == MADE_HERE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_keeps_its_mark_and_its_command_in_any_script() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        for command in [None, Some("rootgan mix --grid a.png"), Some("rootgan mix --grid 'K\u{e4}tzchen \u{732b}.png'")]
        {
            GridSheet { pictures: &[0, 50, 100, 150], n: 2, c: 1, size: (2, 1), columns: 2, command }
                .save(&path)
                .unwrap();
            assert!(is_grid(&path));
            assert_eq!(png_text(&path, COMMAND_KEYWORD).as_deref(), command);
            let pixels = image::open(&path).unwrap().into_luma8();
            assert_eq!(pixels.into_raw(), [0, 100, 50, 150]);
        }
        std::fs::write(&path, png_bytes(&[0], 1, 1, 1, &[("Software", "gimp")]).unwrap()).unwrap();
        assert!(!is_grid(&path));
        std::fs::write(&path, b"\x89PNG").unwrap();
        assert!(!is_grid(&path));
    }
}
