//! Counts by kind what lies among the pictures and is not read, so that nothing is left out in silence.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Name of the file that gives a class to every picture.
pub const LABEL_FILE: &str = "dataset.json";

use crate::system::ui::on_one_line;

/// Number of files that are named one by one.
const MOST_NAMED: usize = 1000;
/// Number of kinds that a line names.
const MOST_KINDS: usize = 6;
/// Folders of thumbnails, copies and deleted files that storage devices and photo programs make, in lower case.
const NOT_PICTURES: [&str; 16] = [
    "@eadir",
    "@recently-snapshot",
    "@synoeastream",
    "@synoresource",
    "@tmp",
    "__macosx",
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs",
    "thumbnails",
    "_thumb",
    "_thumbs",
];
/// Pictures of other formats, and what makes PNG of them, at any depth and however their extension is written.
const CONVERTIBLE: [(&[&str], &str); 2] = [
    (
        &["heic", "heif", "hif", "avif"],
        r#"find . -type f -regextype egrep -iregex '.*\.(heic|heif|hif|avif)' -exec sh -c 'heif-convert "$1" "${1%.*}.png"' _ {} \; (package libheif-examples)"#,
    ),
    (&["jxl"], r#"find . -type f -iname '*.jxl' -exec sh -c 'djxl "$1" "${1%.*}.png"' _ {} \; (package libjxl-tools)"#),
];

/// The files and folders that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Number of files by extension in lower case; empty for files without one.
    kinds: BTreeMap<String, usize>,
    /// Number of folders by their own name.
    folders: BTreeMap<String, usize>,
    /// The first files, as paths below the root.
    names: Vec<PathBuf>,
    hidden_files: usize,
    /// Pipes, sockets and devices, whatever their names.
    special_files: usize,
    /// A file that is `dataset.json` but for the case of its letters.
    misspelt_labels: Option<PathBuf>,
    /// There is a `dataset.json` at the top, which is read where labels are asked for.
    has_dataset_json: bool,
}

impl PassedOver {
    /// Counts a file whose extension is no picture's.
    pub(super) fn add(&mut self, name: &Path) {
        if name == Path::new(LABEL_FILE) {
            self.has_dataset_json = true;
            return;
        }
        if name.to_str().is_some_and(|name| name.eq_ignore_ascii_case(LABEL_FILE)) {
            self.misspelt_labels = Some(name.to_owned());
        }
        *self.kinds.entry(extension_of(name)).or_default() += 1;
        if self.names.len() < MOST_NAMED {
            self.names.push(name.to_owned());
        }
    }

    /// Counts a file whose name begins with a dot.
    pub(super) fn add_hidden_file(&mut self) {
        self.hidden_files += 1;
    }

    /// Counts a pipe, a socket or a device.
    pub(super) fn add_special_file(&mut self) {
        self.special_files += 1;
    }

    /// Counts a folder that is not looked into.
    pub(super) fn add_folder(&mut self, name: &OsStr) {
        *self.folders.entry(name.to_string_lossy().into_owned()).or_default() += 1;
    }

    /// The names of files of other kinds, sorted, a thousand at most.
    pub fn names(&self) -> Vec<&Path> {
        let mut names: Vec<&Path> = self.names.iter().map(PathBuf::as_path).collect();
        names.sort();
        names
    }

    /// Returns lines for the terminal; none where nothing was passed over.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.files().map(|files| format!("{files} passed over")).into_iter().collect();
        for (extensions, command) in CONVERTIBLE {
            let count: usize = extensions.iter().filter_map(|extension| self.kinds.get(*extension)).sum();
            if count > 0 {
                let (kind, verb) = (extensions[0], if count == 1 { "is" } else { "are" });
                lines.push(format!("{count} {kind} or like it {verb} not read: convert to PNG first, e.g. {command}"));
            }
        }
        let labels = self.misspelt_labels.iter();
        lines.extend(labels.map(|name| format!("'{}' is not read as labels: name it {LABEL_FILE}", name.display())));
        lines.extend(self.folders_text().map(|folders| format!("{folders} passed over")));
        lines
    }

    /// Describes what there is instead, for a place without pictures.
    pub(super) fn describe(&self) -> String {
        let record = self.has_dataset_json.then(|| format!("a {LABEL_FILE}"));
        let parts: Vec<String> = [record, self.files(), self.folders_text()].into_iter().flatten().collect();
        let convertible = self.lines().into_iter().find(|line| line.contains("convert to PNG"));
        let hint = (!self.folders.is_empty()).then(|| "pass such a folder itself to use what is in it".to_owned());
        match parts.is_empty() {
            true => "no files at all".to_owned(),
            false => {
                parts.join(" and ")
                    + &[hint, convertible].into_iter().flatten().map(|text| format!("; {text}")).collect::<String>()
            }
        }
    }

    /// Counts files as in `57 other files: 51 heic, 4 avif, 2 without extension`.
    fn files(&self) -> Option<String> {
        let mut kinds: Vec<(String, usize)> = self.kinds.iter().map(|(kind, &count)| (kind.clone(), count)).collect();
        kinds.push(("hidden".to_owned(), self.hidden_files));
        kinds.push(("pipe, socket or device".to_owned(), self.special_files));
        counted(kinds, "other file", "other files", |kind| match kind {
            "" => "without extension".to_owned(),
            kind => kind.to_owned(),
        })
    }

    /// Counts folders as in `2 folders: 1 .git, 1 @eaDir`.
    fn folders_text(&self) -> Option<String> {
        let folders = self.folders.iter().map(|(name, &count)| (name.clone(), count)).collect();
        counted(folders, "folder", "folders", str::to_owned)
    }
}

/// Names the sum and the most frequent kinds; None where there is nothing.
fn counted(mut kinds: Vec<(String, usize)>, one: &str, many: &str, say: impl Fn(&str) -> String) -> Option<String> {
    let total: usize = kinds.iter().map(|(_, count)| count).sum();
    kinds.retain(|(_, count)| *count > 0);
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = kinds.iter().take(MOST_KINDS).map(|(kind, count)| format!("{count} {}", say(kind)));
    let more = if kinds.len() > MOST_KINDS { ", ..." } else { "" };
    let named = named.collect::<Vec<_>>().join(", ");
    (total > 0).then(|| on_one_line(&format!("{total} {}: {named}{more}", if total == 1 { one } else { many })))
}

/// Whether a file or folder of this name is never looked at: hidden ones, and those known to hold no training pictures.
pub(super) fn is_passed_over(name: &OsStr) -> bool {
    let text = name.to_string_lossy();
    text.starts_with('.') || NOT_PICTURES.contains(&text.to_lowercase().as_str()) || text.ends_with(".lrdata")
}

/// Returns the extension in lower case; empty if there is none.
pub(super) fn extension_of(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_kind_the_most_frequent_first() {
        let mut passed = PassedOver::default();
        assert!(passed.lines().is_empty() && passed.describe() == "no files at all");
        passed.add(Path::new("dataset.json"));
        assert!(passed.lines().is_empty() && passed.describe() == "a dataset.json");
        for name in ["a.HEIC", "b.heic", "c.avif", "d", "e.txt", "f.heic", "g.jxl"] {
            passed.add(Path::new(name));
        }
        passed.add_hidden_file();
        let lines = passed.lines();
        assert_eq!(lines[0], "8 other files: 3 heic, 1 without extension, 1 avif, 1 jxl, 1 txt, 1 hidden passed over");
        assert!(lines[1].starts_with("4 heic or like it are not read: convert to PNG first, e.g. find . -type f"));
        assert!(lines[2].starts_with("1 jxl or like it is not read") && lines.len() == 3);
        assert_eq!(passed.names().len(), 7);
    }

    #[test]
    fn what_is_no_file_and_labels_in_capitals_are_told() {
        let mut passed = PassedOver::default();
        passed.add(Path::new("DATASET.JSON"));
        passed.add_special_file();
        let lines = passed.lines();
        assert_eq!(lines[0], "2 other files: 1 json, 1 pipe, socket or device passed over");
        assert_eq!(lines[1], "'DATASET.JSON' is not read as labels: name it dataset.json");
    }

    /// A shell runs the command of the remedy on names of all kinds, with a converter that only copies.
    #[test]
    fn the_command_that_converts_finds_capitals_and_folders() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("a b")).unwrap();
        let names = ["IMG_0001.HEIC", "a b/it's.heif", "c.avif", "-d.Hif", "other.txt"];
        names.iter().for_each(|name| std::fs::write(place.path().join(name), name).unwrap());
        let (command, _) = CONVERTIBLE[0].1.rsplit_once(" (").unwrap();
        let command = command.replace("heif-convert", "cp");
        let done = std::process::Command::new("sh").args(["-c", &command]).current_dir(place.path()).status().unwrap();
        assert!(done.success());
        for made in ["IMG_0001.png", "a b/it's.png", "c.png", "-d.png"] {
            assert!(place.path().join(made).is_file(), "{made}");
        }
        assert!(!place.path().join("other.png").exists());
    }

    #[test]
    fn folders_are_named() {
        let mut passed = PassedOver::default();
        passed.add_folder(OsStr::new(".pics"));
        assert_eq!(passed.describe(), "1 folder: 1 .pics; pass such a folder itself to use what is in it");
        assert_eq!(passed.lines(), ["1 folder: 1 .pics passed over"]);
        for name in ["@eaDir", ".git", "__MACOSX", "Cats.lrdata", "@Recently-Snapshot", "@tmp", "Thumbs", "thumbnails"]
        {
            assert!(is_passed_over(OsStr::new(name)), "{name}");
        }
        for name in ["cats", "@cats", "thumbnails128x128"] {
            assert!(!is_passed_over(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn names_do_not_reach_the_terminal_as_they_are() {
        let mut passed = PassedOver::default();
        passed.add(Path::new("a.\u{1b}[2J"));
        assert!(!passed.lines()[0].contains('\u{1b}'));
    }
}
