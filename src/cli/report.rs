//! `rootgan report`: a run or a comparison as one HTML file, for sending around.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::output::{make_folder_of, refuse_existing};
use crate::files::atomic::write_atomically;
use crate::web::report;

/// Write a run or a comparison as one HTML file that needs no network.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of a run, or of a comparison
    #[arg(value_name = "RUN|COMPARISON")]
    pub folder: PathBuf,
    /// The file to write, as in report.html
    #[arg(long, value_name = "FILE.html")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// No run in the folder, a file that is there already, or one that cannot be written.
pub fn run(args: ReportArgs) -> Result<()> {
    let shown = args.out.display();
    refuse_existing(&args.out, "report")?;
    let html = report::of_folder(&args.folder)?;
    make_folder_of(&args.out)?;
    write_atomically(&args.out, |file| Ok(file.write_all(html.as_bytes())?))?;
    println!("{shown}: {:.1} MB", html.len() as f64 / 1e6);
    Ok(())
}
