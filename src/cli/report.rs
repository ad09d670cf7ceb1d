//! `rootgan report`: runs or a comparison as one HTML file.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cli::grid::make_folder_of;
use crate::files::atomic::write_atomically;
use crate::web::report::report;

/// Write runs or a comparison as one HTML file, for sending around.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Runs, folders of runs, or the folder of a comparison
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The file
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// There is no run, its files cannot be read, or the report cannot be written.
pub fn run(args: ReportArgs) -> Result<()> {
    let is_html = args.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html"));
    ensure!(is_html, "cannot write the report '{}': pass a name that ends in .html", args.out.display());
    ensure!(
        std::fs::symlink_metadata(&args.out).is_err(),
        "cannot write the report '{}': something of that name is there; remove it or pass another name",
        args.out.display()
    );
    let page = report(&args.runs)?;
    make_folder_of(&args.out)?;
    write_atomically(&args.out, |file| Ok(file.write_all(page.as_bytes())?))?;
    println!("report: {} ({:.1} MB)", args.out.display(), page.len() as f64 / 1e6);
    Ok(())
}
