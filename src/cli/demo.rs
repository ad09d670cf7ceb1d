//! `rootgan demo`: makes pictures of cats, finetunes the default pair on them for a short time, and exports the
//! weights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::args::parsed;
use crate::cli::{dump, export, finetune, python};
use crate::run::folder::numbered_grids;
use crate::system::installation::Installation;
use crate::system::ui::duration_text;

/// Finetune the default pair on pictures of cats, to see that everything works.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Folder for the pictures
    #[arg(long, value_name = "DIR", default_value = "rootgan-demo/cats64")]
    pub pictures: PathBuf,
    /// Options of finetune, which win over those of the demo, as in --kimg 4 --loss logistic
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FINETUNE OPTION")]
    pub options: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// Any of its steps fails.
pub fn run(args: DemoArgs) -> Result<()> {
    let installation = Installation::find();
    let (generator, discriminator) =
        (installation.asset("weights/generator.pt")?, installation.asset("weights/discriminator.pt")?);
    let config = installation.asset("configs/demo.json")?;
    let line = CommandLine::of("--outdir rootgan-demo/runs").with("--generator", &generator);
    let line = line.with("--discriminator", &discriminator).with("--config", &config).with("--data", &args.pictures);
    // A typing error is told before anything is made.
    let finetuning = parsed(line.and(args.options).0)?;

    step("pictures", || {
        python::pictures(parsed(CommandLine::of("cats --count 2000 --size 64").with("--out", &args.pictures).0)?)
    })?;
    let mut made = None;
    step("finetune", || {
        made = finetune::run(finetuning)?;
        Ok(())
    })?;
    let Some(run) = made else {
        println!("no run was made, so there is nothing to dump or export");
        return Ok(());
    };
    let into = |words: &str, name: &str| CommandLine::of(words).with("--from", &run).with("--out", &run.join(name)).0;
    step("dump", || dump::run(parsed(into("--count 500", "dump"))?))?;
    step("export", || export::run(parsed(into("--format torchscript", "export"))?))?;
    let grid = newest_grid(&run)?;
    println!();
    println!("open:     {}", grid.display());
    println!(
        "          (samples after finetuning; before: {0}/fakes_init.png, the data: {0}/reals.png)",
        run.display()
    );
    println!("dump:     {}/dump (500 pictures for FID tools)", run.display());
    println!("weights:  {}/export", run.display());
    Ok(())
}

/// A command line of this program.
struct CommandLine(Vec<OsString>);

impl CommandLine {
    fn of(words: &str) -> Self {
        Self(words.split(' ').map(OsString::from).collect())
    }

    fn with(self, flag: &str, path: &Path) -> Self {
        self.and(vec![flag.into(), path.into()])
    }

    fn and(mut self, more: Vec<OsString>) -> Self {
        self.0.extend(more);
        self
    }
}

/// Runs one step under a title, and tells how long it took.
fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let begun = Instant::now();
    work()?;
    println!("   {name}: {}", duration_text(begun.elapsed()));
    Ok(())
}

/// Returns the grid of the last tick.
fn newest_grid(run: &Path) -> Result<PathBuf> {
    let newest = numbered_grids(run)?.pop().map(|(_, path)| path);
    newest.with_context(|| format!("'{}' has no grid of samples", run.display()))
}
