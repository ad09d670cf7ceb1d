//! Keeps the layers: a file under `src/` imports only from its own layer or from lower ones, and what
//! needs no tensors stays free of libtorch; and nothing that a training phase is made of waits for the
//! device; and one name stands for one type. Weak for macros of ours that hide a path: there are none.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The modules from the lowest layer to the highest; `lib` and `main` are the crate's own files.
const LAYERS: [&[&str]; 11] = [
    &["system", "files"],
    &["tensor"],
    &["draw"],
    &["model", "data", "augment"],
    &["train", "metrics", "latent"],
    &["config"],
    &["run"],
    &["source"],
    &["web"],
    &["cli"],
    &["lib", "main"],
];

/// Modules that must not name libtorch: they are about files and bytes.
const WITHOUT_TENSORS: [&str; 4] = ["system", "files", "draw", "data"];
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
    let found = messages("src/draw/grid.rs", "//! Grids.\n\nuse crate::model::Generator;\n");
    assert_eq!(
        found,
        [
            "src/draw/grid.rs:3: 'draw' (layer 3: draw) imports from 'model' (layer 4: model, data, augment), a higher layer; \
          move what both need down, or the caller up"
        ]
    );
}

#[test]
fn every_way_of_writing_a_path_is_caught() {
    let upwards = |line, to: &str| (line, Fault::Upwards("model".into(), to.into()));
    for (source, expected) in [
        ("use crate::train::run;", vec![upwards(1, "train")]),
        (
            "use crate::{files::atomic,\n    train::{run, step},\n    config};",
            vec![upwards(2, "train"), upwards(3, "config")],
        ),
        ("fn f() {\n    g(crate::cli::dump::run);\n}", vec![upwards(2, "cli")]),
        ("fn f() {\n    assert!(1 == crate::run::K);\n}", vec![upwards(2, "run")]),
        ("use super::super::config;", vec![upwards(1, "config")]),
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
        "use crate::data::Dataset; use crate::{files, tensor::{seed, device}};",
    ] {
        assert_eq!(messages("src/model/pair.rs", source), Vec::<String>::new(), "{source}");
    }
    assert_eq!(messages("src/draw.rs", "mod tests {\n    use super::train;\n}"), Vec::<String>::new());
    assert_eq!(messages("src/draw.rs", "use super::train;").len(), 1);
    assert_eq!(messages("src/main.rs", "use rootgan::cli::Cli;"), Vec::<String>::new());
}

#[test]
fn files_and_bytes_stay_free_of_tensors() {
    let found = messages("src/data/loader.rs", "use rayon::prelude::*;\nuse tch::Tensor;\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("src/data/loader.rs:2: 'data' (layer 4: model, data, augment) uses tch;"),
        "{found:?}"
    );
    assert_eq!(messages("src/files/npz.rs", "fn f() -> tch::Kind { loop {} }").len(), 1);
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
const WITHOUT_WAITING: [&str; 15] = [
    "src/augment",
    "src/model/flat.rs",
    "src/tensor/labels.rs",
    "src/train/ada.rs",
    "src/train/draw.rs",
    "src/train/ema.rs",
    "src/train/iteration.rs",
    "src/train/networks.rs",
    "src/train/objective",
    "src/train/optimizer.rs",
    "src/train/phases.rs",
    "src/train/regularizers.rs",
    "src/train/retry.rs",
    "src/train/rounds.rs",
    "src/train/trainer.rs",
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
/// A draw's table on the CPU; the augmentation's adjustment after an iteration; what a checkpoint is made of; the failures of other processes, on
/// the CPU.
const MAY_WAIT: [(&str, &str); 4] = [
    ("src/augment/draws.rs", "double_value"),
    ("src/train/ada.rs", "double_value"),
    ("src/train/optimizer.rs", "double_value"),
    ("src/train/rounds.rs", "int64_value"),
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

/// Files of one folder may use each other, but not in a circle: then none of them can be read first.
///
/// A file uses another one where a path names its module (`super::store::x`, `crate::run::journal`). A folder's `mod.rs`
/// lists the modules of its folder and gives their names out, so what goes through it alone (`use super::{A, B}`) counts as
/// a use of the file that defines the name, if one in the folder does.
fn uses(file: &Path, source: &str, all: &Modules) -> Vec<PathBuf> {
    let tokens: TokenStream =
        source.parse().unwrap_or_else(|error| panic!("cannot read {} as Rust: {error}", file.display()));
    let mut paths = Vec::new();
    collect_paths(tokens, &module_path(file), &mut paths);
    let mut used: Vec<PathBuf> = paths.iter().filter_map(|path| all.defining(path)).collect();
    used.retain(|other| other != file);
    used.sort();
    used.dedup();
    used
}

/// The files by their places in the module tree, and the public names that each one defines.
struct Modules {
    files: std::collections::BTreeMap<Vec<String>, PathBuf>,
    names: std::collections::BTreeMap<(Vec<String>, String), PathBuf>,
}

impl Modules {
    fn from_sources(sources: &[(PathBuf, String)]) -> Self {
        let (mut files, mut names) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        for (file, source) in sources {
            let place = module_path(file);
            for name in defined(source.parse().expect("the source is Rust")) {
                // Also through the folder, whose mod.rs may give it out.
                let folder = place[..place.len().saturating_sub(1)].to_vec();
                names.entry((folder, name.clone())).or_insert_with(|| file.clone());
                names.insert((place.clone(), name), file.clone());
            }
            files.insert(place, file.clone());
        }
        Self { files, names }
    }

    /// The file that a path leads to, by its longest part that is a module or a name in one.
    fn defining(&self, path: &[String]) -> Option<PathBuf> {
        (1..=path.len()).rev().find_map(|length| {
            let (module, name) = (&path[..length - 1], &path[length - 1]);
            let by_name = self.names.get(&(module.to_vec(), name.clone()));
            // A whole folder is no file, but for what its mod.rs defines.
            let by_module = self.files.get(&path[..length]).filter(|file| !file.ends_with("mod.rs"));
            by_name.or(by_module).cloned()
        })
    }
}

/// The names of types, functions, constants and traits at the top of a file.
fn defined(stream: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let kinds = ["struct", "enum", "trait", "fn", "const", "static", "type"];
    let is_kind = |token: &TokenTree| kinds.iter().any(|kind| is_ident(token, kind));
    tokens.windows(2).filter(|pair| is_kind(&pair[0])).map(|pair| pair[1].to_string()).collect()
}

/// Every path through the crate in `stream`, from its root, tests left out.
fn collect_paths(stream: TokenStream, place: &[String], paths: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut next = 0;
    while next < tokens.len() {
        let here = next;
        next += 1;
        match &tokens[here] {
            TokenTree::Group(group) => {
                let of_tests = here >= 2 && is_ident(&tokens[here - 2], "mod") && is_ident(&tokens[here - 1], "tests");
                if !of_tests {
                    collect_paths(group.stream(), place, paths);
                }
            }
            TokenTree::Ident(ident) if ["crate", "super", "self"].iter().any(|head| ident == head) => {
                let mut from = if ident == "crate" { Vec::new() } else { place.to_vec() };
                if ident == "super" {
                    from.pop();
                }
                let mut rest = &tokens[next..];
                while is_path_separator(rest) && rest.get(2).is_some_and(|token| is_ident(token, "super")) {
                    from.pop();
                    rest = &rest[3..];
                }
                if is_path_separator(rest) {
                    branches(&rest[2..], from, paths);
                }
            }
            _ => {}
        }
    }
}

/// The paths that begin with `from` and go on with `rest`: `a::{b, c::d}` are two.
fn branches(rest: &[TokenTree], mut from: Vec<String>, paths: &mut Vec<Vec<String>>) {
    match rest.first() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            for part in inside.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                branches(part, from.clone(), paths);
            }
        }
        Some(TokenTree::Ident(name)) => {
            if name != "self" {
                from.push(name.to_string());
            }
            match is_path_separator(&rest[1..]) {
                true => branches(&rest[3..], from, paths),
                false => paths.push(from),
            }
        }
        _ => {}
    }
}

/// A circle of files in which each uses the next, if there is one.
fn circle(uses: &std::collections::BTreeMap<PathBuf, Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
    fn visit(
        file: &Path,
        uses: &std::collections::BTreeMap<PathBuf, Vec<PathBuf>>,
        path: &mut Vec<PathBuf>,
        done: &mut std::collections::BTreeSet<PathBuf>,
    ) -> Option<Vec<PathBuf>> {
        if let Some(first) = path.iter().position(|visited| visited == file) {
            return Some(path[first..].to_vec());
        }
        if done.contains(file) {
            return None;
        }
        path.push(file.to_owned());
        let found = uses.get(file).into_iter().flatten().find_map(|next| visit(next, uses, path, done));
        path.pop();
        done.insert(file.to_owned());
        found
    }
    let mut done = std::collections::BTreeSet::new();
    uses.keys().find_map(|file| visit(file, uses, &mut Vec::new(), &mut done))
}

fn circle_in(sources: &[(PathBuf, String)]) -> Option<Vec<PathBuf>> {
    let modules = Modules::from_sources(sources);
    circle(&sources.iter().map(|(file, source)| (file.clone(), uses(file, source, &modules))).collect())
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = walkdir::WalkDir::new(root.join("src"))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("src can be listed"));
    let files = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
    let read = |path: &Path| {
        let below = path.strip_prefix(root).expect("it lies below the root").to_owned();
        (below, std::fs::read_to_string(path).expect("a source can be read"))
    };
    files.map(|entry| read(entry.path())).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let found = circle_in(&sources());
    assert!(found.is_none(), "these files use each other in a circle; move what both need into a third: {found:?}");
}

#[test]
fn a_circle_is_found_however_its_paths_are_written() {
    let file = |path: &str, source: &str| (PathBuf::from(path), source.to_owned());
    let a = || file("src/run/a.rs", "use super::b::B;\npub struct A;");
    let mod_file = || file("src/run/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;");
    for back in ["use super::a::A;", "use crate::run::{A, c::C};", "fn f() { super::a::g() }", "use super::A;"] {
        let found = circle_in(&[a(), mod_file(), file("src/run/b.rs", &format!("{back}\npub struct B;"))]);
        assert!(found.is_some_and(|circle| circle.len() == 2), "{back}");
    }
    for harmless in
        ["use crate::data::A;", "mod tests { use super::super::a::A; }", "// super::a::A", "use self::a::X;"]
    {
        let found = circle_in(&[a(), mod_file(), file("src/run/b.rs", &format!("{harmless}\npub struct B;"))]);
        assert_eq!(found, None, "{harmless}");
    }
}

/// An iteration works for runs, benchmarks, tests and other processes alike: it has no command line, no paths, no files.
#[test]
fn training_knows_no_command_line_path_or_file() {
    for (file, source) in sources() {
        if !file.starts_with("src/train") {
            continue;
        }
        let tokens: TokenStream = source.parse().unwrap();
        let text = tokens.to_string();
        for word in ["clap", "std :: path", "std :: fs", "crate :: files", "PathBuf"] {
            assert!(!text.contains(word), "{}: {word} belongs into run/ or cli/", file.display());
        }
    }
}

/// Lists the types that a file declares, public or not, outside of inner modules and functions.
fn type_names(source: &str) -> Vec<String> {
    let tokens: Vec<TokenTree> = source.parse::<TokenStream>().expect("it compiles").into_iter().collect();
    let declares =
        |token: &TokenTree| ["struct", "enum", "trait", "union", "type"].iter().any(|word| is_ident(token, word));
    let names = tokens.windows(2).filter(|pair| declares(&pair[0])).map(|pair| pair[1].to_string());
    names.collect()
}

/// One name means one thing in the whole program, so that a reader who finds it knows what it is.
#[test]
fn no_two_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (file, source) in sources() {
        type_names(&source).into_iter().for_each(|name| places.entry(name).or_default().push(file.clone()));
    }
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "these names stand for several types; rename all but one of each: {places:?}");
    assert_eq!(type_names("pub struct A; enum B {} impl C for A { type D = u8; }\ntype E = A;"), ["A", "B", "E"]);
}
