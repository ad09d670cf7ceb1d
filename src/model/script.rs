//! One TorchScript file as a module: loads it once it was found harmless, lists its parameters, calls its methods, and
//! saves it again.

use super::module::Module;
use super::safety::{self, Contents, Refusal};
use super::{FileKind, Precision, provenance};
use crate::files::atomic::write_atomically;
use crate::files::bounded::read_bytes;
use crate::files::memory_file::MemoryFile;
use crate::tensor::one_line;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Device, IValue, Tensor};

/// The number of characters that are shown of what libtorch says.
const MESSAGE_CHARS: usize = 200;

/// A named tensor of a module. It is an alias, so writing to it changes the module.
pub struct Parameter {
    /// Dotted name, as in `synthesis.b4.conv1.weight`.
    pub name: String,
    /// The tensor, which aliases the module's own.
    pub tensor: Tensor,
    /// Whether it is trained (true), or kept with the weights like `w_avg` and `noise_const` (false).
    pub trainable: bool,
    /// Whether it could be trained and is left alone in this run.
    pub frozen: bool,
}

/// A loaded TorchScript module with its parameters.
pub struct ScriptModule {
    module: Module,
    /// The file that it was loaded from.
    pub path: PathBuf,
    /// The file's length when it was loaded.
    file_bytes: u64,
    /// The device of its parameters.
    pub device: Device,
    /// All parameters in the module's own order.
    pub parameters: Vec<Parameter>,
    /// The result of `describe`, where there is one.
    description: Option<String>,
    /// The result of `get_provenance`, where it is plain without running it or was set since.
    provenance: RefCell<Option<String>>,
}

impl ScriptModule {
    /// Loads a TorchScript file onto a device, if its code and its pickles are harmless ([`safety`]).
    ///
    /// # Errors
    /// The file is missing, libtorch cannot read it as TorchScript, it does more than networks need, or its `describe`
    /// fails.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let shown = path.display();
        let (bytes, contents) = read_contents(path)?;
        if let Some(refusal) = contents.refusal().filter(|_| !safety::are_files_trusted()) {
            return Err(refused(path, &refusal));
        }
        let file_bytes = bytes.len() as u64;
        let module = load_bytes(bytes, device).map_err(|error| {
            anyhow!(
                "cannot load '{shown}' as TorchScript: {}; copy or export it again (weights/README.md)",
                shorten(&one_line(&error))
            )
        })?;
        let parameters = module
            .named_parameters()
            .map_err(|error| anyhow!("cannot list the parameters of '{shown}': {}; export it again", one_line(&error)))?
            .into_iter()
            .map(|(name, tensor)| Parameter { name, trainable: tensor.requires_grad(), tensor, frozen: false })
            .collect();
        let provenance = RefCell::new(contents.text("get_provenance").map(str::to_owned));
        let path = path.to_path_buf();
        let mut script = Self { module, path, device, file_bytes, parameters, description: None, provenance };
        script.description = match contents.text("describe") {
            Some(text) => Some(text.to_owned()),
            None => script.string_method("describe")?,
        };
        Ok(script)
    }

    /// Returns what the module says of itself, as JSON; None where it has no `describe`.
    pub fn description(&self) -> Option<String> {
        self.description.clone()
    }

    /// Calls a method that returns one tensor.
    ///
    /// # Errors
    /// The script raises an error, which is given on one line with the name of the file, or returns something other
    /// than one tensor.
    pub fn tensor_method(&self, method: &str, arguments: &[IValue]) -> Result<Tensor> {
        match self.module.call(method, arguments) {
            Ok(IValue::Tensor(tensor)) => Ok(tensor),
            Ok(_) => bail!(
                "'{}': {method} returned something other than one tensor; export it again (weights/README.md)",
                self.path.display()
            ),
            Err(error) => bail!("'{}': {method} failed: {}", self.path.display(), shorten(&one_line(&error))),
        }
    }

    /// Calls a method without arguments that returns a string; None where there is no such method.
    ///
    /// # Errors
    /// The method fails, or returns no text.
    fn string_method(&self, method: &str) -> Result<Option<String>> {
        if !self.has_method(method) {
            return Ok(None);
        }
        let shown = self.path.display();
        let remedy = "mend the method or leave it out, then export it again (weights/README.md)";
        match safety::bounded(&shown.to_string(), || self.module.call(method, &[])) {
            Ok(IValue::String(text)) => Ok(Some(text)),
            Ok(_) => bail!("'{shown}': {method}() returns no text; {remedy}"),
            Err(error) => bail!("'{shown}': {method}() failed: {}; {remedy}", shorten(&one_line(&error))),
        }
    }

    /// Whether the module has a method of this name.
    pub fn has_method(&self, name: &str) -> bool {
        !self.refusal(name).contains(&format!("Method '{name}' is not defined"))
    }

    /// Returns the declaration of a method, as in `forward(__torch__.D self, Tensor x) -> Tensor`, where there is one.
    pub fn declaration(&self, method: &str) -> Option<String> {
        Some(self.refusal(method).split_once("Declaration: ")?.1.to_owned())
    }

    /// Returns libtorch's refusal of a call with more arguments than any method takes, because its C interface cannot
    /// list methods. Nothing is run: the refusal holds the method's declaration, or says that there is no such method.
    fn refusal(&self, method: &str) -> String {
        let too_many: Vec<IValue> = std::iter::repeat_with(|| IValue::None).take(64).collect();
        self.module.call(method, &too_many).err().map_or_else(String::new, |error| one_line(&error))
    }

    /// Makes the highest resolutions compute in another type from the next call on.
    ///
    /// # Errors
    /// The module cannot compute in another type.
    pub fn set_precision(&self, precision: Precision) -> Result<()> {
        let arguments = [IValue::String(precision.kind.name().to_owned()), IValue::Int(precision.resolutions as i64)];
        self.module.call("set_precision", &arguments).map(|_| ()).map_err(|error| {
            anyhow!("'{}' cannot compute in {}: {}", self.path.display(), precision.kind.name(), one_line(&error))
        })
    }

    /// Returns the provenance record stored in the module, see [`provenance`]; `{}` where there is none.
    pub fn provenance(&self) -> serde_json::Value {
        let known = self.provenance.borrow().clone();
        match known.map_or_else(|| self.string_method("get_provenance"), |text| Ok(Some(text))) {
            Ok(text) => provenance::parsed(&text.unwrap_or_default()),
            Err(error) => serde_json::json!({ "source": format!("{error:#}") }),
        }
    }

    /// Replaces the provenance record.
    ///
    /// # Errors
    /// The module has no place for a record, as those made elsewhere.
    pub fn set_provenance(&self, record: &serde_json::Value) -> Result<()> {
        let text = record.to_string();
        self.module
            .call("set_provenance", &[IValue::String(text.clone())])
            .map(|_| _ = self.provenance.replace(Some(text)))
            .map_err(|error| anyhow!("'{}': set_provenance failed: {}", self.path.display(), one_line(&error)))
    }

    /// Leaves the parameters whose names `chosen` accepts untrained. Saved files do not know of it.
    pub fn freeze(&mut self, chosen: impl Fn(&str) -> bool) {
        for parameter in self.parameters.iter_mut().filter(|p| p.trainable && chosen(&p.name)) {
            (parameter.trainable, parameter.frozen) = (false, true);
            let _ = parameter.tensor.set_requires_grad(false);
        }
    }

    /// Returns the number of values over all parameters: (trained, all).
    pub fn parameter_counts(&self) -> (usize, usize) {
        let count = |trained_only: bool| {
            let chosen = self.parameters.iter().filter(|p| p.trainable || !trained_only);
            chosen.map(|p| p.tensor.numel()).sum()
        };
        (count(true), count(false))
    }

    /// Saves the module with its present weights; the file appears whole or not at all.
    ///
    /// Parameters are saved as tensors of their own on the CPU: users of the file find no shared memory, and need no
    /// GPU.
    ///
    /// # Errors
    /// libtorch cannot save the module, or the file cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let views: Vec<Tensor> = self.parameters.iter().map(|p| p.tensor.detach()).collect();
        for (parameter, view) in self.parameters.iter_mut().zip(&views) {
            parameter.tensor.set_data(&view.to_device(Device::Cpu).copy());
            if parameter.frozen {
                let _ = parameter.tensor.set_requires_grad(true);
            }
        }
        let saved = self.write(path);
        for (parameter, view) in self.parameters.iter_mut().zip(&views) {
            parameter.tensor.set_data(view);
            if parameter.frozen {
                let _ = parameter.tensor.set_requires_grad(false);
            }
        }
        saved.with_context(|| format!("cannot save the network to '{}'", path.display()))
    }

    /// Writes the file by way of memory: libtorch ends the whole program when the disk fills while it writes.
    fn write(&self, path: &Path) -> Result<()> {
        // This is the most that is written. Parameters count 8 bytes a value, as they may have had 16 bits in the file;
        // code and everything else come from the file that was loaded.
        let parameters = self.parameters.iter().map(|p| p.tensor.numel() as u64 * 8).sum::<u64>();
        let most = parameters + 2 * self.file_bytes + (1 << 20);
        let mut memory = MemoryFile::new(most)?;
        self.module.save(&memory.path()).map_err(|error| anyhow!("{}", one_line(&error)))?;
        write_atomically(path, |file| {
            std::io::copy(memory.from_start()?, file).context("is the disk full?")?;
            Ok(())
        })
    }
}

/// Returns the bytes of a TorchScript file, and what it holds; nothing of it is run.
///
/// # Errors
/// The file is missing, of another kind or damaged, or has a form that could corrupt memory or hides what it does.
pub fn read_contents(path: &Path) -> Result<(Vec<u8>, Contents)> {
    let shown = path.display();
    ensure!(path.exists(), "cannot load '{shown}': no such file; check the path");
    ensure!(!path.is_dir(), "cannot load '{shown}': it is a folder; pass a TorchScript file (.pt)");
    ensure!(path.is_file(), "cannot load '{shown}': it is a device or a pipe; pass a TorchScript file (.pt)");
    match FileKind::detect(path)? {
        FileKind::TorchScript => {}
        FileKind::Safetensors => bail!(
            "cannot load '{shown}' as TorchScript: it holds weights alone (safetensors); pass it as --from, which imports \
             it"
        ),
        FileKind::Checkpoint { what } => bail!(
            "cannot load '{shown}' as TorchScript: it is {what}; pass it as --from, which imports it (or rootgan import)"
        ),
        FileKind::Foreign { what, remedy } => bail!("cannot load '{shown}' as TorchScript: it is {what}; {remedy}"),
    }
    let bytes = read_bytes(path)?;
    let contents = Contents::read(&bytes).map_err(|refusal| refused(path, &refusal))?;
    Ok((bytes, contents))
}

/// libtorch gets the very bytes that were looked at, but for the places of its source, whatever happens to the file meanwhile.
fn load_bytes(mut bytes: Vec<u8>, device: Device) -> Result<Module, tch::TchError> {
    safety::hide_source_places(&mut bytes);
    let in_memory = || -> Result<MemoryFile> {
        let mut memory = MemoryFile::new(bytes.len() as u64)?;
        memory.from_start()?.write_all(&bytes)?;
        Ok(memory)
    };
    match in_memory() {
        Ok(memory) => {
            drop(bytes);
            Module::load(&memory.path(), device)
        }
        // A limit on the size of files (ulimit -f) holds for memory too; libtorch copies the bytes three times otherwise.
        Err(_) => Module::load_bytes(&bytes, device),
    }
}

fn refused(path: &Path, refusal: &Refusal) -> anyhow::Error {
    let shown = path.display();
    match refusal.is_damage {
        true => anyhow!("cannot load '{shown}': {refusal}; copy, download or export it again"),
        false => anyhow!(
            "'{shown}' is not loaded: {refusal}; nothing of it was run; pass --trust if you trust who made it, or, for a \
             StyleGAN2 generator, take its tensors alone with rootgan import"
        ),
    }
}

/// Cuts a message of libtorch to its beginning, which is the useful part.
fn shorten(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{} ...", &message[..end]),
        None => message.to_owned(),
    }
}
