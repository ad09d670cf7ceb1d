//! The grids in a report: as many, as large and as good as there is room for.

use std::io::{BufReader, Cursor};
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageReader, RgbImage, imageops};
use serde_json::{Value, json};

use crate::config::GridSize;
use crate::web::runs::files::Grid;
use crate::web::runs::run::WatchedRun;

/// The most grids of one run; the first and last are always among them.
const MAX_GRIDS: usize = 24;
/// The widest picture, for the only run of a report and for one of several, and the highest as a part of that.
const WIDTH: (u32, u32) = (1024, 640);
const HEIGHT_SHARE: f64 = 0.75;
/// The fewest pictures side by side and on top of each other that are kept of a grid.
const FEWEST: (u32, u32) = (4, 3);
/// Tries to find room: the share of the width, and the quality of JPEG.
const TRIES: [(f64, u8); 7] = [(1.0, 88), (1.0, 75), (0.75, 75), (0.5, 75), (0.35, 70), (0.25, 60), (0.15, 50)];

/// The grids of a report.
pub struct ReportPictures {
    /// Run by run.
    runs: Vec<Vec<ShownGrid>>,
}

struct ShownGrid {
    grid: Grid,
    pixels: RgbImage,
    /// What was left out.
    note: Option<String>,
}

impl ReportPictures {
    /// Reads grids of one run over its whole course.
    ///
    /// # Errors
    /// A grid that is damaged.
    pub fn of_run(run: &WatchedRun) -> Result<Self> {
        let grids = run.summary().grids;
        let (reals, made): (Vec<Grid>, Vec<Grid>) = grids.into_iter().partition(|grid| grid.kimg.is_none());
        let chosen = reals.into_iter().chain(spread(made, MAX_GRIDS));
        Ok(Self { runs: vec![chosen.map(|grid| read(run, grid, WIDTH.0)).collect::<Result<_>>()?] })
    }

    /// Reads the last grid of each of several runs.
    ///
    /// # Errors
    /// A grid that is damaged.
    pub fn of_runs(runs: &[Arc<WatchedRun>]) -> Result<Self> {
        let last = |run: &Arc<WatchedRun>| run.summary().grids.into_iter().rfind(|grid| grid.kimg.is_some());
        let of = |run: &Arc<WatchedRun>| last(run).map(|grid| read(run, grid, WIDTH.1)).into_iter().collect();
        Ok(Self { runs: runs.iter().map(of).collect::<Result<_>>()? })
    }

    /// Puts the pictures into the runs of a report, in `room` bytes at most.
    ///
    /// # Errors
    /// There is no room even for small ones.
    pub fn put_into(&mut self, runs: &mut Value, room: usize) -> Result<()> {
        for (share, quality) in TRIES {
            let encoded: Vec<Vec<String>> = self
                .runs
                .iter()
                .map(|run| run.iter().map(|shown| encode(&shown.pixels, share, quality)).collect())
                .collect::<Result<_>>()?;
            if encoded.iter().flatten().map(|text| text.len() + 80).sum::<usize>() > room {
                continue;
            }
            for ((run, shown), texts) in runs.as_array_mut().into_iter().flatten().zip(&self.runs).zip(encoded) {
                run["summary"]["grids"] = shown.iter().map(|shown| json!(shown.grid)).collect();
                run["summary"]["grid_note"] = json!(shown.last().and_then(|shown| shown.note.clone()));
                run["pictures"] =
                    shown.iter().zip(texts).map(|(shown, text)| (shown.grid.name.clone(), json!(text))).collect();
            }
            return Ok(());
        }
        anyhow::bail!("the grids do not fit into one file; make a report of a single run")
    }
}

/// Chooses `most` of a list, evenly, with the first and the last.
fn spread(all: Vec<Grid>, most: usize) -> Vec<Grid> {
    if all.len() <= most {
        return all;
    }
    let place = |index: usize| (index * (all.len() - 1) + (most - 1) / 2) / (most - 1);
    (0..most).map(|index| all[place(index)].clone()).collect()
}

/// Reads a grid, cut to whole pictures that are seen well at `width`.
fn read(run: &WatchedRun, grid: Grid, width: u32) -> Result<ShownGrid> {
    let name = grid.file_name();
    let context = || format!("cannot read '{}'", run.folder.path().join(&name).display());
    let file = run.folder.open(&name).with_context(context)?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().with_context(context)?;
    let pixels = reader.decode().with_context(context)?.into_rgb8();
    let size = run.summary().options.get("grid").and_then(|size| size.as_str()?.parse::<GridSize>().ok());
    let (pixels, note) = match size.and_then(|size| part(size, pixels.dimensions(), width)) {
        Some(part) => {
            let note = format!("{}x{} pictures of {}x{}", part.columns, part.rows, part.of.columns, part.of.rows);
            (imageops::crop_imm(&pixels, 0, 0, part.width, part.height).to_image(), Some(note))
        }
        None => (pixels, None),
    };
    Ok(ShownGrid { grid, pixels: fitted(pixels, width), note })
}

/// A part of a grid.
#[derive(Debug, PartialEq)]
struct Cut {
    columns: u32,
    rows: u32,
    width: u32,
    height: u32,
    of: GridSize,
}

/// Returns the part of a grid that is shown; None where all of it is.
fn part(of: GridSize, (width, height): (u32, u32), most: u32) -> Option<Cut> {
    let (columns, rows) = (u32::try_from(of.columns).ok()?, u32::try_from(of.rows).ok()?);
    if width % columns != 0 || height % rows != 0 {
        return None;
    }
    let (side, high) = (width / columns, height / rows);
    let highest = (f64::from(most) * HEIGHT_SHARE) as u32;
    let kept = ((most / side).max(FEWEST.0).min(columns), (highest / high).max(FEWEST.1).min(rows));
    (kept != (columns, rows)).then(|| Cut {
        columns: kept.0,
        rows: kept.1,
        width: kept.0 * side,
        height: kept.1 * high,
        of,
    })
}

/// Makes a picture smaller where it is wider than `width`.
fn fitted(pixels: RgbImage, width: u32) -> RgbImage {
    match pixels.width() > width {
        true => scaled(&pixels, f64::from(width) / f64::from(pixels.width())),
        false => pixels,
    }
}

fn scaled(pixels: &RgbImage, share: f64) -> RgbImage {
    let side = |length: u32| ((f64::from(length) * share).round() as u32).max(1);
    imageops::resize(pixels, side(pixels.width()), side(pixels.height()), imageops::FilterType::Triangle)
}

fn encode(pixels: &RgbImage, share: f64, quality: u8) -> Result<String> {
    let smaller = (share < 1.0).then(|| scaled(pixels, share));
    let mut bytes = Cursor::new(Vec::new());
    smaller.as_ref().unwrap_or(pixels).write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes.into_inner())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grids(count: usize) -> Vec<Grid> {
        (0..count).map(|kimg| Grid { name: format!("fakes{kimg:06}"), kimg: Some(kimg as f64) }).collect()
    }

    #[test]
    fn the_first_and_last_grid_are_always_among_the_chosen() {
        assert_eq!(spread(grids(24), 24).len(), 24);
        let chosen: Vec<f64> = spread(grids(1000), 24).iter().filter_map(|grid| grid.kimg).collect();
        assert_eq!((chosen.len(), chosen[0], chosen[23]), (24, 0.0, 999.0));
        assert!(chosen.windows(2).all(|pair| (42.0..=45.0).contains(&(pair[1] - pair[0]))), "{chosen:?}");
    }

    #[test]
    fn large_grids_are_cut_to_whole_pictures_and_small_ones_stay() {
        let of = |columns, rows| GridSize { columns, rows };
        assert_eq!(part(of(12, 6), (768, 384), 1024), None);
        let small = part(of(32, 32), (2048, 2048), 1024).unwrap();
        assert_eq!((small.columns, small.rows, small.width), (16, 12, 1024));
        let large = part(of(7, 4), (7168, 4096), 1024).unwrap();
        assert_eq!((large.columns, large.rows, large.height), (4, 3, 3072));
        assert_eq!(part(of(7, 4), (100, 100), 1024), None, "no such grid");
    }

    #[test]
    fn pictures_get_smaller_until_they_fit() {
        let mut noise = 1u32;
        let pixels = RgbImage::from_fn(640, 480, |_, _| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(noise >> 24) as u8, (noise >> 16) as u8, (noise >> 8) as u8])
        });
        let shown = grids(6).into_iter().map(|grid| ShownGrid { grid, pixels: pixels.clone(), note: None }).collect();
        let mut pictures = ReportPictures { runs: vec![shown] };
        let mut runs = json!([{ "summary": {} }]);
        pictures.put_into(&mut runs, 300_000).unwrap();
        let size = runs.to_string().len();
        assert!((50_000..310_000).contains(&size), "{size}");
        assert!(runs[0]["pictures"]["fakes000005"].as_str().unwrap().starts_with("data:image/jpeg;base64,"));
        assert!(pictures.put_into(&mut runs, 1000).is_err());
    }
}
