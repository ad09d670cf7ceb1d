//! Decides whether a TorchScript file may be loaded. Such a file is a program, so its bytes are judged before libtorch
//! sees them.
//!
//! `archive` reads the zip, `lexer` and `code` what is defined; `judge` judges what is called, `casts` what is said of types;
//! `types` reads the declarations of classes, `pickle` and `value` the values; `operators.txt` lists what a file may call. Nothing of the file is run. What no reading of a text can
//! know, such as loops without end, is bounded where the file is run (`limits`).

mod archive;
mod casts;
mod code;
mod judge;
mod lexer;
mod limits;
mod operators;
mod pickle;
mod text;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use archive::Archive;
pub use archive::hide_source_places;
use code::Code;
pub use judge::Finding;
pub use limits::{bounded, told_when_long};
use types::{Returned, Type};
use value::Value;

/// The most bytes of code that are read; no network has more.
const MOST_CODE_BYTES: usize = 32 << 20;
/// Deepest nesting of objects whose tensors are listed.
const MOST_DEPTH: usize = 60;

unsafe extern "C" {
    fn rootgan_scripts_print_to_stderr();
}

static TRUSTED: AtomicBool = AtomicBool::new(false);

/// Lets files run whatever they want from now on, as `--trust` asks for. Pickles must still stay within their memory.
pub fn trust_files() {
    TRUSTED.store(true, Ordering::Relaxed);
    // SAFETY: the function takes nothing and throws nothing.
    unsafe { rootgan_scripts_print_to_stderr() };
}

/// Whether files may run whatever they want.
pub fn are_files_trusted() -> bool {
    TRUSTED.load(Ordering::Relaxed)
}

/// The reason why a file is not loaded: a clause that goes after its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The clause, as in `it has no 'data.pkl'`.
    pub what: String,
    /// Whether the file is damaged, so that copying it again may help.
    pub is_damage: bool,
}

impl Refusal {
    fn damage(what: String) -> Self {
        Self { what, is_damage: true }
    }

    fn unusual(what: String) -> Self {
        Self { what, is_damage: false }
    }

    fn in_entry(self, entry: &str) -> Self {
        Self { what: format!("{} ({entry})", self.what), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

/// A tensor that is a parameter or buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Dotted name, as in `synthesis.b4.conv1.weight`.
    pub name: String,
    /// The shape of the tensor.
    pub size: Vec<i64>,
    /// Whether it is trained.
    pub trainable: bool,
}

/// The contents of a TorchScript file, known without running any of it.
#[derive(Debug)]
pub struct Contents {
    /// The parts of its code that go beyond the allowed operators.
    pub findings: Vec<Finding>,
    /// The methods of the network: name, and declaration as in `forward(self, z: Tensor) -> Tensor`.
    pub methods: Vec<(String, String)>,
    /// The parameters and buffers of the network and its parts.
    pub tensors: Vec<StoredTensor>,
    /// The texts that methods without arguments return as they stand, such as `describe` and `get_provenance`.
    texts: BTreeMap<String, String>,
}

impl Contents {
    /// Reads a file and judges its archive, its code and its values.
    ///
    /// # Errors
    /// The file is damaged, could corrupt memory, or is written in a way that hides what it does. What it merely calls
    /// beyond the allowed operators is in `findings`.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let archive = Archive::read(bytes)?;
        let (code, findings) = match read_code(&archive) {
            Ok((code, findings)) => (Some(code), findings),
            Err(refusal) if are_files_trusted() && !refusal.is_damage => (None, Vec::new()),
            Err(refusal) => return Err(refusal),
        };
        // Trusted code may be of a kind that is not understood here; its objects are then not compared with it.
        let typed = code.as_ref().filter(|_| findings.is_empty() || !are_files_trusted());
        let root = pickle::run(&archive, "data", typed)?;
        pickle::run(&archive, "constants", typed)?;
        let names: Vec<String> = archive.names().map(str::to_owned).collect();
        for name in &names {
            // traced_inputs.pkl is not looked at: libtorch reads it only where shapes are to be restored, and writes
            // storages without their bytes into it.
            if name.ends_with(".debug_pkl") {
                pickle::run_plain(&archive, name)?;
            }
        }
        let mut contents = Self { findings, methods: Vec::new(), tensors: Vec::new(), texts: BTreeMap::new() };
        if let (Some(code), Value::Object(object)) = (&code, &root)
            && let Some(class) = code.classes.get(&*object.content.class)
        {
            contents.methods.clone_from(&class.methods);
            for (method, returned) in &class.returned {
                let text = match returned {
                    Returned::Text(text) => Some(text.clone()),
                    Returned::Attribute(name) => match root.attribute(name) {
                        Some(Value::Text(text)) => Some(text.to_string()),
                        _ => None,
                    },
                };
                contents.texts.extend(text.map(|text| (method.clone(), text)));
            }
            list_tensors(&root, code, "", 0, &mut contents.tensors);
        }
        Ok(contents)
    }

    /// Returns what a method without arguments returns, where that is plain from its code.
    pub fn text(&self, method: &str) -> Option<&str> {
        self.texts.get(method).map(String::as_str)
    }

    /// Whether the network has a method of this name.
    pub fn has_method(&self, name: &str) -> bool {
        self.methods.iter().any(|(own, _)| own == name)
    }

    /// Returns the clause about what the file does beyond what is allowed, if it does anything.
    pub fn refusal(&self) -> Option<Refusal> {
        let first = self.findings.first()?;
        let more = match self.findings.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(Refusal::unusual(match first.is_operator {
            true => format!(
                "its code calls {} ({}{more}), which is not among the operators that are known to be harmless",
                first.what, first.place
            ),
            false => format!("its code has {} ({}{more})", first.what, first.place),
        }))
    }
}

fn read_code(archive: &Archive) -> Result<(Code, Vec<Finding>), Refusal> {
    let mut files = BTreeMap::new();
    let mut total = 0;
    let names: Vec<&str> = archive.names().filter(|name| name.starts_with("code/") && name.ends_with(".py")).collect();
    for name in names {
        total += archive.length(name).unwrap_or(0);
        if total > MOST_CODE_BYTES {
            return Err(Refusal::unusual("it has more code than any network".into()));
        }
        let text = String::from_utf8(archive.content(name)?);
        let text = text.map_err(|_| Refusal::unusual(format!("its code is no text in UTF-8 ({name})")))?;
        files.insert(name.to_owned(), text);
    }
    judge::read(&files)
}

/// Lists parameters, and the other tensors of modules, in the order of their classes.
fn list_tensors(value: &Value, code: &Code, prefix: &str, depth: usize, found: &mut Vec<StoredTensor>) {
    let Value::Object(object) = value else { return };
    let Some(class) = code.classes.get(&*object.content.class).filter(|_| depth < MOST_DEPTH) else { return };
    for (name, kind) in class.attributes.iter().filter(|(_, kind)| *kind != Type::Final) {
        let full = format!("{prefix}{name}");
        match value.attribute(name) {
            Some(Value::Tensor(tensor)) => {
                let trainable = tensor.requires_grad && class.parameters.contains(name);
                found.push(StoredTensor { name: full, size: tensor.size.clone(), trainable });
            }
            Some(inner @ Value::Object(_)) if matches!(kind, Type::Class(_)) => {
                list_tensors(&inner, code, &format!("{full}."), depth + 1, found);
            }
            _ => {}
        }
    }
}
