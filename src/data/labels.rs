//! The classes of pictures: from `dataset.json`, as the StyleGAN tools write it, or from sub-folders.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::passed_over::LABEL_FILE;
use super::pictures::Pictures;
use unicode_normalization::UnicodeNormalization;

/// Number of classes that a summary names.
const NAMED: usize = 10;

/// Number of classes up to which [`Labels::chosen`] believes a file: each takes a counter.
const MOST_CLASSES: u32 = 1 << 20;

/// The labels to read where no networks say whether there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LabelChoice {
    /// Labels of dataset.json, if every picture has one there
    #[default]
    Auto,
    /// Labels of dataset.json, which has to name every picture
    Json,
    /// Sub-folders as classes; every picture has to be in one
    Folders,
    /// No labels
    None,
}

/// The classes of pictures, one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Class of each picture in their order, below `class_count`.
    pub classes: Vec<u32>,
    /// Number of classes, of which some may have no picture.
    pub class_count: u32,
    /// Where the classes come from.
    pub origin: LabelOrigin,
}

/// Where classes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelOrigin {
    /// The file `dataset.json`.
    File,
    /// The sub-folders, whose names are listed by class number.
    Folders(Vec<String>),
}

#[derive(Deserialize)]
struct LabelFile {
    labels: Option<Vec<(String, u32)>>,
}

impl Labels {
    /// Reads the classes of all pictures, for networks of `class_count` classes. `dataset.json` is asked first; without
    /// it every picture has to be in a sub-folder, and the folders' order is that of their numbers where all are
    /// numbers, otherwise that of their names. Folders that hold everything, as in a folder that was zipped whole, are
    /// stepped into.
    ///
    /// # Errors
    /// A broken file, one without labels, a picture that it does not name, pictures outside of sub-folders, or more
    /// classes than the networks have.
    pub fn from_pictures(pictures: &Pictures, class_count: u32) -> Result<Self> {
        let root = pictures.root().display();
        let (classes, origin) = match in_file(pictures)? {
            InFile::Classes(named) => (all_named(pictures, named)?, LabelOrigin::File),
            InFile::Null => bail!(
                "cannot tell the classes: {LABEL_FILE} in '{root}' says that the pictures have no labels; name the classes \
                 there, or remove it if the sub-folders are the classes"
            ),
            InFile::Missing => from_folders(pictures)?,
        };
        let highest = classes.iter().copied().max().unwrap_or(0);
        ensure!(
            highest < class_count,
            "cannot use the labels of '{root}': they go up to class {highest}, but the networks have the classes 0 to \
             {}; pass networks with as many classes (rootgan new --c-dim) or other labels",
            class_count.saturating_sub(1)
        );
        Ok(Self { classes, class_count, origin })
    }

    /// Whether pictures come with a file of labels that can be used.
    pub fn are_there(pictures: &Pictures) -> bool {
        in_file(pictures).is_ok_and(|found| matches!(found, InFile::Classes(_)))
    }

    /// Reads the classes of all pictures, as many as their numbers need; otherwise returns None and, where labels had
    /// to be left out, why.
    ///
    /// # Errors
    /// A broken file, or a picture without a label where labels are asked for.
    pub fn chosen(pictures: &Pictures, choice: LabelChoice) -> Result<(Option<Self>, Option<String>)> {
        let path = pictures.root().join(LABEL_FILE);
        let read = || in_file(pictures).context("no labels could be read; pass --labels none to do without");
        let (classes, origin) = match choice {
            LabelChoice::None => return Ok((None, None)),
            LabelChoice::Folders => from_folders(pictures)?,
            LabelChoice::Json => {
                let remedy = "pass --labels folders or none";
                let InFile::Classes(named) = read()? else {
                    bail!("there are no labels in '{}'; {remedy}", path.display());
                };
                (all_named(pictures, named)?, LabelOrigin::File)
            }
            LabelChoice::Auto => {
                let named = match read()? {
                    InFile::Classes(named) => named,
                    InFile::Null => return Ok((None, None)),
                    InFile::Missing => return Ok((None, unused_folders(pictures))),
                };
                match named.classes.iter().filter(|class| class.is_none()).count() {
                    0 => (named.classes.into_iter().flatten().collect(), LabelOrigin::File),
                    missing => {
                        let first = named.classes.iter().position(Option::is_none).unwrap_or_default();
                        let first = pictures.names()[first].display();
                        let nearest = named.nearest.map(|name| format!(" (the nearest that it has is '{name}')"));
                        let reason = format!(
                            "{missing} of {} pictures are not in {LABEL_FILE}, the first is '{first}'{}",
                            pictures.len(),
                            nearest.unwrap_or_default()
                        );
                        return Ok((None, Some(reason)));
                    }
                }
            }
        };
        let highest = classes.iter().copied().max().unwrap_or(0);
        ensure!(
            highest < MOST_CLASSES,
            "cannot use the labels of '{}': they go up to class {highest}; number the classes from 0, or pass --labels none",
            pictures.root().display()
        );
        Ok((Some(Self { classes, class_count: highest + 1, origin }), None))
    }

    /// Returns the number of pictures of each class, `class_count` numbers.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.class_count as usize];
        self.classes.iter().for_each(|&class| counts[class as usize] += 1);
        counts
    }

    /// Describes the classes in a line for the terminal: how many, from where, and how many pictures each.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let present: Vec<_> = counts.iter().enumerate().filter(|&(_, &count)| count > 0).collect();
        let name = |class: usize| match &self.origin {
            LabelOrigin::File => class.to_string(),
            LabelOrigin::Folders(names) => format!("{class} = {}", names[class]),
        };
        let listed = present.iter().take(NAMED).map(|&(class, count)| format!("{} ({count})", name(class)));
        let origin = if self.origin == LabelOrigin::File { LABEL_FILE } else { "sub-folders" };
        let more = if present.len() > NAMED { ", ..." } else { "" };
        let listed = listed.collect::<Vec<_>>().join(", ");
        format!("  {} of {} classes, from {origin}: {listed}{more}", present.len(), self.class_count)
    }

    /// Keeps the labels at these places only, in order.
    pub(super) fn keep(&mut self, places: &[usize]) {
        self.classes = places.iter().map(|&place| self.classes[place]).collect();
    }
}

/// The content of a label file, if there is one.
enum InFile {
    /// There is no label file.
    Missing,
    /// The file has `"labels": null`: the pictures have none.
    Null,
    /// The file names classes, of all pictures or of some.
    Classes(Named),
}

/// The classes that a label file names.
struct Named {
    /// The class of each picture, in the order of the pictures.
    classes: Vec<Option<u32>>,
    /// Name in the file that is most like the first picture that it does not name.
    nearest: Option<String>,
}

/// Reads `dataset.json` at the root, or in a folder that everything is in, as when a folder was zipped whole.
fn in_file(pictures: &Pictures) -> Result<InFile> {
    let folders = common_folders(pictures);
    let mut found = None;
    for folder in &folders {
        let name = folder.join(LABEL_FILE).to_string_lossy().into_owned();
        if let Some(bytes) = pictures.side_file(&name)? {
            found = Some((folder, name, bytes));
            break;
        }
    }
    let Some((folder, name, bytes)) = found else {
        return Ok(InFile::Missing);
    };
    let path = pictures.root().join(name);
    // PowerShell and Notepad put a mark of the encoding in front.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    ensure!(
        !text.starts_with(b"\xff\xfe") && !text.starts_with(b"\xfe\xff") && std::str::from_utf8(text).is_ok(),
        "cannot read the labels '{}': the text is not in UTF-8; save it in that encoding",
        path.display()
    );
    let file: LabelFile = serde_json::from_slice(text).with_context(|| {
        let form = r#"{"labels": [["folder/picture.png", 0], ...]} with whole numbers from 0"#;
        format!("cannot read the labels '{}'; the form is {form}", path.display())
    })?;
    let Some(labels) = file.labels else {
        return Ok(InFile::Null);
    };
    let mut by_name: HashMap<String, u32> = HashMap::with_capacity(labels.len());
    for (name, class) in &labels {
        let before = by_name.insert(plain_name(name), *class).unwrap_or(*class);
        ensure!(
            before == *class,
            "cannot use the labels '{}': '{name}' has the classes {before} and {class}; leave one",
            path.display()
        );
    }
    let below = |name: &PathBuf| Some(plain_name(name.strip_prefix(folder).ok()?.to_str()?));
    let names: Vec<Option<String>> = pictures.names().iter().map(below).collect();
    let class_of = |name: &Option<String>| by_name.get(name.as_ref()?).copied();
    let mut classes: Vec<Option<u32>> = names.iter().map(class_of).collect();
    match_loosely(&names, &mut classes, &by_name);
    let first = classes.iter().position(Option::is_none).and_then(|first| names[first].as_ref());
    let nearest = first.and_then(|name| nearest_of(name, by_name.keys()));
    Ok(InFile::Classes(Named { classes, nearest }))
}

/// Brings a name to the form in which it is compared: `/` between folders, nothing for the folder itself, letters with
/// their accents composed.
fn plain_name(name: &str) -> String {
    let name: String = name.replace('\\', "/").nfc().collect();
    let parts = name.split('/').enumerate().filter(|&(place, part)| part != "." && (place == 0 || !part.is_empty()));
    parts.map(|(_, part)| part).collect::<Vec<_>>().join("/")
}

/// Finds classes of pictures whose names differ in the case of letters or in the extension, where only one is meant.
fn match_loosely(names: &[Option<String>], classes: &mut [Option<u32>], by_name: &HashMap<String, u32>) {
    if classes.iter().all(Option::is_some) {
        return;
    }
    let loose = |name: &str| {
        let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        format!("{folder}/{stem}").to_lowercase()
    };
    let mut labelled: HashMap<String, Vec<u32>> = HashMap::new();
    by_name.iter().for_each(|(name, &class)| labelled.entry(loose(name)).or_default().push(class));
    let mut pictures: HashMap<String, usize> = HashMap::new();
    names.iter().flatten().for_each(|name| *pictures.entry(loose(name)).or_default() += 1);
    for (name, class) in names.iter().zip(classes.iter_mut()).filter(|(_, class)| class.is_none()) {
        let key = name.as_ref().map(|name| loose(name)).unwrap_or_default();
        if let (Some([only]), Some(1)) = (labelled.get(&key).map(Vec::as_slice), pictures.get(&key)) {
            *class = Some(*only);
        }
    }
}

/// Returns the name that takes the fewest changes of letters to become this one.
fn nearest_of<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    /// Number of names that are compared; more would take seconds.
    const MOST_COMPARED: usize = 100_000;
    let name = name.to_lowercase();
    let distance = |other: &&String| (strsim::levenshtein(&name, &other.to_lowercase()), (*other).clone());
    names.take(MOST_COMPARED).min_by_key(distance).cloned()
}

/// Returns the root, and every folder below it that all pictures are in, from the outside in.
fn common_folders(pictures: &Pictures) -> Vec<PathBuf> {
    let mut common = pictures.names()[0].parent().unwrap_or(Path::new("")).to_owned();
    for name in pictures.names() {
        while !name.starts_with(&common) {
            if !common.pop() {
                // Names of a zip may begin with a slash, some of them or all.
                common.clear();
            }
        }
    }
    let mut folders: Vec<PathBuf> = common.ancestors().map(Path::to_owned).collect();
    if common.is_absolute() {
        folders.push(PathBuf::new());
    }
    folders.reverse();
    folders
}

/// Returns the classes, if the file names every picture.
fn all_named(pictures: &Pictures, Named { classes, nearest }: Named) -> Result<Vec<u32>> {
    let missing = classes.iter().filter(|class| class.is_none()).count();
    let first = classes.iter().position(Option::is_none).map(|first| pictures.names()[first].display());
    ensure!(
        missing == 0,
        "cannot use the labels '{}': {missing} of {} pictures are not in it, the first is '{}'{}; add them or remove the \
         pictures",
        pictures.root().join(LABEL_FILE).display(),
        pictures.len(),
        first.map(|name| name.to_string()).unwrap_or_default(),
        nearest.map(|name| format!(" (the nearest that it has is '{name}')")).unwrap_or_default()
    );
    Ok(classes.into_iter().flatten().collect())
}

fn from_folders(pictures: &Pictures) -> Result<(Vec<u32>, LabelOrigin)> {
    // Classes are the sub-folders of the deepest folder that has every picture in one of its sub-folders.
    let all_deeper = |folder: &&PathBuf| {
        pictures.names().iter().all(|name| name.strip_prefix(folder).is_ok_and(|below| top_folder(below).is_some()))
    };
    let base = common_folders(pictures).iter().rfind(all_deeper).cloned().unwrap_or_default();
    let below = |name: &PathBuf| name.strip_prefix(&base).map(Path::to_owned).unwrap_or_default();
    let folders: Vec<Option<String>> = pictures.names().iter().map(|name| top_folder(&below(name))).collect();
    let loose = folders.iter().filter(|folder| folder.is_none()).count();
    ensure!(
        loose == 0,
        "cannot tell the classes: {loose} of {} pictures in '{}' have no label; put those of each class into a folder \
         of their own, or name the classes in {LABEL_FILE}",
        pictures.len(),
        pictures.root().display()
    );
    let distinct: BTreeSet<&String> = folders.iter().flatten().collect();
    let mut names: Vec<String> = distinct.into_iter().cloned().collect();
    if let Some(mut numbers) = names.iter().map(|name| name.parse::<u64>().ok()).collect::<Option<Vec<_>>>() {
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() == names.len() {
            names.sort_by_key(|name| name.parse::<u64>().unwrap_or(0));
        }
    }
    let number: HashMap<&str, u32> = (0..).zip(&names).map(|(class, name)| (name.as_str(), class)).collect();
    let classes = folders.iter().flatten().map(|folder| number[folder.as_str()]).collect();
    Ok((classes, LabelOrigin::Folders(names)))
}

/// Returns a hint on sub-folders that look like classes and are not taken for them.
fn unused_folders(pictures: &Pictures) -> Option<String> {
    let (_, origin) = from_folders(pictures).ok()?;
    match origin {
        LabelOrigin::Folders(names) if names.len() > 1 => {
            Some(format!("if the {} sub-folders are classes, pass --labels folders to keep them", names.len()))
        }
        _ => None,
    }
}

/// Returns the sub-folder of the root that a picture is in. Bytes of its name that are not UTF-8 are written as escapes, so that names
/// that differ stay different.
fn top_folder(name: &Path) -> Option<String> {
    let mut parts = name.components().filter(|part| !matches!(part, Component::CurDir));
    let first = parts.next()?.as_os_str();
    let first = first.to_str().map_or_else(|| first.as_encoded_bytes().escape_ascii().to_string(), str::to_owned);
    parts.next().map(|_| first)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn folders_whose_names_are_not_utf8_stay_apart() {
        let class = |folder: &[u8]| top_folder(&Path::new(OsStr::from_bytes(folder)).join("a.png"));
        assert_eq!(class("Käse".as_bytes()).as_deref(), Some("Käse"));
        assert_eq!((class(b"a\xff").as_deref(), class(b"a\xfe").as_deref()), (Some("a\\xff"), Some("a\\xfe")));
    }
}
