//! `rootgan project`: looks for the w whose picture is nearest to a given one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tch::Tensor;

use crate::cli::args::{GeneratorArgs, refuse_foreign};
use crate::cli::confine::write_only_to;
use crate::cli::output::{make_folder, refuse_existing};
use crate::data::decode::decode_picture;
use crate::draw::pixels::{encode_png, to_interleaved};
use crate::latent::picture_distance::PictureDistance;
use crate::latent::projection::{ProjectionSettings, Space, project};
use crate::latent::w_samples::sizes_of_ws;
use crate::latent::ws_file;
use crate::metrics::Detector;
use crate::model::Generator;
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::{Bar, say};
use crate::tensor::images::{ToBytes, bytes, from_bytes, to_u8};

/// Names of the files that are written.
const WS: &str = "projected_w.npz";
const PROJECTED: &str = "projected.png";
const TARGET: &str = "target.png";

/// Look for the w whose picture is nearest to a given one.
#[derive(Debug, clap::Args)]
pub struct ProjectArgs {
    /// The generator.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// The picture; its largest centred square is taken and resized
    #[arg(long, value_name = "PICTURE")]
    pub target: PathBuf,
    /// Folder for projected_w.npz, projected.png and target.png
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// w: one for all layers, whose pictures look like the generator's; w+: one for each layer, which is nearer to the target
    #[arg(long, value_enum, default_value_t = SpaceArg::W)]
    pub space: SpaceArg,
    /// Number of steps, at least 1
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub steps: u64,
    /// Network that compares pictures, best one of rootgan detector vgg16 [default: pixels are compared at several scales]
    #[arg(long, value_name = "FILE.pt")]
    pub detector: Option<PathBuf>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
}

/// The space in which a picture is looked for, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SpaceArg {
    /// One w for all layers
    W,
    /// A w for each layer
    #[value(name = "w+")]
    WPlus,
}

impl From<SpaceArg> for Space {
    fn from(space: SpaceArg) -> Self {
        match space {
            SpaceArg::W => Space::W,
            SpaceArg::WPlus => Space::WPlus,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A picture, generator or detector that cannot be used, or no place for the output.
pub fn run(args: ProjectArgs) -> Result<()> {
    ensure!(args.steps > 0, "cannot project in 0 steps; pass --steps 1 or more");
    ensure!(!args.target.is_dir(), "cannot project '{}': it is a folder; pass one picture", args.target.display());
    ensure!(args.target.is_file(), "cannot find the picture '{}'; check the path", args.target.display());
    refuse_existing(&args.out.join(WS), "projection")?;
    refuse_foreign(&args.out, |name| [PROJECTED, TARGET].contains(&name))?;
    let device = args.generator.device()?;
    let found = args.generator.find()?;
    write_only_to(&[&args.out], device);
    let mut generator = args.generator.load(&found, device)?;
    generator.script.freeze(|_| true);
    sizes_of_ws(&generator)?;
    generator.class_labels(args.generator.class, 1)?;
    let mut detector = args.detector.as_deref().map(|path| Detector::load(path, device)).transpose()?;
    detector.iter_mut().for_each(Detector::freeze);

    make_folder(&args.out)?;
    let target = prepared_target(&args, &generator)?;
    let distance = PictureDistance::from_target(&target, detector.as_ref())?;
    let settings = ProjectionSettings {
        space: args.space.into(),
        steps: args.steps,
        seed: args.seed,
        class: args.generator.class,
    };
    let (bar, stop) = (Bar::new(args.steps, "projecting"), StopRequest::listen()?);
    let progress = |_, value: f64| {
        stop.check()?;
        bar.set_message(format!("distance {value:.4}"));
        bar.inc(1);
        Ok(())
    };
    let projected = project(&generator, &distance, &settings, progress)
        .map_err(|error| Interrupted::or_else(error, |signal| format!("stopped by {signal}")))?;
    bar.finish();
    if projected.skipped_steps > 0 {
        say(format!("{} steps were skipped: their gradients were not finite", projected.skipped_steps));
    }
    ws_file::write(&args.out.join(WS), &projected.ws)?;
    save(&args.out.join(PROJECTED), &bytes(&to_u8(&projected.image, ToBytes::Round)), &generator)?;
    println!(
        "distance: {:.4} ({}); {:.4} before the first step",
        projected.distance,
        distance.name(),
        projected.first_distance
    );
    println!("projected: {}", args.out.display());
    Ok(())
}

/// Decodes the target to the generator's size, [1, C, R, R], and writes it as it is compared.
fn prepared_target(args: &ProjectArgs, generator: &Generator) -> Result<Tensor> {
    let (side, channels) = (generator.img_resolution(), generator.img_channels());
    let (planar, _) = decode_picture(&args.target, u32::try_from(side)?, u32::try_from(channels)?)?;
    save(&args.out.join(TARGET), &planar, generator)?;
    Ok(from_bytes(&planar, [1, channels, side, side], generator.script.device))
}

/// Writes a planar picture of the generator's size.
fn save(path: &Path, planar: &[u8], generator: &Generator) -> Result<()> {
    let (side, channels) = (generator.img_resolution() as usize, generator.img_channels() as usize);
    encode_png(path, &to_interleaved(planar, channels), side, side, channels)
}
