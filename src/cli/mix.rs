//! `rootgan mix`: a grid of style mixing, in which every picture has some layers of its column and the others of its row.

use std::path::PathBuf;

use anyhow::Result;
use tch::{Device, Tensor};

use crate::cli::args::{ClassRule, PictureArgs};
use crate::cli::generate::parse_seeds;
use crate::cli::grid::{check_cells, check_grid, pictures_of_ws, write_grid};
use crate::cli::output::make_folder_of;
use crate::latent::layers::LayerRange;
use crate::latent::mixing::mixed;
use crate::latent::picture_source::PictureSource;
use crate::latent::seeds::latents_of_seeds;
use crate::latent::w_samples::sizes_of_ws;
use crate::latent::ws_file;
use crate::model::NoiseMode;
use crate::system::signals::Interrupted;

/// Draw a grid of pictures with some layers of their column and the others of their row.
#[derive(Debug, clap::Args)]
pub struct MixArgs {
    /// The generator and how it is called.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Seeds of the rows, as in 0-3 or 1,5,9-12, or a file of ws, as rootgan project writes it
    #[arg(long, value_name = "SEEDS_OR_FILE.npz")]
    pub rows: String,
    /// Seeds of the columns, or a file of ws
    #[arg(long, value_name = "SEEDS_OR_FILE.npz")]
    pub columns: String,
    /// Layers that come from the column: coarse (0-3), middle (4-7), fine (8 and on), all, or numbers as in 0-3
    #[arg(long, value_name = "LAYERS", default_value = "coarse")]
    pub layers: LayerRange,
    /// The grid, whose first row and column show the pictures that are mixed; a file that is there is replaced
    #[arg(long, value_name = "FILE.png")]
    pub grid: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Seeds, ws or layers that cannot be used, a generator that cannot be loaded or called, no place for the grid.
pub fn run(args: MixArgs) -> Result<()> {
    let (rows, columns) = (Heads::parse(&args.rows)?, Heads::parse(&args.columns)?);
    if let (Heads::Seeds(rows), Heads::Seeds(columns)) = (&rows, &columns) {
        check_cells(rows.len() + 1, columns.len() + 1)?;
    }
    check_grid(&args.grid)?;
    let generator = args.pictures.load(&[&args.grid])?;
    let (num_ws, _) = sizes_of_ws(&generator)?;
    let layers = args.layers.rows(num_ws)?;
    let source = args.pictures.source(&generator, NoiseMode::Const, ClassRule::OneForAll)?;
    let (row_ws, column_ws) = (rows.ws(&source)?, columns.ws(&source)?);
    let (down, across) = (row_ws.size()[0] as usize + 1, column_ws.size()[0] as usize + 1);
    check_cells(down, across)?;
    make_folder_of(&args.grid)?;

    let mixtures = mixed(&row_ws, &column_ws, &layers);
    let planar = cells(&source, &row_ws, &column_ws, &mixtures)
        .map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))?;
    write_grid(&args.grid, &planar, &source, across)
}

/// What stands at the head of the rows or columns.
enum Heads {
    Seeds(Vec<u32>),
    /// A file of ws.
    Ws(PathBuf),
}

impl Heads {
    fn parse(text: &str) -> Result<Self> {
        let is_file = text.to_lowercase().ends_with(".npz");
        if is_file { Ok(Self::Ws(text.into())) } else { parse_seeds(text).map(Self::Seeds) }
    }

    /// Returns ws [N, num_ws, w_dim]; those of a file are as they were saved, without truncation.
    fn ws(&self, source: &PictureSource<'_>) -> Result<Tensor> {
        match self {
            Self::Seeds(seeds) => source.ws_of(&latents_of_seeds(seeds, source.generator.z_dim(), Device::Cpu)),
            Self::Ws(path) => ws_file::read_for(path, source.generator),
        }
    }
}

/// Makes the cells row by row: a black one and the columns' pictures, then each row's picture and its mixtures.
fn cells(source: &PictureSource<'_>, rows: &Tensor, columns: &Tensor, mixtures: &Tensor) -> Result<Vec<u8>> {
    let below = Tensor::cat(&[&rows.unsqueeze(1), mixtures], 1).flatten(0, 1);
    let pictures = pictures_of_ws(source, &Tensor::cat(&[columns, &below], 0))?;
    let mut planar = vec![0; source.picture_bytes()];
    planar.extend(pictures);
    Ok(planar)
}
