//! `rootgan export`: writes networks in formats that other programs read. TorchScript with safetensors under NVIDIA's
//! names is written here, the others by the Python package.

use crate::cli::args::PairArgs;
use crate::cli::confine::write_only_to;
use crate::cli::python::HandOver;
use crate::files::atomic::{replace_atomically, write_json};
use crate::files::checksum::FileRecord;
use crate::files::opening::to_read;
use crate::model::{Discriminator, Generator, check_pair, read_contents, weights};
use crate::source::{
    DISCRIMINATOR, EXPORT_RECORD, GENERATOR, Source, file_with_sha256, refuse_present, replace_networks,
};
use crate::system::ui::say;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tch::Device;

/// The options of `rootgan export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The networks.
    #[command(flatten)]
    pub pair: PairArgs,
    /// Format to write
    #[arg(long, value_enum, default_value_t = Format::Torchscript)]
    pub format: Format,
    /// Place to write to: the name of the file, or of the folder for torchscript and onnx. In a folder that is there, a
    /// file gets its usual name
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Take the generator as trained instead of its moving average
    #[arg(long)]
    pub raw: bool,
    /// For nvidia: the pickle that the weights were imported from [default: where it was imported from, by its SHA-256]
    #[arg(long, value_name = "FILE.pkl")]
    pub source: Option<PathBuf>,
    /// For nvidia: write into this --source although the weights do not say that they come from it
    #[arg(long, requires = "source")]
    pub any_source: bool,
    /// For rosinality: leave the clamp of convolutions out, which its code lacks, and say whether that changes pictures
    #[arg(long)]
    pub drop_clamp: bool,
    /// Width of z, for a generator that does not describe itself
    #[arg(long, value_name = "N")]
    pub z_dim: Option<i64>,
    /// Replace the files of an earlier export
    #[arg(long)]
    pub force: bool,
}

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A folder: generator.pt and discriminator.pt, and both as weights.safetensors
    Torchscript,
    /// A file of G.* and D.* under NVIDIA's names, and a .json that describes it
    Safetensors,
    /// A torch.save file of G_ema, G and D under NVIDIA's names, for load_state_dict
    StateDict,
    /// A checkpoint of rosinality's stylegan2-pytorch
    Rosinality,
    /// A copy of NVIDIA's .pkl that the weights come from, with the new numbers
    Nvidia,
    /// A folder: mapping and synthesis as ONNX
    Onnx,
}

impl Format {
    /// Returns the format's name in Python, and the name of its file in a folder that is given as `--out`; None where a
    /// folder is written.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Torchscript => ("torchscript", None),
            Self::Safetensors => ("safetensors", Some("weights.safetensors")),
            Self::StateDict => ("state-dict", Some("state_dict.pt")),
            Self::Rosinality => ("rosinality", Some("rosinality.pt")),
            Self::Nvidia => ("nvidia", Some("networks.pkl")),
            Self::Onnx => ("onnx", None),
        }
    }
}

/// The files of an export as TorchScript.
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
    for (flag, is_given, format) in
        [("--source", args.source.is_some(), Format::Nvidia), ("--drop-clamp", args.drop_clamp, Format::Rosinality)]
    {
        ensure!(!is_given || args.format == format, "{flag} belongs to --format {}", format.names().0);
    }
    ensure!(
        !args.raw || args.pair.generator.is_none(),
        "--raw chooses between the two generators of a snapshot or import: it goes with --from only"
    );
    let ending = args.out.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if args.format.names().1.is_none() && !args.out.is_dir() {
        let format = match ending.as_str() {
            "pkl" => Some("nvidia"),
            "pt" | "pth" => Some("rosinality (or state-dict)"),
            "safetensors" => Some("safetensors"),
            _ => None,
        };
        ensure!(
            format.is_none(),
            "cannot export to '{}': {} is a folder; for a file of this ending pass --format {}, or pass the name of a folder",
            args.out.display(),
            args.format.names().0,
            format.unwrap_or_default()
        );
        ensure!(
            !args.out.is_file(),
            "cannot export to '{}': it is a file, and {} is a folder; pass another --out",
            args.out.display(),
            args.format.names().0
        );
    }
    match args.format {
        Format::Torchscript => as_torchscript(&args),
        _ => by_python(&args),
    }
}

/// Returns the path of the generator to export.
fn generator_of(source: &Source, raw: bool) -> Result<PathBuf> {
    match raw {
        true => {
            source.generator_raw()?.context("there is only one generator, so --raw has nothing to choose; leave it out")
        }
        false => source.generator(),
    }
}

/// Hands the networks over to the Python package.
fn by_python(args: &ExportArgs) -> Result<()> {
    let (format, usual_name) = args.format.names();
    let out = match usual_name {
        Some(name) if args.out.is_dir() => args.out.join(name),
        _ => args.out.clone(),
    };
    ensure!(
        args.force || usual_name.is_none() || !out.exists(),
        "cannot export to '{}': it is there already; pass another --out, or --force to replace it",
        out.display()
    );
    let source = args.pair.find()?;
    let generator = generator_of(&source, args.raw)?;
    // What a format does not hold is not read either: a snapshot's files are compared with their checksums.
    let (generator_raw, discriminator) = match args.format {
        Format::Onnx => (None, None),
        _ if args.raw => (None, source.discriminator()?),
        _ => (source.generator_raw()?, source.discriminator()?),
    };
    let origin = match (args.format, &args.source) {
        (Format::Nvidia, None) => origin_of(&generator)?,
        (_, given) => given.clone(),
    };
    HandOver::to("export")
        .option("format", format)
        .option("out", out)
        .option("generator", &generator)
        .optional("generator-raw", generator_raw)
        .optional("discriminator", discriminator)
        .optional("source", origin)
        .switch("any-source", args.any_source)
        .switch("drop-clamp", args.drop_clamp)
        .switch("force", args.force)
        .run()
}

/// Returns the file that these weights were once imported from, if it is still where it was: the provenance has its
/// checksum, the cache of imports its place.
fn origin_of(generator: &Path) -> Result<Option<PathBuf>> {
    let (_, contents) = read_contents(generator)?;
    let record = contents.text("get_provenance").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let origin = checksums_in(&record.unwrap_or_default()).into_iter().find_map(|sha256| file_with_sha256(&sha256));
    if let Some(path) = &origin {
        say(format!("writing into a copy of '{}', which these weights were imported from", path.display()));
    }
    Ok(origin)
}

/// Lists every `source_sha256` in a record and its ancestors.
fn checksums_in(record: &Value) -> Vec<String> {
    match record {
        Value::Object(fields) => {
            let own = fields.get("source_sha256").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(checksums_in)).collect()
        }
        Value::Array(items) => items.iter().flat_map(checksums_in).collect(),
        _ => Vec::new(),
    }
}

fn as_torchscript(args: &ExportArgs) -> Result<()> {
    let targets = Targets::within(&args.out);
    let replaced = targets.refuse_existing(&args.out, args.force)?;
    let source = args.pair.find()?;
    let title = match (args.raw, source.snapshot()) {
        (true, Some((_, listed))) => format!("generator as trained at {} kimg", listed.kimg),
        (false, Some((_, listed))) => format!("moving average of the generator at {} kimg", listed.kimg),
        (true, None) => "generator as trained".to_owned(),
        (false, None) => source.title.clone(),
    };
    let chosen = generator_of(&source, args.raw)?;
    let discriminator = source.discriminator()?.with_context(|| {
        format!(
            "'{}' is a generator alone, and as TorchScript a pair is exported; pass it as --generator with --discriminator D.pt",
            chosen.display()
        )
    })?;
    refuse_to_replace(&[&chosen, &discriminator], &replaced)?;
    write_only_to(&[&args.out], Device::Cpu);
    let generator = Generator::load(&chosen, Device::Cpu, args.z_dim)?;
    let critic = Discriminator::load(&discriminator, Device::Cpu)?;
    check_pair(&generator, &critic).context("cannot export this pair")?;

    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder '{}'", args.out.display()))?;
    replace_networks(&args.out, |scratch| {
        let made = Targets::within(scratch);
        copy(&chosen, &made.generator)?;
        copy(&discriminator, &made.discriminator)?;
        weights::write(&made.weights, &[("G.", &generator.script), ("D.", &critic.script)])
    })?;
    let files = [
        (&targets.generator, title.as_str()),
        (&targets.discriminator, "discriminator"),
        (&targets.weights, "both as safetensors, G.* and D.* under NVIDIA's names"),
    ];
    let mut records = Vec::with_capacity(files.len());
    for (path, what) in files {
        let record = FileRecord::from_file(path)?;
        println!("wrote '{}': {what}, {:.1} MB", path.display(), record.bytes as f64 / 1e6);
        records.push(record);
    }
    let mut from = source.record.clone();
    if let (Some(fields), Some(_)) = (from.as_object_mut(), source.snapshot()) {
        fields.insert("generator".to_owned(), if args.raw { "G" } else { "G_ema" }.into());
    }
    let record = json!({
        "program": concat!("rootgan ", env!("CARGO_PKG_VERSION")),
        "source": from,
        "generator": generator.spec(),
        "discriminator": critic.spec(),
        "files": records,
    });
    write_json(&targets.record, &record)?;
    println!("wrote '{}': where these come from, and their sha256", targets.record.display());
    if generator.spec().is_none() || critic.spec().is_none() {
        say(
            "note: a network that does not describe itself keeps its own parameter names, and its sizes are not stored",
        );
    }
    Ok(())
}

impl Targets {
    fn within(folder: &Path) -> Self {
        Self {
            generator: folder.join(GENERATOR),
            discriminator: folder.join(DISCRIMINATOR),
            weights: folder.join("weights.safetensors"),
            record: folder.join(EXPORT_RECORD),
        }
    }

    /// Returns the networks and records in the folder that are replaced; refuses it without `force`.
    fn refuse_existing(&self, folder: &Path, force: bool) -> Result<Vec<PathBuf>> {
        let replaced = refuse_present(folder, force)?;
        ensure!(
            force || !self.weights.exists(),
            "cannot export to '{}': it is there already; pass another --out, or --force to replace it",
            self.weights.display()
        );
        ensure!(
            !self.weights.is_dir(),
            "cannot export to '{}': a folder of that name is in the way; remove it or pass another --out",
            self.weights.display()
        );
        Ok(replaced)
    }
}

/// Refuses to export networks into the place that they are in: they would be removed before they are copied.
fn refuse_to_replace(inputs: &[&Path], replaced: &[PathBuf]) -> Result<()> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    let inputs: Vec<_> = inputs.iter().filter_map(|path| identity(path)).collect();
    match replaced.iter().find(|path| identity(path).is_some_and(|own| inputs.contains(&own))) {
        Some(path) => {
            bail!("cannot export to '{}': it is one of the files to export; pass another --out", path.display())
        }
        None => Ok(()),
    }
}

/// Copies a file's bytes, not its permissions: what is read-only there need not be so here.
fn copy(source: &Path, target: &Path) -> Result<()> {
    replace_atomically(target, |scratch| {
        let attempt = || std::io::copy(&mut to_read(source)?, &mut File::create(scratch)?);
        attempt().map(|_| ()).with_context(|| format!("cannot copy '{}'", source.display()))
    })
}
