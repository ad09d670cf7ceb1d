//! `rootgan export`: a run's networks as TorchScript and as safetensors under NVIDIA's names.

use crate::cli::confine::write_only_to;
use crate::cli::source::find_snapshot;
use crate::files::atomic::{replace_atomically, write_json};
use crate::files::checksum::FileRecord;
use crate::model::{Discriminator, Generator, check_pair, weights};
use crate::run::snapshot::Network;
use crate::system::ui::say;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Device;

/// What `rootgan export` takes.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Run directory (its newest snapshot), snapshot manifest, or any file of a snapshot
    #[arg(long, value_name = "RUN_OR_SNAPSHOT")]
    pub from: Option<PathBuf>,
    /// TorchScript generator, with --discriminator in place of --from
    #[arg(long, value_name = "FILE")]
    pub generator: Option<PathBuf>,
    /// TorchScript discriminator, with --generator in place of --from
    #[arg(long, value_name = "FILE")]
    pub discriminator: Option<PathBuf>,
    /// Folder for generator.pt, discriminator.pt, weights.safetensors and export.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Take the generator as trained instead of its moving average
    #[arg(long)]
    pub raw: bool,
    /// Width of z, for a generator that does not describe itself
    #[arg(long, value_name = "N")]
    pub z_dim: Option<i64>,
    /// Replace the files of an earlier export
    #[arg(long)]
    pub force: bool,
}

/// The pair to export, and how it was found.
struct Source {
    generator: PathBuf,
    discriminator: PathBuf,
    /// A description for the terminal.
    title: String,
    /// The record for `export.json`.
    record: Value,
}

/// The files of an export.
struct Targets {
    generator: PathBuf,
    discriminator: PathBuf,
    weights: PathBuf,
    record: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// A source that is missing, damaged or no pair; files in the way; a folder that cannot be written.
pub fn run(args: ExportArgs) -> Result<()> {
    let targets = Targets::within(&args.out);
    targets.refuse_existing(args.force)?;
    let source = resolve(&args)?;
    write_only_to(&[&args.out], Device::Cpu);
    let generator = Generator::load(&source.generator, Device::Cpu, args.z_dim)?;
    let discriminator = Discriminator::load(&source.discriminator, Device::Cpu)?;
    check_pair(&generator, &discriminator).context("cannot export this pair")?;

    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder '{}'", args.out.display()))?;
    copy(&source.generator, &targets.generator)?;
    copy(&source.discriminator, &targets.discriminator)?;
    weights::write(&targets.weights, &[("G.", &generator.script), ("D.", &discriminator.script)])?;
    let files = [
        (&targets.generator, source.title.as_str()),
        (&targets.discriminator, "discriminator"),
        (&targets.weights, "both as safetensors, G.* and D.* under NVIDIA's names"),
    ];
    let mut records = Vec::with_capacity(files.len());
    for (path, what) in files {
        let record = FileRecord::from_file(path)?;
        println!("wrote '{}': {what}, {:.1} MB", path.display(), record.bytes as f64 / 1e6);
        records.push(record);
    }
    let record = json!({
        "program": concat!("rootgan ", env!("CARGO_PKG_VERSION")),
        "source": source.record,
        "generator": generator.spec(),
        "discriminator": discriminator.spec(),
        "files": records,
    });
    write_json(&targets.record, &record)?;
    println!("wrote '{}': where these come from, and their sha256", targets.record.display());
    if generator.spec().is_none() || discriminator.spec().is_none() {
        say(
            "note: a network that does not describe itself keeps its own parameter names, and its sizes are not stored",
        );
    }
    Ok(())
}

impl Targets {
    fn within(folder: &Path) -> Self {
        Self {
            generator: folder.join("generator.pt"),
            discriminator: folder.join("discriminator.pt"),
            weights: folder.join("weights.safetensors"),
            record: folder.join("export.json"),
        }
    }

    fn refuse_existing(&self, force: bool) -> Result<()> {
        for path in [&self.generator, &self.discriminator, &self.weights, &self.record] {
            ensure!(
                force || !path.exists(),
                "cannot export to '{}': it is there already; pass another --out, or --force to replace it",
                path.display()
            );
        }
        Ok(())
    }
}

/// Finds the pair that the arguments mean.
fn resolve(args: &ExportArgs) -> Result<Source> {
    match (&args.from, &args.generator, &args.discriminator) {
        (Some(path), None, None) => from_snapshot(path, args.raw),
        (None, Some(generator), Some(discriminator)) => {
            ensure!(!args.raw, "--raw chooses between the two generators of a snapshot: it goes with --from only");
            Ok(Source {
                generator: generator.clone(),
                discriminator: discriminator.clone(),
                title: "generator".into(),
                record: json!({ "generator": name_of(generator), "discriminator": name_of(discriminator) }),
            })
        }
        (None, None, None) => {
            bail!("nothing to export is given; pass --from RUN_OR_SNAPSHOT, or --generator FILE --discriminator FILE")
        }
        (Some(_), _, _) => bail!("--from brings its own networks; pass it without --generator and --discriminator"),
        (None, _, _) => bail!("one network of the pair is missing; pass both --generator and --discriminator"),
    }
}

fn from_snapshot(path: &Path, raw: bool) -> Result<Source> {
    let snapshot = find_snapshot(path)?;
    let (network, kind) = match raw {
        true => (Network::G, "generator as trained"),
        false => (Network::GEma, "moving average of the generator"),
    };
    Ok(Source {
        generator: snapshot.checked(network)?,
        discriminator: snapshot.checked(Network::D)?,
        title: format!("{kind} at {} kimg", snapshot.kimg),
        record: json!({ "snapshot": name_of(&snapshot.manifest), "kimg": snapshot.kimg, "generator": network.name() }),
    })
}

/// The last part of a path: export.json travels with the weights, and where somebody keeps files is
/// nobody's business.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    replace_atomically(target, |scratch| {
        std::fs::copy(source, scratch).with_context(|| format!("cannot copy '{}'", source.display()))?;
        Ok(())
    })
}
