//! `rootgan dataset`: reports what is wrong with a folder or zip of pictures, and makes a clean one of the good ones.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::data::convert::{ConvertOptions, Crop, Filter, convert};
use crate::data::formats::MAX_SIDE;
use crate::data::labels::LabelChoice;
use crate::system::signals::Interrupted;
use crate::system::ui::harmless;

/// The text below the options in `--help`.
const EXPLANATION: &str = "\
Reports every file that cannot be used and every picture that shows the same as an earlier one. With DST, writes the others
as square PNG files of one size, in the layout that StyleGAN2-ADA and StyleGAN3 read too: 00000/img00000000.png, ... and
dataset.json. DST appears once it is complete, or not at all. Bad files are no failure: the exit code is 0 unless no
picture is usable or DST cannot be written. Hidden files are passed over.";

/// Check a folder or zip of pictures, and make a clean one of it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPLANATION)]
pub struct DatasetArgs {
    /// Folder (of any depth) or zip of pictures
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// Folder to make, or zip if it ends in .zip [default: only report]
    #[arg(value_name = "DST")]
    pub destination: Option<PathBuf>,
    /// Width and height of the new pictures in pixels [default: their own, if all are equal]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIDE)))]
    pub resolution: Option<u32>,
    /// Way in which pictures become square
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub crop: Crop,
    /// Filter for changing the size of pictures
    #[arg(long, value_enum, value_name = "FILTER", default_value_t)]
    pub resize: Filter,
    /// Write grey pictures
    #[arg(long)]
    pub grey: bool,
    /// Leave out pictures with a side shorter than this, in pixels, instead of enlarging them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub min_size: u32,
    /// Labels to keep
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub labels: LabelChoice,
    /// Keep pictures that show the same as an earlier one
    #[arg(long)]
    pub keep_duplicates: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// A source without usable pictures, labels that cannot be used, or a destination that cannot be written.
pub fn run(args: DatasetArgs) -> Result<()> {
    let options = ConvertOptions {
        resolution: args.resolution,
        crop: args.crop,
        filter: args.resize,
        grey: args.grey,
        min_size: args.min_size,
        labels: args.labels,
        keep_duplicates: args.keep_duplicates,
    };
    let destination = args.destination.as_deref();
    let findings = convert(&args.source, destination, &options).map_err(|error| {
        let place = destination.unwrap_or(&args.source).display();
        Interrupted::or_else(error, |signal| format!("stopped by {signal}: nothing was written to '{place}'"))
    })?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&findings)?),
        false => findings.lines().iter().for_each(|line| println!("{}", harmless(line))),
    }
    ensure!(
        findings.usable > 0,
        "no picture in '{}' is usable, the report says why; repair them or relax the options",
        args.source.display()
    );
    Ok(())
}
