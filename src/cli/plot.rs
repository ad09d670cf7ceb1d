//! `rootgan plot`: draws a statistic of one or more runs against the images seen, as PNG and SVG.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::draw::plot::{Line, Plot, Scale, smoothed};
use crate::files::json_lines::read_json_lines;

/// Draw a statistic of one or more runs against the images seen.
#[derive(Debug, clap::Args)]
pub struct PlotArgs {
    /// Run directories, one line each; NAME=RUN names the line
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    /// The statistic, as stats.jsonl calls it
    #[arg(long, value_name = "NAME", default_value = "Loss/signs/real")]
    pub stat: String,
    /// mean, std, max or num of it in each tick
    #[arg(long, default_value = "mean", value_parser = ["mean", "std", "max", "num"])]
    pub part: String,
    /// Mean over this many ticks, half of them before and half after, an odd number
    #[arg(long, value_name = "TICKS", default_value_t = 1)]
    pub smooth: usize,
    /// Draw a horizontal line here
    #[arg(long, value_name = "Y", allow_negative_numbers = true)]
    pub level: Option<f64>,
    /// Title [default: the statistic]
    #[arg(long)]
    pub title: Option<String>,
    /// The files' name, to which .png and .svg are added
    #[arg(long, value_name = "NAME")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A run without statistics or without this one, or files that cannot be written.
pub fn run(args: PlotArgs) -> Result<()> {
    let mut lines = Vec::new();
    for run in &args.runs {
        let (label, folder) = named(run);
        let points = smoothed(&read(&folder, &args.stat, &args.part)?, args.smooth)?;
        lines.push(Line { label, points, band: Vec::new() });
    }
    let of = if args.part == "mean" { String::new() } else { format!(" ({})", args.part) };
    let plot = Plot {
        title: args.title.unwrap_or_else(|| args.stat.clone()),
        x_label: "thousands of images seen (kimg)".to_owned(),
        y_label: format!("{}{of}", args.stat),
        y_scale: Scale::Linear,
        lines,
        level: args.level,
    };
    for path in plot.save(&args.out)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Splits `label=folder`; a folder alone is its own label. A folder whose name has an equals sign is taken as it is.
fn named(run: &str) -> (String, PathBuf) {
    match run.split_once('=') {
        Some((label, folder)) if !Path::new(run).exists() => (label.to_owned(), folder.into()),
        _ => (Path::new(run).file_name().unwrap_or_default().to_string_lossy().into_owned(), run.into()),
    }
}

/// Reads the kimg and the value of every tick that has one.
fn read(folder: &Path, stat: &str, part: &str) -> Result<Vec<(f64, f64)>> {
    let path = folder.join("stats.jsonl");
    let lines = read_json_lines(&path)
        .with_context(|| format!("cannot read '{}'; pass a run directory, such as runs/00000-...", path.display()))?;
    let mut points = Vec::new();
    let mut names = Vec::new();
    for line in lines {
        let kimg = line["Progress/kimg"]["mean"].as_f64();
        points.extend(kimg.zip(line[stat][part].as_f64()));
        names = line.as_object().into_iter().flat_map(|line| line.keys().cloned()).collect();
    }
    ensure!(!names.is_empty(), "'{}' has no statistics yet", path.display());
    if points.is_empty() {
        bail!("'{}' has no statistic '{stat}'; it has {}", path.display(), names.join(", "));
    }
    Ok(points)
}
