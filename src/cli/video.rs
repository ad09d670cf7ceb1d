//! `rootgan video`: films of walks through latents, and of a run's grids over its images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::imageops::{FilterType, resize};
use image::{RgbImage, open};
use tch::{Device, Tensor};

use crate::cli::args::{ClassRule, PictureArgs};
use crate::cli::confine::write_only_to;
use crate::cli::generate::parse_seeds;
use crate::cli::output::{make_folder_of, refuse_existing};
use crate::config::{GridSize, Options};
use crate::draw::film::{self, Film, FilmKind, FilmShape};
use crate::draw::pixels::{grey_to_rgb, to_interleaved};
use crate::files::atomic::write_atomically;
use crate::latent::interpolation::Easing;
use crate::latent::picture_source::{Latents, PictureSource, PictureStart};
use crate::latent::seeds::latents_of_seeds;
use crate::latent::w_samples::sizes_of_ws;
use crate::latent::walk::{WalkTiming, Way, walk};
use crate::latent::ws_file;
use crate::model::NoiseMode;
use crate::run::folder::grids;
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::Bar;
use crate::tensor::images::{ToBytes, bytes};

/// Pixels to which small pictures are enlarged where no --scale is given.
const COMFORTABLE_SIDE: usize = 256;
/// Most frames of a film.
const MOST_FRAMES: f64 = 100_000.0;

/// Make a film: walks between latents, or a run's grids from its start to its end.
#[derive(Debug, clap::Args)]
pub struct VideoArgs {
    /// The generator and how it is called.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Seeds that the film walks between: numbers and ranges, as in 0-5
    #[arg(long, value_name = "SEEDS", required_unless_present_any = ["ws", "run"], conflicts_with_all = ["ws", "run"])]
    pub seeds: Option<String>,
    /// Walk between the rows of the array w of these files instead of seeds
    #[arg(long, value_name = "FILE.npz", conflicts_with_all = ["run", "psi", "truncation_cutoff", "class"])]
    pub ws: Vec<PathBuf>,
    /// Show the grids of this run one after the other instead of a walk
    #[arg(long, value_name = "RUN", conflicts_with_all = ["from", "generator"])]
    pub run: Option<PathBuf>,
    /// The film; its ending chooses .mp4 (H.264), .gif or .webp
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Length of a walk in seconds; not with --run, whose length is that of its grids
    #[arg(long, default_value_t = 10.0, conflicts_with = "run")]
    pub seconds: f64,
    /// Frames a second [default: 30, of a run's grids 8]
    #[arg(long)]
    pub fps: Option<u32>,
    /// The way between latents: z (on the sphere), w (straight), cubic (a smooth closed curve in w)
    #[arg(long, value_enum, default_value_t = WayArg::Cubic)]
    pub way: WayArg,
    /// Speed from one latent to the next: linear, or smooth, which rests at each
    #[arg(long, value_enum, default_value_t = EasingArg::Linear)]
    pub easing: EasingArg,
    /// End at the last latent instead of going back to the first
    #[arg(long, conflicts_with = "run")]
    pub no_loop: bool,
    /// Walks side by side, each between its share of the latents, as in 3x2; of a run's grids the pictures shown, from the
    /// upper left
    #[arg(long, value_name = "CxR")]
    pub grid: Option<GridSize>,
    /// Enlarge pictures so many times [default: to 256 pixels at least; of a run's grids 1]
    #[arg(long, value_name = "N")]
    pub scale: Option<usize>,
    /// Seconds for which the last grid stays, with --run
    #[arg(long, default_value_t = 2.0)]
    pub hold: f64,
}

/// A way between latents, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WayArg {
    /// On the sphere in z
    Z,
    /// Straight in w
    W,
    /// On a smooth closed curve in w
    Cubic,
}

/// The speed between latents, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EasingArg {
    /// The same speed all the way
    Linear,
    /// From rest to rest
    Smooth,
}

/// Runs the command.
///
/// # Errors
/// Latents, a run or a size that cannot be used, a generator that cannot be loaded or called, no place for the film.
pub fn run(args: VideoArgs) -> Result<()> {
    let kind = FilmKind::of(&args.out)?;
    refuse_existing(&args.out, "film")?;
    ensure!(args.scale != Some(0), "cannot make pictures 0 times as large; pass --scale 1 or more");
    let made = match &args.run {
        Some(folder) => of_run(&args, folder, kind),
        None => of_walks(&args, kind),
    };
    let (frames, fps) = made.map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))?;
    let seconds = frames as f64 / f64::from(fps);
    println!("film: {} ({frames} frames, {seconds:.2} s)", args.out.display());
    Ok(())
}

/// Makes a film of walks; returns its frames, and how many pass in a second.
fn of_walks(args: &VideoArgs, kind: FilmKind) -> Result<(usize, u32)> {
    let fps = args.fps.unwrap_or(30);
    let frames = (args.seconds * f64::from(fps)).round();
    ensure!(
        (1.0..=MOST_FRAMES).contains(&frames),
        "cannot make a film of {} s: it has 1 to {MOST_FRAMES} frames; pass other --seconds or --fps",
        args.seconds
    );
    let seeds = args.seeds.as_deref().map(parse_seeds).transpose()?;
    let generator = args.pictures.load(&[&args.out])?;
    sizes_of_ws(&generator)?;
    let rule = if seeds.is_some() { ClassRule::OneForAll } else { ClassRule::Drawn };
    let source = args.pictures.source(&generator, NoiseMode::Const, rule)?;
    ensure!(
        source.noise_mode != NoiseMode::Random,
        "with random noise every frame would have grain of its own; pass --noise-mode const or none"
    );
    let way = match args.way {
        WayArg::Z => Way::Z,
        WayArg::W => Way::W,
        // A curve is closed; without a loop the way is straight.
        WayArg::Cubic => {
            if args.no_loop {
                Way::W
            } else {
                Way::Cubic
            }
        }
    };
    let latents = match &seeds {
        Some(seeds) => latents_of_seeds(seeds, generator.z_dim(), Device::Cpu),
        None => {
            ensure!(way != Way::Z, "ws are not in z; pass --way w or cubic with --ws");
            let read = |path: &PathBuf| ws_file::read_for(path, &generator);
            Tensor::cat(&args.ws.iter().map(read).collect::<Result<Vec<_>>>()?, 0)
        }
    };
    let latents = if seeds.is_some() && way != Way::Z { source.ws_of(&latents)? } else { latents };

    let grid = args.grid.unwrap_or(GridSize { columns: 1, rows: 1 });
    let (walks, count) = ((grid.columns * grid.rows) as i64, latents.size()[0]);
    ensure!(
        count % walks == 0 && count / walks >= 2,
        "cannot share {count} latents among {walks} walk(s); each takes as many, two at least: pass a multiple of {walks}"
    );
    let easing = if args.easing == EasingArg::Smooth { Easing::Smooth } else { Easing::Linear };
    let timing = WalkTiming { frames: frames as usize, closed: !args.no_loop, easing };
    let walked = latents.split(count / walks, 0).into_iter().map(|own| walk(&own, way, timing));
    // Frame by frame, the pictures of all walks: [frames, walks, ...] -> [frames x walks, ...].
    let all = Tensor::stack(&walked.collect::<Result<Vec<_>>>()?, 1).flatten(0, 1);

    let scale = args.scale.unwrap_or_else(|| COMFORTABLE_SIDE.div_ceil(source.side()));
    let side = source.side() * scale;
    let shape = FilmShape { width: grid.columns * side, height: grid.rows * side, fps };
    let film = film::begin(kind, shape)?;
    make_folder_of(&args.out)?;
    let sheet = Sheet { source: &source, grid, scale };
    sheet.film(film, &all, way, timing.frames, &args.out)?;
    Ok((timing.frames, fps))
}

/// Frames that consist of the pictures of several walks.
struct Sheet<'a> {
    source: &'a PictureSource<'a>,
    grid: GridSize,
    scale: usize,
}

impl Sheet<'_> {
    /// Makes all pictures, puts them together to frames, and writes the film.
    fn film(&self, mut film: Box<dyn Film>, latents: &Tensor, way: Way, frames: usize, out: &Path) -> Result<()> {
        let (bar, stop) = (Bar::new(frames as u64, "making frames"), StopRequest::listen()?);
        let walks = self.grid.columns * self.grid.rows;
        let batches: Vec<_> = self.source.batches(frames * walks).collect();
        let draw = |range: std::ops::Range<usize>| match way {
            Way::Z => Latents {
                start: PictureStart::Z(latents.narrow(0, range.start as i64, range.len() as i64)),
                shift: None,
                noise: latents_of_seeds(&vec![0; range.len()], 0, Device::Cpu),
                classes: None,
                script_seed: 0,
            },
            _ => self.source.latents_of_ws(latents, range),
        };
        let mut waiting = Vec::new();
        self.source.each(&batches, ToBytes::Round, draw, |_, pixels| {
            stop.check()?;
            waiting.extend(bytes(pixels));
            let whole = walks * self.source.picture_bytes();
            while waiting.len() >= whole {
                film.add(&self.frame(&waiting[..whole]))?;
                waiting.drain(..whole);
                bar.inc(1);
            }
            Ok(true)
        })?;
        bar.finish();
        write_atomically(out, |file| film.finish(file))
    }

    /// Puts planar pictures together to a frame, interleaved.
    fn frame(&self, planar: &[u8]) -> Vec<u8> {
        let (side, channels) = (self.source.side(), self.source.channels());
        let scaled = side * self.scale;
        let (width, height) = (self.grid.columns * scaled, self.grid.rows * scaled);
        let mut frame = RgbImage::new(width as u32, height as u32);
        for (index, picture) in planar.chunks_exact(self.source.picture_bytes()).enumerate() {
            let rgb = if channels == 1 { grey_to_rgb(picture) } else { picture.to_vec() };
            let picture = RgbImage::from_raw(side as u32, side as u32, to_interleaved(&rgb, 3));
            let picture = enlarged(picture.expect("three bytes a pixel"), self.scale);
            let (column, row) = (index % self.grid.columns, index / self.grid.columns);
            image::imageops::replace(&mut frame, &picture, (column * scaled) as i64, (row * scaled) as i64);
        }
        frame.into_raw()
    }
}

/// Makes a film of a run's grids; returns its frames, and how many pass in a second.
fn of_run(args: &VideoArgs, folder: &Path, kind: FilmKind) -> Result<(usize, u32)> {
    let (fps, scale) = (args.fps.unwrap_or(8), args.scale.unwrap_or(1));
    ensure!((0.0..=600.0).contains(&args.hold), "--hold must be from 0 to 600 seconds, not {}", args.hold);
    let grids = grids(folder)?;
    let Some(first) = grids.first() else {
        bail!("'{}' has no grids; pass the folder of a run, such as runs/00000-...", folder.display());
    };
    write_only_to(&[&args.out], Device::Cpu);
    let first = read(first)?;
    let (width, height) = match args.grid {
        Some(shown) => part_of(folder, shown, (first.width(), first.height()))?,
        None => (first.width(), first.height()),
    };
    let shape = FilmShape { width: width as usize * scale, height: height as usize * scale, fps };
    let mut film = film::begin(kind, shape).with_context(|| {
        format!("the grids of '{}' have {}x{} pixels", folder.display(), first.width(), first.height())
    })?;
    make_folder_of(&args.out)?;
    let held = (args.hold * f64::from(fps)).round() as usize;
    let (bar, stop) = (Bar::new(grids.len() as u64, "reading grids"), StopRequest::listen()?);
    for (index, path) in grids.iter().enumerate() {
        stop.check()?;
        let grid = read(path)?;
        ensure!(
            (grid.width(), grid.height()) == (first.width(), first.height()),
            "'{}' has {}x{} pixels, and the first grid {}x{}",
            path.display(),
            grid.width(),
            grid.height(),
            first.width(),
            first.height()
        );
        let shown = image::imageops::crop_imm(&grid, 0, 0, width, height).to_image();
        let frame = enlarged(shown, scale);
        let times = if index + 1 == grids.len() { held.max(1) } else { 1 };
        (0..times).try_for_each(|_| film.add(&frame))?;
        bar.inc(1);
    }
    bar.finish();
    write_atomically(&args.out, |file| film.finish(file))?;
    Ok((grids.len() - 1 + held.max(1), fps))
}

/// Returns the width and height of the upper left part of a run's grids that holds so many pictures.
fn part_of(folder: &Path, shown: GridSize, (width, height): (u32, u32)) -> Result<(u32, u32)> {
    let options = Options::from_file(&folder.join("training_options.json"))?;
    let grid = options.grid.context("the run's options do not say how large its grids are; leave --grid away")?;
    ensure!(
        shown.columns <= grid.columns && shown.rows <= grid.rows,
        "the grids have {} by {} pictures; pass a --grid within them",
        grid.columns,
        grid.rows
    );
    let part = |length: u32, shown: usize, all: usize| length / all as u32 * shown as u32;
    Ok((part(width, shown.columns, grid.columns), part(height, shown.rows, grid.rows)))
}

fn read(path: &Path) -> Result<RgbImage> {
    Ok(open(path).with_context(|| format!("cannot read the grid '{}'", path.display()))?.to_rgb8())
}

/// Enlarges a picture, smoothly.
fn enlarged(picture: RgbImage, scale: usize) -> RgbImage {
    if scale == 1 {
        return picture;
    }
    let (width, height) = (picture.width() * scale as u32, picture.height() * scale as u32);
    resize(&picture, width, height, FilterType::CatmullRom)
}
