//! `rootgan generate`: makes pictures or a grid from seeds or from ws. A seed means the same latent as in other StyleGAN
//! tools.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use tch::{Device, Tensor};

use crate::cli::args::{ClassRule, PictureArgs, PngWriter, count_text, refuse_foreign};
use crate::cli::direction::{DirectionArg, shift_of};
use crate::cli::grid::{check_grid, write_grid};
use crate::cli::output::{make_folder, make_folder_of};
use crate::draw::grid::is_grid;
use crate::draw::pixels::encode_png;
use crate::latent::picture_source::{Latents, PictureBatch, PictureSource, PictureStart};
use crate::latent::seeds::latents_of_seeds;
use crate::latent::ws_file;
use crate::model::{Generator, NoiseMode};
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::Bar;
use crate::tensor::images::ToBytes;

/// Most seeds of one call: more pictures than anyone looks at one by one.
const MOST_SEEDS: usize = 1_000_000;
/// Beginnings of the names of single pictures, of seeds and of ws.
const PREFIXES: [&str; 2] = ["seed", "ws"];

/// Make pictures or a grid from seeds or ws.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// The generator and how it is called.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Seeds: numbers and ranges, as in 0-63 or 1,5,9-12
    #[arg(long, value_name = "SEEDS", required_unless_present = "ws")]
    pub seeds: Option<String>,
    /// Pictures of the array w [N, layers, width] instead of seeds, as rootgan project and NVIDIA's projector write it
    #[arg(long, value_name = "FILE.npz", conflicts_with_all = ["seeds", "psi", "truncation_cutoff", "class"])]
    pub ws: Option<PathBuf>,
    /// Move all pictures along a direction of rootgan directions by STRENGTH standard deviations; may be repeated
    #[arg(long, value_name = "FILE:INDEX:STRENGTH[:LAYERS]")]
    pub direction: Vec<DirectionArg>,
    /// Folder for the single pictures seed0000.png, ... or ws0000.png, ...
    #[arg(long, value_name = "DIR")]
    pub outdir: Option<PathBuf>,
    /// Put all pictures into one as well; a file that is there is replaced
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// Pictures side by side in the grid [default: as many as make it square]
    #[arg(long, value_name = "N")]
    pub columns: Option<usize>,
    /// Write no single pictures, only the grid
    #[arg(long)]
    pub no_images: bool,
}

/// The numbers that the pictures are made of.
enum Origin {
    Seeds(Vec<u32>),
    /// [N, num_ws, w_dim].
    Ws(Tensor),
}

/// Runs the command.
///
/// # Errors
/// Seeds, ws or directions that cannot be read, a generator that cannot be loaded or called, no place for the output.
pub fn run(args: GenerateArgs) -> Result<()> {
    let seeds = args.seeds.as_deref().map(parse_seeds).transpose()?;
    ensure!(args.columns != Some(0), "cannot draw a grid of 0 columns; pass --columns 1 or more");
    let outdir = args.outdir.as_deref().filter(|_| !args.no_images);
    ensure!(
        outdir.is_some() || args.grid.is_some(),
        "nothing to write: pass --outdir DIR for single pictures (without --no-images) or --grid FILE.png"
    );
    if let Some(grid) = &args.grid {
        check_grid(grid)?;
    }
    if let Some(outdir) = outdir {
        refuse_foreign(outdir, |name| is_single(name) || is_grid(&outdir.join(name)))?;
    }
    let places: Vec<&Path> = outdir.into_iter().chain(args.grid.as_deref()).collect();
    let generator = args.pictures.load(&places)?;
    // The class of ws is in them already.
    let rule = if args.ws.is_some() { ClassRule::Drawn } else { ClassRule::OneForAll };
    let source = args.pictures.source(&generator, NoiseMode::Const, rule)?;
    let origin = Origin::find(seeds, args.ws.as_deref(), &generator)?;
    let shift = shift_of(&args.direction, &generator)?;
    outdir.map_or(Ok(()), make_folder)?;
    args.grid.as_deref().map_or(Ok(()), make_folder_of)?;

    let planar = make(&source, &origin, shift.as_ref(), outdir, args.grid.is_some())
        .map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))?;
    if let Some(outdir) = outdir {
        println!("{}: {}", count_text(origin.len()), outdir.display());
    }
    if let Some(path) = &args.grid {
        let n = origin.len();
        let columns = args.columns.map_or_else(|| square_columns(n), |columns| columns.min(n));
        write_grid(path, &planar, &source, columns)?;
    }
    Ok(())
}

impl Origin {
    fn find(seeds: Option<Vec<u32>>, ws: Option<&Path>, generator: &Generator) -> Result<Self> {
        let Some(path) = ws else { return Ok(Self::Seeds(seeds.unwrap_or_default())) };
        ws_file::read_for(path, generator).map(Self::Ws)
    }

    fn len(&self) -> usize {
        match self {
            Self::Seeds(seeds) => seeds.len(),
            Self::Ws(ws) => ws.size()[0] as usize,
        }
    }

    /// The name of the single picture at a place.
    fn name_of(&self, place: usize) -> String {
        match self {
            Self::Seeds(seeds) => name_of("seed", seeds[place]),
            Self::Ws(_) => name_of("ws", place as u32),
        }
    }

    /// Returns what the pictures at some places are made of. The noise of a seed goes on in the stream that z begins.
    fn latents(&self, source: &PictureSource<'_>, range: Range<usize>) -> Latents {
        let seeds = match self {
            Self::Seeds(seeds) => &seeds[range],
            Self::Ws(ws) => return source.latents_of_ws(ws, range),
        };
        let (z_dim, noise_numel) = (source.generator.z_dim(), source.noise_numel());
        let both = latents_of_seeds(seeds, z_dim + noise_numel, Device::Cpu);
        Latents {
            start: PictureStart::Z(both.narrow(1, 0, z_dim)),
            shift: None,
            noise: both.narrow(1, z_dim, noise_numel),
            classes: None,
            script_seed: i64::from(seeds[0]),
        }
    }
}

/// Makes the pictures, writes the single ones and returns the pixels of all if they are to be kept.
fn make(
    source: &PictureSource<'_>,
    origin: &Origin,
    shift: Option<&Tensor>,
    outdir: Option<&Path>,
    keep: bool,
) -> Result<Vec<u8>> {
    let draw = |range| Latents { shift: shift.map(Tensor::shallow_clone), ..origin.latents(source, range) };
    let writer = PngWriter::new(source, encode_png)?;
    let bar = Bar::new(origin.len() as u64, "making pictures");
    let (picture_bytes, mut kept) = (source.picture_bytes(), Vec::new());
    let stop = StopRequest::listen()?;
    let names: Vec<String> = (0..origin.len()).map(|place| origin.name_of(place)).collect();
    let write = |batch: PictureBatch| {
        // The check stands between two writes, so that no half of a file is left.
        stop.check()?;
        let pictures = batch.pixels.chunks_exact(picture_bytes);
        let count = pictures.len();
        if let Some(outdir) = outdir {
            let named = names[batch.first..].iter().map(|name| outdir.join(name));
            writer.write(&named.zip(pictures).collect::<Vec<_>>())?;
        }
        if keep {
            kept.extend_from_slice(&batch.pixels);
        }
        bar.inc(count as u64);
        Ok(())
    };
    let batches: Vec<_> = source.batches(origin.len()).collect();
    source.make(&batches, ToBytes::Round, draw, write)?;
    bar.finish();
    Ok(kept)
}

fn name_of(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:04}.png")
}

/// Whether a file has the name of a single picture.
fn is_single(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".png")?.parse().ok());
        number.is_some_and(|number| name_of(prefix, number) == name)
    })
}

/// Returns the columns of the smallest square that holds `n` pictures.
fn square_columns(n: usize) -> usize {
    (1..=n).find(|columns| columns * columns >= n).unwrap_or(1)
}

/// Reads seeds: `1,5,9-12` gives 1, 5, 9, 10, 11, 12, in the order given.
#[doc(hidden)]
pub fn parse_seeds(text: &str) -> Result<Vec<u32>> {
    let number = |digits: &str| digits.trim().parse::<u32>().ok();
    let mut seeds = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            bail!(
                "cannot read the seeds '{text}': '{part}' is neither a number (0 to {}) nor a range; write 0-63 or 1,5,9-12",
                u32::MAX
            );
        };
        ensure!(first <= last, "cannot read the seeds '{text}': '{part}' runs backwards; write {last}-{first}");
        let more = (last - first) as usize + 1;
        ensure!(
            seeds.len().saturating_add(more) <= MOST_SEEDS,
            "cannot make pictures of the seeds '{text}': more than {MOST_SEEDS}; rootgan dump makes any number"
        );
        seeds.extend(first..=last);
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_mix() {
        assert_eq!(parse_seeds("0-3").unwrap(), [0, 1, 2, 3]);
        assert_eq!(parse_seeds("1,5, 9-11,5").unwrap(), [1, 5, 9, 10, 11, 5]);
        assert_eq!(parse_seeds("4294967295").unwrap(), [u32::MAX]);
    }

    #[test]
    fn what_is_no_seed_is_named() {
        for (text, part) in
            [("1,x", "'x'"), ("", "''"), ("-3", "'-3'"), ("1-2-3", "'1-2-3'"), ("4294967296", "'4294967296'")]
        {
            let message = parse_seeds(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(parse_seeds("5-3").unwrap_err().to_string().contains("write 3-5"));
        assert!(parse_seeds("0-4294967295").unwrap_err().to_string().contains("rootgan dump"));
    }

    #[test]
    fn a_grid_is_square_unless_told_otherwise() {
        assert_eq!([1, 2, 4, 5, 9, 64].map(square_columns), [1, 2, 2, 3, 3, 8]);
    }
}
