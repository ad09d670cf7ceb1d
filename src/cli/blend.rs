//! `rootgan blend`: one generator of two, the low resolutions from one and the high ones from the other.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::Device;

use crate::cli::args::OriginArgs;
use crate::cli::confine::write_only_to;
use crate::cli::output::{make_folder_of, refuse_existing};
use crate::files::checksum::sha256;
use crate::latent::blend::{Swap, blend};
use crate::model::Generator;
use crate::model::provenance::flattened;
use crate::source::Source;

/// Make one generator of two of the same architecture: low resolutions from one, high ones from the other.
#[derive(Debug, clap::Args)]
pub struct BlendArgs {
    /// The generator with the mapping and the low resolutions.
    #[command(flatten)]
    pub origin: OriginArgs,
    /// Generator with the high resolutions, in any format that --from takes
    #[arg(long, value_name = "SOURCE")]
    pub other: PathBuf,
    /// Lowest resolution that comes from --other
    #[arg(long, value_name = "R")]
    pub resolution: i64,
    /// Width of the transition in octaves of resolution; 0 is a step
    #[arg(long, value_name = "W", default_value_t = 0.0, allow_negative_numbers = true)]
    pub width: f64,
    /// The new generator
    #[arg(long, value_name = "G.pt")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Generators that cannot be found, loaded or blended, or no place for the output.
pub fn run(args: BlendArgs) -> Result<()> {
    refuse_existing(&args.out, "blend")?;
    let from = args.origin.from.as_deref().context("no generator is given; pass --from SOURCE and --other SOURCE")?;
    let (source, other) = (Source::find(from, args.origin.sha256.as_deref())?, Source::find(&args.other, None)?);
    write_only_to(&[&args.out], Device::Cpu);
    let load = |source: &Source| Generator::load(&source.generator()?, Device::Cpu, None);
    let (mut generator, other) = (load(&source)?, load(&other)?);
    let record = provenance(&generator, &other, &args)?;
    let swap = Swap { resolution: args.resolution, width: args.width };
    blend(&mut generator, &other, swap)?;
    if generator.script.has_method("get_provenance") {
        generator.script.set_provenance(&record)?;
    }
    make_folder_of(&args.out)?;
    generator.script.save(&args.out)?;
    println!("blended generator: {}", args.out.display());
    Ok(())
}

/// Makes the record of the blend, which names both parents and keeps how often classes occur.
fn provenance(generator: &Generator, other: &Generator, args: &BlendArgs) -> Result<Value> {
    let own = generator.script.provenance();
    let mut record = flattened(json!({
        "source": concat!("blended by rootgan ", env!("CARGO_PKG_VERSION")),
        "resolution": args.resolution,
        "width": args.width,
        "class_counts": own["class_counts"].clone(),
        "parents": { "generator": own, "other": other.script.provenance() },
    }));
    for (name, script) in [("generator", &generator.script), ("other", &other.script)] {
        if let Value::Object(parent) = &mut record["parents"][name] {
            parent.insert("sha256".to_owned(), sha256(&script.path)?.into());
        }
    }
    Ok(record)
}
