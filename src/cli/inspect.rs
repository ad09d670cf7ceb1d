//! `rootgan inspect`: says what a file is, its sizes, and what cannot be done with it.

use crate::cli::confine::write_only_to;
use crate::model::provenance::{self, flattened};
use crate::model::safety::{Contents, StoredTensor};
use crate::model::{DiscriminatorSpec, FileKind, Generator, GeneratorSpec, parse_description, read_contents, weights};
use crate::run::snapshot::Network;
use crate::source::{Source, is_address};
use crate::system::ui::{harmless, on_one_line, shortened};
use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// The options of `rootgan inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// TorchScript file, safetensors file, run directory, any file of a snapshot, or whatever else --from takes
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Width of z, for a generator that does not describe itself: its forward is run once
    #[arg(long, value_name = "N")]
    pub z_dim: Option<i64>,
}

/// The report on a file.
#[derive(Debug, Serialize)]
struct Inspection {
    file: String,
    /// One of generator, discriminator, detector, z-only generator, other TorchScript, safetensors.
    kind: &'static str,
    /// Its place in a run, for a run directory or snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Value>,
    sizes: Value,
    parameters: Parameters,
    methods: Vec<MethodEntry>,
    /// All methods of a TorchScript file with their arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    declarations: Vec<String>,
    /// Calls of its code beyond the operators of `src/model/safety/operators.txt`, with places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_allowed: Vec<String>,
    /// The uses that are switched off, and why.
    switched_off: Vec<String>,
    provenance: Value,
}

/// The numbers of parameter values.
#[derive(Debug, Serialize)]
struct Parameters {
    tensors: usize,
    all: usize,
    trained: Option<usize>,
}

/// A method of the contract.
#[derive(Debug, Serialize)]
struct MethodEntry {
    name: &'static str,
    present: bool,
}

/// Methods of the contract, and what is off without each.
const GENERATOR_METHODS: [(&str, &str); 7] = [
    ("forward", "everything: a generator is called through it"),
    ("run_mapping", "path length, style mixing, truncation, w_avg and labels"),
    ("run_synthesis", "path length, style mixing and the choice of noise"),
    ("describe", "stored sizes (z is found by trial, or --z-dim) and everything of run_mapping and run_synthesis"),
    ("get_provenance", "the record of where the weights come from"),
    ("set_provenance", "writing that record into finetuned weights"),
    ("set_precision", "--precision bf16 and fp16"),
];
const DISCRIMINATOR_METHODS: [(&str, &str); 5] = [
    ("forward", "everything: a discriminator is called through it"),
    ("describe", "labels, and the check of sizes and minibatch-stddev group against the generator and batch"),
    ("get_provenance", "the record of where the weights come from"),
    ("set_provenance", "writing that record into finetuned weights"),
    ("set_precision", "--precision bf16 and fp16"),
];

const DETECTOR_METHODS: [(&str, &str); 2] = [
    ("forward", "everything: a detector is called through it"),
    ("describe", "the name of its features, and the check of pictures' sizes"),
];

/// Most places that are listed of what a file must not do.
const MOST_FINDINGS: usize = 100;

/// Runs the subcommand.
///
/// # Errors
/// A file that is missing, damaged, or nothing that this program can use, with what it is instead.
pub fn run(args: InspectArgs) -> Result<()> {
    let report = report_on(&args.file, args.z_dim)?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    Ok(())
}

fn report_on(path: &Path, z_dim: Option<i64>) -> Result<Inspection> {
    if path.is_dir() || path.extension().is_some_and(|extension| extension == "json") || is_address(path) {
        return report_on_source(path, z_dim);
    }
    ensure!(path.exists(), "cannot inspect '{}': no such file or folder; check the path", path.display());
    match FileKind::detect(path)? {
        FileKind::TorchScript => report_on_script(path, z_dim),
        FileKind::Safetensors => report_on_safetensors(path),
        FileKind::Checkpoint { .. } => report_on_source(path, z_dim),
        FileKind::Foreign { what, remedy } => {
            bail!("'{}' is {what}, which is no network that rootgan can use; {remedy}", path.display())
        }
    }
}

/// Reports on the generator that `generate --from` would use; the checksums of a snapshot are checked first.
fn report_on_source(path: &Path, z_dim: Option<i64>) -> Result<Inspection> {
    let source = Source::find(path, None)?;
    let generator = report_on_script(&source.generator()?, z_dim)?;
    let Some((manifest, listed)) = source.snapshot() else {
        return Ok(Inspection { file: path.display().to_string(), ..generator });
    };
    let mut files = serde_json::Map::new();
    for network in Network::ALL {
        files.insert(network.name().into(), listed.checked(manifest, network)?.display().to_string().into());
    }
    let record = json!({ "kimg": listed.kimg, "manifest": manifest.display().to_string(), "files": files });
    Ok(Inspection { file: path.display().to_string(), snapshot: Some(record), ..generator })
}

/// Reports on a TorchScript file from its bytes: nothing of it is run, unless a width of z asks for a trial.
fn report_on_script(path: &Path, z_dim: Option<i64>) -> Result<Inspection> {
    let (_, contents) = read_contents(path)?;
    let described = contents.text("describe");
    let description: Value = described.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let has_description = contents.has_method("describe");
    let (kind, sizes, names): (&'static str, Value, &[(&'static str, &str)]) =
        match (description["kind"].as_str(), described) {
            (Some("discriminator"), Some(text)) => {
                let spec: DiscriminatorSpec = parse_description(path, text, "discriminator")?;
                ("discriminator", json!(spec), &DISCRIMINATOR_METHODS)
            }
            (Some("detector"), Some(_)) => {
                let mut said = description.clone();
                said.as_object_mut().map(|said| said.shift_remove("kind"));
                ("detector", said, &DETECTOR_METHODS)
            }
            (Some(_), Some(text)) => {
                let spec: GeneratorSpec = parse_description(path, text, "generator")?;
                ("generator", json!(spec), &GENERATOR_METHODS)
            }
            _ if z_dim.is_some() => {
                write_only_to(&[], Device::Cpu);
                let generator = Generator::load(path, Device::Cpu, z_dim)?;
                ("z-only generator", sizes_of_z_only(&generator), &GENERATOR_METHODS)
            }
            _ => ("other TorchScript", json!({}), &GENERATOR_METHODS),
        };
    let all = contents.tensors.iter().map(values_of).sum();
    let trained = contents.tensors.iter().filter(|tensor| tensor.trainable).map(values_of).sum();
    let (methods, mut switched_off) = methods_of(&contents, names);
    if trained == 0 && kind != "detector" {
        switched_off.push("finetuning (it has no trainable parameters: a frozen module?)".into());
    }
    if kind == "other TorchScript" {
        switched_off = vec![match has_description {
            true => "sizes (describe() computes them, and nothing of a file is run here)".into(),
            false => {
                "sizes (it does not describe itself; --z-dim N runs its forward once, as a generator). A generator \
                      works if forward takes z, a discriminator if forward takes images and returns one logit each"
                    .into()
            }
        }];
    }
    let not_allowed: Vec<String> =
        contents.findings.iter().take(MOST_FINDINGS).map(|found| format!("{} ({})", found.what, found.place)).collect();
    if !not_allowed.is_empty() {
        switched_off.insert(0, "everything, unless --trust is given: see 'not allowed'".into());
    }
    Ok(Inspection {
        file: path.display().to_string(),
        kind,
        snapshot: None,
        sizes,
        parameters: Parameters { tensors: contents.tensors.len(), all, trained: Some(trained) },
        methods,
        declarations: contents.methods.iter().map(|(_, declaration)| declaration.clone()).collect(),
        not_allowed,
        switched_off,
        provenance: provenance::parsed(contents.text("get_provenance").unwrap_or_default()),
    })
}

fn values_of(tensor: &StoredTensor) -> usize {
    tensor.size.iter().fold(1, |product, &size| product * usize::try_from(size).unwrap_or(0))
}

fn sizes_of_z_only(generator: &Generator) -> Value {
    json!({
        "z_dim": generator.z_dim(),
        "img_resolution": generator.img_resolution(),
        "img_channels": generator.img_channels(),
    })
}

/// Lists which methods there are, and what is off without those that are missing.
fn methods_of(contents: &Contents, names: &[(&'static str, &str)]) -> (Vec<MethodEntry>, Vec<String>) {
    let mut methods = Vec::with_capacity(names.len());
    let mut switched_off = Vec::new();
    for &(name, purpose) in names {
        let present = contents.has_method(name);
        if !present {
            switched_off.push(format!("{purpose} (no method {name})"));
        }
        methods.push(MethodEntry { name, present });
    }
    (methods, switched_off)
}

fn report_on_safetensors(path: &Path) -> Result<Inspection> {
    let mut file = weights::list(path)?;
    let mut provenance = serde_json::Map::new();
    for key in ["provenance", "G.provenance", "D.provenance"] {
        if let Some(text) = file.metadata.remove(key) {
            provenance.insert(key.to_owned(), flattened(parse_or_keep(text)));
        }
    }
    let sorted: BTreeMap<String, String> = file.metadata.into_iter().collect();
    let sizes: Value = sorted.into_iter().map(|(key, text)| (key, parse_or_keep(text))).collect();
    let all = file.tensors.iter().map(|tensor| tensor.numbers).sum();
    let is_pair = ["G.", "D."].iter().all(|prefix| file.tensors.iter().any(|tensor| tensor.name.starts_with(prefix)));
    let remedy = match file.tensors.iter().find(|tensor| !tensor.is_float) {
        Some(tensor) => format!("weights are floats, and '{}' is of type {}", tensor.name, tensor.kind),
        None if is_pair => "pass it as --from, or make TorchScript of it with rootgan import".to_owned(),
        None => "G.* and D.* with sizes would make a pair, see weights/README.md".to_owned(),
    };
    Ok(Inspection {
        file: path.display().to_string(),
        kind: "safetensors",
        snapshot: None,
        sizes,
        parameters: Parameters { tensors: file.tensors.len(), all, trained: None },
        methods: Vec::new(),
        declarations: Vec::new(),
        not_allowed: Vec::new(),
        switched_off: vec![format!("direct use (these are weights without a network); {remedy}")],
        provenance: Value::Object(provenance),
    })
}

fn parse_or_keep(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn print(report: &Inspection) {
    let line = |name: &str, text: &str| println!("{}", harmless(&format!("  {name:<16} {text}")));
    println!("{}", harmless(&format!("{}: {}", report.file, report.kind)));
    if let Some(snapshot) = &report.snapshot {
        line("snapshot", &format!("at {} kimg, all checksums right", snapshot["kimg"]));
        for (name, file) in snapshot["files"].as_object().into_iter().flatten() {
            line(&format!("  {name}"), file.as_str().unwrap_or_default());
        }
        line("below", "the moving average of the generator, G_ema");
    }
    for (name, size) in report.sizes.as_object().into_iter().flatten() {
        if name.ends_with("description") {
            continue; // a safetensors file says these sizes twice
        }
        let text = match size {
            Value::Null => "none".into(),
            Value::String(text) => shortened(&on_one_line(text)),
            other => other.to_string(),
        };
        line(name, &text);
    }
    let Parameters { tensors, all, trained } = &report.parameters;
    let trained = trained.map(|trained| format!("{trained} trained, ")).unwrap_or_default();
    line("parameters", &format!("{trained}{all} in all, in {tensors} tensors"));
    if !report.methods.is_empty() {
        let present = report.methods.iter().filter(|method| method.present).map(|method| method.name);
        line("methods", &present.collect::<Vec<_>>().join(", "));
    }
    if report.kind == "other TorchScript" {
        report.declarations.iter().for_each(|declaration| line("declared", &shortened(declaration)));
    }
    report.not_allowed.iter().for_each(|finding| line("not allowed", &shortened(finding)));
    match report.switched_off.is_empty() {
        true => line("switched off", "nothing"),
        false => report.switched_off.iter().for_each(|what| line("switched off", what)),
    }
    match (report.kind, &report.provenance) {
        // A safetensors file has a record for each network.
        ("safetensors", Value::Object(records)) => {
            records.iter().for_each(|(name, record)| print_provenance(name, record, line));
        }
        (_, record) => print_provenance("provenance", record, line),
    }
}

/// Prints the record, then its ancestors in a line each, the nearest first.
fn print_provenance(name: &str, record: &Value, line: impl Fn(&str, &str)) {
    let mut own = record.clone();
    let mut take = |key: &str| own.as_object_mut().and_then(|own| own.shift_remove(key));
    let (ancestors, left_out) = (take(provenance::ANCESTORS), take(provenance::LEFT_OUT));
    line(name, &shortened(&own.to_string()));
    for (id, ancestor) in ancestors.iter().filter_map(Value::as_object).flatten() {
        let said = ["source", "dataset", "seen_images", "seed"].map(|key| (key, &ancestor[key]));
        let said = said.iter().filter(|(_, value)| !value.is_null());
        let said: Vec<String> = said.map(|(key, value)| format!("{key} {}", shortened(&value.to_string()))).collect();
        line("  ancestor", &format!("{}: {}", id.chars().take(12).collect::<String>(), said.join(", ")));
    }
    if let Some(number) = left_out {
        line(
            "  ancestor",
            &format!("{number} more, and theirs, are left out: older than the nearest 64 KiB of records"),
        );
    }
}
