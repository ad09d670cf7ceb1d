//! Keeps the layers: a file under `src/` imports only from its own layer or from lower ones, and what
//! needs no tensors stays free of libtorch; and nothing that a training phase is made of waits for the
//! device. Weak for macros of ours that hide a path: there are none.

use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The modules from the lowest layer to the highest; `lib` and `main` are the crate's own files.
const LAYERS: [&[&str]; 7] = [
    &["tensor", "io", "ui", "signals"],
    &["model", "data"],
    &["loss", "regularize", "augment", "ema", "optimizer", "metrics"],
    &["config"],
    &["train"],
    &["commands"],
    &["cli", "lib", "main"],
];

/// Modules that must not name libtorch: they are about files and bytes.
const WITHOUT_TENSORS: [&str; 2] = ["io", "data"];
const TENSOR_CRATES: [&str; 2] = ["tch", "torch_sys"];

#[derive(Debug, PartialEq)]
enum Fault {
    /// The module is in no layer.
    Unplaced(String),
    /// (importing module, imported module).
    Upwards(String, String),
    /// (module, crate).
    Tensors(String, String),
}

/// A fault and where it is.
#[derive(Debug, PartialEq)]
struct Finding {
    file: PathBuf,
    line: usize,
    fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        match &self.fault {
            Fault::Unplaced(module) => {
                write!(f, "'{module}' is in no layer; add it to LAYERS in tests/layering.rs")
            }
            Fault::Upwards(from, to) => write!(
                f,
                "'{from}' ({}) imports from '{to}' ({}), a higher layer; move what both need down, or the caller up",
                layer_text(from),
                layer_text(to)
            ),
            Fault::Tensors(module, name) => {
                write!(f, "'{module}' ({}) uses {name}; tensors belong into tensor/ or above", layer_text(module))
            }
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn layer_text(module: &str) -> String {
    layer_of(module).map_or("no layer".into(), |i| format!("layer {}: {}", i + 1, LAYERS[i].join(", ")))
}

/// A file's place in the module tree: `src/a/b.rs` and `src/a/b/mod.rs` are `[a, b]`, `src/lib.rs` is `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let mut parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let at_root = parts.len() == 1;
    if parts.last().is_some_and(|last| last == "mod" || (at_root && (last == "lib" || last == "main"))) {
        parts.pop();
    }
    parts
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is wrong in one file; `file` is relative to the crate.
fn check(file: &Path, source: &str) -> Vec<Finding> {
    let path = module_path(file);
    let module = path.first().cloned().unwrap_or_else(|| stem(file));
    let at = |line, fault| Finding { file: file.to_path_buf(), line, fault };
    let Some(own) = layer_of(&module) else {
        return vec![at(1, Fault::Unplaced(module))];
    };
    let tokens: TokenStream =
        source.parse().unwrap_or_else(|error| panic!("cannot read {} as Rust: {error}", file.display()));
    let mut names = Names::default();
    names.collect(tokens, path.len());

    let upwards = names.imported.into_iter().filter_map(|(line, name)| match layer_of(&name) {
        None => Some(at(line, Fault::Unplaced(name))),
        Some(layer) if layer > own => Some(at(line, Fault::Upwards(module.clone(), name))),
        Some(_) => None,
    });
    let forbidden = names.tensor_crates.into_iter().filter(|_| WITHOUT_TENSORS.contains(&module.as_str()));
    let tensors = forbidden.map(|(line, name)| at(line, Fault::Tensors(module.clone(), name)));
    let mut findings: Vec<Finding> = upwards.chain(tensors).collect();
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// Names with their lines.
#[derive(Default)]
struct Names {
    /// Modules directly under the crate's root that a path goes through.
    imported: Vec<(usize, String)>,
    tensor_crates: Vec<(usize, String)>,
}

impl Names {
    /// Walks over all tokens, inside macros too; `depth` is how many `super` lead to the crate's root.
    fn collect(&mut self, stream: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            let here = next;
            next += 1;
            match &tokens[here] {
                TokenTree::Group(group) => {
                    let inline_module = here >= 2 && is_ident(&tokens[here - 2], "mod");
                    self.collect(group.stream(), depth + usize::from(inline_module));
                }
                TokenTree::Ident(ident) if TENSOR_CRATES.iter().any(|name| ident == name) => {
                    self.tensor_crates.push((ident.span().start().line, ident.to_string()));
                }
                TokenTree::Ident(ident) if ident == "crate" && is_path_separator(&tokens[here + 1..]) => {
                    self.heads(&tokens[here + 3..]);
                }
                TokenTree::Ident(ident) if ident == "super" => {
                    let mut supers = 1;
                    while is_path_separator(&tokens[next..])
                        && tokens.get(next + 2).is_some_and(|t| is_ident(t, "super"))
                    {
                        supers += 1;
                        next += 3;
                    }
                    if supers == depth && is_path_separator(&tokens[next..]) {
                        self.heads(&tokens[next + 2..]);
                    }
                }
                _ => {}
            }
        }
    }

    /// The first names after the crate's root: `a` of `a::b`, `a` and `b` of `{a::x, b}`.
    fn heads(&mut self, rest: &[TokenTree]) {
        match rest.first() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inside.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                    self.heads(part);
                }
            }
            Some(TokenTree::Group(_)) | None => {}
            Some(token) => self.imported.push((token.span().start().line, token.to_string())),
        }
    }
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let colon = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
    matches!(tokens, [first, second, ..] if colon(first) && colon(second))
}

#[test]
fn no_file_imports_from_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    let mut findings = Vec::new();
    for entry in walkdir::WalkDir::new(root.join("src")).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(entry.path()).unwrap();
            findings.extend(check(entry.path().strip_prefix(root).unwrap(), &source));
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} files found under src/: is this test looking in the right place?");
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(list.is_empty(), "{} imports break the layers:\n{}", list.len(), list.join("\n"));
}

fn messages(file: &str, source: &str) -> Vec<String> {
    check(Path::new(file), source).iter().map(Finding::to_string).collect()
}

#[test]
fn a_wrong_import_is_named_with_file_line_and_both_layers() {
    let found = messages("src/io/grid.rs", "//! Grids.\n\nuse crate::model::Generator;\n");
    assert_eq!(
        found,
        [
            "src/io/grid.rs:3: 'io' (layer 1: tensor, io, ui, signals) imports from 'model' (layer 2: model, data), a higher \
          layer; move what both need down, or the caller up"
        ]
    );
}

#[test]
fn every_way_of_writing_a_path_is_caught() {
    let upwards = |line, to: &str| (line, Fault::Upwards("model".into(), to.into()));
    for (source, expected) in [
        ("use crate::train::run;", vec![upwards(1, "train")]),
        (
            "use crate::{io::atomic,\n    train::{run, step},\n    config};",
            vec![upwards(2, "train"), upwards(3, "config")],
        ),
        ("fn f() {\n    g(crate::commands::dump::run);\n}", vec![upwards(2, "commands")]),
        ("fn f() {\n    assert!(1 == crate::loss::K);\n}", vec![upwards(2, "loss")]),
        ("use super::super::ema;", vec![upwards(1, "ema")]),
        ("mod tests {\n    use super::super::super::cli::Cli;\n}", vec![upwards(2, "cli")]),
    ] {
        let found: Vec<_> =
            check(Path::new("src/model/pair.rs"), source).into_iter().map(|f| (f.line, f.fault)).collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_let_pass() {
    for source in [
        "// use crate::train::run;\n/* crate::train */\n/// [`crate::train::run`]\nfn f() {}",
        "const TEXT: &str = \"crate::train::run\"; const RAW: &str = r#\"crate::train\"#;",
        "pub(crate) fn f<'a>(x: &'a str) -> char { 'c' }",
        "use super::contract::CONTRACT_VERSION; mod tests { use super::*; }",
        "use crate::data::Dataset; use crate::{io, tensor::{seed, device}};",
    ] {
        assert_eq!(messages("src/model/pair.rs", source), Vec::<String>::new(), "{source}");
    }
    assert_eq!(messages("src/loss.rs", "mod tests {\n    use super::train;\n}"), Vec::<String>::new());
    assert_eq!(messages("src/loss.rs", "use super::train;").len(), 1);
    assert_eq!(messages("src/main.rs", "use rootgan::cli::Cli;"), Vec::<String>::new());
}

#[test]
fn files_and_bytes_stay_free_of_tensors() {
    let found = messages("src/data/loader.rs", "use rayon::prelude::*;\nuse tch::Tensor;\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/data/loader.rs:2: 'data' (layer 2: model, data) uses tch;"), "{found:?}");
    assert_eq!(messages("src/io/npz.rs", "fn f() -> tch::Kind { loop {} }").len(), 1);
    assert_eq!(messages("src/model/flat.rs", "use tch::Tensor;"), Vec::<String>::new());
}

#[test]
fn a_module_in_no_layer_is_named() {
    let found = messages("src/helpers.rs", "fn f() {}");
    assert_eq!(found, ["src/helpers.rs:1: 'helpers' is in no layer; add it to LAYERS in tests/layering.rs"]);
    assert_eq!(messages("src/model/pair.rs", "use crate::helpers::f;").len(), 1);
}

/// What a training phase is made of: on a GPU the host prepares the next work while the device computes, unless it asks
/// for a number or copies in a way that waits (`tensor::device::upload` does not). What TorchScript does is not seen here.
const WITHOUT_WAITING: [&str; 11] = [
    "src/augment",
    "src/ema.rs",
    "src/loss.rs",
    "src/model/flat.rs",
    "src/optimizer.rs",
    "src/regularize.rs",
    "src/tensor/labels.rs",
    "src/train/draw.rs",
    "src/train/networks.rs",
    "src/train/phases.rs",
    "src/train/step.rs",
];
const WAITING: [&str; 17] = [
    "all_finite",
    "allclose",
    "bytes",
    "check_finite",
    "copy_data",
    "copy_data_u8",
    "double_value",
    "equal",
    "f_double_value",
    "f_int64_value",
    "int64_value",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "synchronize",
    "to_device",
    "try_from",
];
/// A draw's table on the CPU; what a checkpoint is made of; timing, and the augmentation's adjustment after an iteration.
const MAY_WAIT: [(&str, &str); 4] = [
    ("src/augment/draws.rs", "double_value"),
    ("src/optimizer.rs", "double_value"),
    ("src/train/step.rs", "synchronize"),
    ("src/train/step.rs", "double_value"),
];

/// Waiting calls outside of the tests, with their lines.
fn waiting(stream: TokenStream) -> Vec<(usize, String)> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let of_tests =
        |index: usize| index >= 2 && is_ident(&tokens[index - 2], "mod") && is_ident(&tokens[index - 1], "tests");
    let found = tokens.iter().enumerate().flat_map(|(index, token)| match token {
        TokenTree::Group(group) if !of_tests(index) => waiting(group.stream()),
        TokenTree::Ident(ident) if WAITING.iter().any(|name| ident == name) => {
            vec![(ident.span().start().line, ident.to_string())]
        }
        _ => Vec::new(),
    });
    found.collect()
}

#[test]
fn nothing_in_a_phase_waits_for_the_device() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut excused = Vec::new();
    for place in WITHOUT_WAITING {
        for entry in walkdir::WalkDir::new(root.join(place)).sort_by_file_name() {
            let entry = entry.unwrap();
            if entry.path().extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let file = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
            let source = std::fs::read_to_string(entry.path()).unwrap();
            for (line, name) in waiting(source.parse().unwrap()) {
                let excuse = MAY_WAIT.iter().find(|excuse| **excuse == (file, name.as_str()));
                let excuse =
                    excuse.unwrap_or_else(|| panic!("{file}:{line}: {name} waits for the device inside a phase"));
                excused.push(*excuse);
            }
        }
    }
    assert_eq!(excused, MAY_WAIT, "excuses that nothing needs, or needed twice");
}

#[test]
fn waiting_is_seen_in_functions_and_macros_and_not_in_tests() {
    let source = "fn f() { g!(x.double_value(&[])); }\nmod tests { fn g() { x.int64_value(&[]); } }\nfn h() { if all_finite(&x) {} }";
    assert_eq!(waiting(source.parse().unwrap()), [(1, "double_value".to_owned()), (3, "all_finite".to_owned())]);
}
