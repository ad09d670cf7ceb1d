//! Writes and reads weights of networks in one safetensors file, under the names that are in circulation, with sizes
//! and origin in its metadata; `rootgan new --from-safetensors` makes TorchScript of it.

use super::ScriptModule;
use crate::files::atomic::replace_atomically;
use crate::files::bounded::read_bytes;
use crate::tensor::one_line;
use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The contents of a safetensors file.
pub struct Weights {
    /// The file that they were read from.
    pub path: PathBuf,
    /// Free text about the weights, by key.
    pub metadata: HashMap<String, String>,
    /// Names and tensors, sorted by name.
    pub tensors: Vec<(String, Tensor)>,
}

/// Writes the parameters of `networks` as f32, each name after its network's prefix (`G.`, `D.` or nothing); the file
/// appears whole or not at all.
///
/// The metadata holds `format` = `rootgan`; every size that a network describes, as Python would print it; and under
/// `<prefix>description` and `<prefix>provenance` what the network says of itself.
///
/// # Errors
/// A parameter cannot be held exactly in f32, or the file cannot be written.
pub fn write(path: &Path, networks: &[(&str, &ScriptModule)]) -> Result<()> {
    let mut named = Vec::new();
    for (prefix, script) in networks {
        for parameter in &script.parameters {
            let values = Values::from_tensor(&parameter.tensor)
                .with_context(|| format!("cannot export '{}' of '{}'", parameter.name, script.path.display()))?;
            named.push((format!("{prefix}{}", parameter.name), values));
        }
    }
    let metadata = metadata_of(networks);
    replace_atomically(path, |scratch| serialize(named, Some(metadata), scratch))
}

/// Writes tensors of float32 or float64 as they are, with free text; the file appears whole or not at all.
///
/// # Errors
/// A tensor has another type, or the file cannot be written.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let named = exact(path, tensors.iter().map(|(name, tensor)| (name, tensor)))?;
    replace_atomically(path, |scratch| serialize(named, Some(metadata), scratch))
}

/// Writes tensors of float32 or float64 as they are to a new file, for a caller that makes it appear whole.
///
/// # Errors
/// The errors of [`write_tensors`].
pub fn write_new<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Result<()> {
    serialize(exact(path, tensors)?, None, path)
}

fn exact<'a>(path: &Path, tensors: impl Iterator<Item = (&'a String, &'a Tensor)>) -> Result<Vec<(String, Values)>> {
    let exact = |(name, tensor): (&String, &Tensor)| {
        let values = Values::exact(tensor).with_context(|| format!("cannot write '{name}' to '{}'", path.display()))?;
        Ok((name.clone(), values))
    };
    tensors.map(exact).collect()
}

/// Writes a file; an error of the system keeps its own words.
fn serialize(named: Vec<(String, Values)>, metadata: Option<HashMap<String, String>>, path: &Path) -> Result<()> {
    safetensors::serialize_to_file(named, metadata, path).map_err(|error| match error {
        SafeTensorError::IoError(error) => error.into(),
        other => other.into(),
    })
}

/// Reads a whole safetensors file; floats keep their precision.
///
/// # Errors
/// The file cannot be read or is damaged, or a tensor is not of floats.
pub fn read(path: &Path) -> Result<Weights> {
    let bytes = read_bytes(path)?;
    let (file, metadata) = opened(path, &bytes)?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        let kind = float_kind(view.dtype()).with_context(|| {
            format!("cannot read '{}': '{name}' is of type {}; weights are floats", path.display(), view.dtype())
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .map_err(|error| anyhow!("cannot read '{name}' of '{}': {}", path.display(), one_line(&error)))?;
        tensors.push((name.to_owned(), tensor));
    }
    tensors.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(Weights { path: path.to_path_buf(), metadata, tensors })
}

/// A tensor in a safetensors file.
pub struct ListedTensor {
    /// Its name.
    pub name: String,
    /// How many numbers it has.
    pub numbers: usize,
    /// Their type, as the file says it.
    pub kind: String,
    /// Whether they can be weights.
    pub is_float: bool,
}

/// What a safetensors file holds, whatever it is for.
pub struct Listing {
    /// Free text, by key.
    pub metadata: HashMap<String, String>,
    /// The tensors, sorted by name.
    pub tensors: Vec<ListedTensor>,
}

/// Lists what a safetensors file holds.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn list(path: &Path) -> Result<Listing> {
    let bytes = read_bytes(path)?;
    let (file, metadata) = opened(path, &bytes)?;
    let listed = |(name, view): (&str, safetensors::tensor::TensorView)| ListedTensor {
        name: name.to_owned(),
        numbers: view.shape().iter().product(),
        kind: view.dtype().to_string(),
        is_float: float_kind(view.dtype()).is_some(),
    };
    let mut tensors: Vec<ListedTensor> = file.iter().map(listed).collect();
    tensors.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Listing { metadata, tensors })
}

fn opened<'a>(path: &Path, bytes: &'a [u8]) -> Result<(SafeTensors<'a>, HashMap<String, String>)> {
    let attempt = || {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        Ok((SafeTensors::deserialize(bytes)?, header.metadata().clone().unwrap_or_default()))
    };
    attempt().map_err(|error: SafeTensorError| {
        anyhow!(
            "cannot read '{}' as safetensors: {error}; the file is damaged or cut short, copy or download it again",
            path.display()
        )
    })
}

fn float_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

/// A contiguous f32 or f64 tensor on the CPU, which safetensors asks for its bytes.
struct Values {
    shape: Vec<usize>,
    dtype: Dtype,
    tensor: Tensor,
}

impl Values {
    fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let kind = tensor.kind();
        ensure!(
            matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16),
            "its type is {kind:?}; only float, half and bfloat16 fit into f32"
        );
        Self::as_kind(tensor, Kind::Float, Dtype::F32)
    }

    /// Takes a tensor of f32 or f64 unchanged, and refuses other types.
    fn exact(tensor: &Tensor) -> Result<Self> {
        match tensor.kind() {
            Kind::Float => Self::as_kind(tensor, Kind::Float, Dtype::F32),
            Kind::Double => Self::as_kind(tensor, Kind::Double, Dtype::F64),
            other => bail!("its type is {other:?}; float and double are written"),
        }
    }

    fn as_kind(tensor: &Tensor, kind: Kind, dtype: Dtype) -> Result<Self> {
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        let tensor = tensor
            .detach()
            .f_to(Device::Cpu)
            .and_then(|tensor| tensor.f_totype(kind))
            .and_then(|tensor| tensor.f_contiguous())
            .map_err(|error| anyhow!("{}", one_line(&error)))?;
        Ok(Self { shape, dtype, tensor })
    }
}

impl View for Values {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0u8; self.data_len()];
        self.tensor.f_copy_data_u8(&mut bytes, self.tensor.numel()).expect("the buffer fits the type");
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * if self.dtype == Dtype::F64 { 8 } else { 4 }
    }
}

fn metadata_of(networks: &[(&str, &ScriptModule)]) -> HashMap<String, String> {
    let mut metadata = HashMap::from([("format".to_owned(), "rootgan".to_owned())]);
    for (prefix, script) in networks {
        if let Some(description) = script.description() {
            if let Ok(Value::Object(sizes)) = serde_json::from_str(&description) {
                let sizes = sizes.iter().filter(|(name, _)| !matches!(name.as_str(), "kind" | "contract"));
                for (name, value) in sizes {
                    metadata.entry(name.clone()).or_insert_with(|| as_python_prints(value));
                }
            }
            metadata.insert(format!("{prefix}description"), description);
        }
        metadata.insert(format!("{prefix}provenance"), script.provenance().to_string());
    }
    metadata
}

fn as_python_prints(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
