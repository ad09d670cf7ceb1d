//! Grids of pictures as several subcommands write them: what a grid may replace, and the pictures of ws for its cells.

use std::path::Path;

use anyhow::{Result, ensure};
use tch::Tensor;

use crate::cli::output::this_command;
use crate::draw::grid::{GridSheet, is_grid};
use crate::latent::picture_source::{PictureBatch, PictureSource};
use crate::system::signals::StopRequest;
use crate::system::ui::Bar;
use crate::tensor::images::ToBytes;

/// Most cells of a grid that is made of ws.
const MOST_CELLS: usize = 10_000;

/// Makes sure that a grid can be written to `path`: it ends in .png, and replaces only an earlier grid.
///
/// # Errors
/// The name has another ending, or something else is there.
pub fn check_grid(path: &Path) -> Result<()> {
    let png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    ensure!(png, "cannot write the grid '{}': it is a png; pass a name that ends in .png", path.display());
    ensure!(
        std::fs::symlink_metadata(path).is_err() || is_grid(path),
        "cannot write the grid '{}': something of that name is there, and no earlier grid; remove it or pass another name",
        path.display()
    );
    Ok(())
}

/// Makes sure that a grid of `rows` by `columns` cells is not beyond all measure.
///
/// # Errors
/// It has more than 10,000 cells.
pub fn check_cells(rows: usize, columns: usize) -> Result<()> {
    let cells = rows.saturating_mul(columns);
    ensure!(cells <= MOST_CELLS, "cannot draw a grid of {rows} by {columns} cells: more than {MOST_CELLS}; pass fewer");
    Ok(())
}

/// Writes the pictures of a generator, planar and one after the other, as a grid that holds this command, and says where.
///
/// # Errors
/// No pictures or columns, or a file that cannot be written.
pub fn write_grid(path: &Path, pictures: &[u8], source: &PictureSource<'_>, columns: usize) -> Result<()> {
    let (n, c, size) = (pictures.len() / source.picture_bytes(), source.channels(), (source.side(), source.side()));
    GridSheet { pictures, n, c, size, columns, command: Some(&this_command()) }.save(path)?;
    println!("grid: {}", path.display());
    Ok(())
}

/// Makes the pictures of ws [N, num_ws, w_dim], planar and one after the other, with a bar; a signal ends it.
///
/// # Errors
/// The generator fails, or a signal came.
pub fn pictures_of_ws(source: &PictureSource<'_>, ws: &Tensor) -> Result<Vec<u8>> {
    let count = ws.size()[0] as usize;
    let (bar, stop) = (Bar::new(count as u64, "making pictures"), StopRequest::listen()?);
    let (picture_bytes, mut kept) = (source.picture_bytes(), Vec::new());
    let keep = |batch: PictureBatch| {
        stop.check()?;
        kept.extend_from_slice(&batch.pixels);
        bar.inc((batch.pixels.len() / picture_bytes) as u64);
        Ok(())
    };
    let batches: Vec<_> = source.batches(count).collect();
    source.make(&batches, ToBytes::Round, |range| source.latents_of_ws(ws, range), keep)?;
    bar.finish();
    Ok(kept)
}
