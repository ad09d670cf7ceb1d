//! `rootgan directions`: directions in W along which pictures change, and a grid that walks along them.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use crate::cli::args::{ClassRule, PictureArgs};
use crate::cli::grid::{check_cells, check_grid, pictures_of_ws, write_grid};
use crate::cli::output::{make_folder_of, refuse_existing};
use crate::files::checksum::sha256;
use crate::latent::directions::{Directions, Method, style_affines};
use crate::latent::layers::LayerRange;
use crate::latent::picture_source::PictureSource;
use crate::latent::seeds::{NormalStream, latents_of_seeds};
use crate::latent::w_samples::{SAMPLES, drawn_w, sizes_of_ws};
use crate::model::{Generator, NoiseMode};
use crate::system::signals::Interrupted;

/// The strengths of the grid's columns, in standard deviations of w.
const GRID_STRENGTHS: [f64; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];

/// Find directions in W along which pictures change.
#[derive(Debug, clap::Args)]
pub struct DirectionsArgs {
    /// The generator and how it is called.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// The way to find them
    #[arg(long, value_enum)]
    pub method: MethodArg,
    /// The directions with their strengths; generate --direction walks along them
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Layers that sefa factorises, and that the grid changes: coarse, middle, fine, all, or numbers as in 0-3
    #[arg(long, value_name = "LAYERS", default_value = "all")]
    pub layers: LayerRange,
    /// Number of directions, the strongest ones, from 1 to the width of w
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub count: i64,
    /// Number of latents that w is measured on
    #[arg(long, value_name = "N", default_value_t = SAMPLES)]
    pub samples: usize,
    /// Seed of these latents
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// A grid with a row per direction: the picture of a seed, moved by -3 to 3 standard deviations
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// Seed of the grid's picture
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub grid_seed: u32,
}

/// How directions are found, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MethodArg {
    /// Factorise the affine layers (Shen and Zhou, arXiv 2007.06600)
    Sefa,
    /// Principal components of w (GANSpace, arXiv 2004.02546)
    Pca,
}

impl From<MethodArg> for Method {
    fn from(method: MethodArg) -> Self {
        match method {
            MethodArg::Sefa => Method::Sefa,
            MethodArg::Pca => Method::Pca,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A generator that cannot be loaded or has no such layers, a count out of range, no place for the output.
pub fn run(args: DirectionsArgs) -> Result<()> {
    let samples = args.samples;
    ensure!(
        (2..=1_000_000).contains(&samples),
        "cannot measure w on {samples} latents; pass --samples 2 to 1000000, as many as w is wide at least"
    );
    ensure!(args.count >= 1, "cannot find {} directions; pass --count 1 or more", args.count);
    if let Some(grid) = &args.grid {
        check_grid(grid)?;
        check_cells(usize::try_from(args.count)?, GRID_STRENGTHS.len())?;
    }
    check_out(&args.out)?;
    let places: Vec<&Path> = std::iter::once(args.out.as_path()).chain(args.grid.as_deref()).collect();
    let generator = args.pictures.load(&places)?;
    let (num_ws, _) = sizes_of_ws(&generator)?;
    let layers = args.layers.rows(num_ws)?;
    let source = args.pictures.source(&generator, NoiseMode::Const, ClassRule::OneForAll)?;
    places.iter().try_for_each(|place| make_folder_of(place))?;

    let method = Method::from(args.method);
    let w = drawn_w(&generator, source.class, &mut NormalStream::from_seed(args.seed), samples)?;
    let affines = if method == Method::Sefa { style_affines(&generator, &layers)? } else { Vec::new() };
    let mut found = Directions::find(method, &w, &affines, args.count)?;
    found.metadata = metadata(&args, method, &generator)?;
    found.save(&args.out)?;
    println!("{} directions: {}", args.count, args.out.display());
    if let Some(grid) = &args.grid {
        let planar = walks(&source, &found, args.grid_seed, &layers)
            .map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))?;
        write_grid(grid, &planar, &source, GRID_STRENGTHS.len())?;
    }
    Ok(())
}

/// Returns how the directions were found, for their file.
fn metadata(args: &DirectionsArgs, method: Method, generator: &Generator) -> Result<HashMap<String, String>> {
    let entries = [
        ("format", "rootgan directions".to_owned()),
        ("method", method.name().to_owned()),
        ("layers", args.layers.to_string()),
        ("seed", args.seed.to_string()),
        ("samples", args.samples.to_string()),
        ("generator_sha256", sha256(&generator.script.path)?),
    ];
    Ok(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// Makes sure that directions can be written.
fn check_out(out: &Path) -> Result<()> {
    ensure!(
        out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")),
        "cannot write the directions '{}': they are safetensors; pass a name that ends in .safetensors",
        out.display()
    );
    refuse_existing(out, "directions")
}

/// Makes the pictures of a seed along every direction.
fn walks(source: &PictureSource<'_>, found: &Directions, seed: u32, layers: &Range<i64>) -> Result<Vec<u8>> {
    let ws = source.ws_of(&latents_of_seeds(&[seed], source.generator.z_dim(), Device::Cpu))?;
    let num_ws = ws.size()[1];
    let mut moved = Vec::new();
    for index in 0..found.directions.size()[0] {
        for strength in GRID_STRENGTHS {
            moved.push(&ws + found.shift(index, strength, layers, num_ws)?);
        }
    }
    pictures_of_ws(source, &Tensor::cat(&moved, 0))
}
