//! The report on a check of pictures: it has every bad file and duplicate by name, and odd pictures by their number.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::data::decode::PictureNotes;
use crate::data::labels::{LabelOrigin, Labels};
use crate::system::ui::on_one_line;

/// Number of sizes that the lines for the terminal name; the machine-readable report has all.
const NAMED_SIZES: usize = 8;

/// The report on a folder or zip.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// The folder or zip that was checked.
    pub source: String,
    /// Number of files named like pictures.
    pub total: usize,
    /// Number of pictures that are neither bad nor a duplicate that is left out.
    pub usable: usize,
    /// Every file that cannot be used.
    pub bad: Vec<BadFile>,
    /// Every picture that shows the same as one before it.
    pub duplicates: Vec<Duplicate>,
    /// Whether duplicates count as usable.
    pub duplicates_kept: bool,
    /// Numbers of usable pictures that are odd, by what is odd.
    pub notes: NoteCounts,
    /// Every picture whose colour profile cannot be converted, so that its colours may be wrong.
    pub unusable_profiles: Vec<String>,
    /// Sizes of usable pictures as they come, upright, smallest first.
    pub sizes: Vec<SizeCount>,
    /// Classes of usable pictures, where there are labels.
    pub labels: Option<LabelCounts>,
    /// Why labels that are there were not taken.
    pub labels_left_out: Option<String>,
    /// Lines on what lies among the pictures and is not read.
    pub passed_over: Vec<String>,
    /// The files among what was passed over, the first thousand.
    pub other_files: Vec<String>,
    /// The set that was written, if one was.
    pub written: Option<Written>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadFile {
    /// Name of the file below the source.
    pub file: String,
    /// The kind of fault, for programs.
    pub kind: BadKind,
    /// The fault in a sentence.
    pub reason: String,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadKind {
    /// No picture, a broken or truncated one, or one beyond the limits.
    Unreadable,
    /// The shorter side is below the least.
    TooSmall,
    /// The sides differ and the picture may not be cropped.
    NotSquare,
    /// The name in a zip points out of the zip.
    UnsafeName,
}

/// A picture that shows the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Name of the picture below the source.
    pub file: String,
    /// The first picture that shows it.
    pub same_as: String,
}

/// Numbers of usable pictures that are odd, by what is odd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // The terminal's lines say what each is.
pub struct NoteCounts {
    pub grey: usize,
    pub alpha: usize,
    pub sixteen_bit: usize,
    pub profiled: usize,
    pub unusable_profile: usize,
    pub turned: usize,
    pub animated: usize,
    pub misnamed: usize,
    pub enlarged: usize,
}

/// Number of usable pictures of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct SizeCount {
    pub width: u32,
    pub height: u32,
    pub pictures: usize,
}

/// The classes of usable pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Number of pictures of each class.
    pub counts: Vec<u64>,
    /// Sub-folder of each class, where classes are sub-folders.
    pub folders: Option<Vec<String>>,
    #[serde(skip)]
    summary: String,
}

/// The set that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Folder or zip that holds the set.
    pub path: String,
    /// The number of pictures written.
    pub pictures: usize,
    /// Width and height of each picture.
    pub resolution: u32,
    /// Number of channels: 3 for RGB, 1 for grey.
    pub channels: u32,
}

impl NoteCounts {
    pub(super) fn count(&mut self, notes: PictureNotes, animated: bool, misnamed: bool) {
        self.grey += usize::from(notes.was_grey);
        self.alpha += usize::from(notes.had_alpha);
        self.sixteen_bit += usize::from(notes.was_16bit);
        self.profiled += usize::from(notes.was_profiled);
        self.unusable_profile += usize::from(notes.had_unusable_profile);
        self.turned += usize::from(notes.was_turned);
        self.enlarged += usize::from(notes.was_upscaled);
        self.animated += usize::from(animated);
        self.misnamed += usize::from(misnamed);
    }
}

impl LabelCounts {
    pub(super) fn from_labels(labels: &Labels) -> Self {
        let folders = match &labels.origin {
            LabelOrigin::File => None,
            LabelOrigin::Folders(names) => Some(names.clone()),
        };
        Self { counts: labels.counts(), folders, summary: labels.summary() }
    }
}

impl Findings {
    /// Returns lines for the terminal; every bad file and duplicate has its own.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("pictures: {} of {} usable in '{}'", self.usable, self.total, self.source)];
        lines.extend((!self.sizes.is_empty()).then(|| format!("  sizes: {}", self.sizes_text())));
        let notes = &self.notes;
        let odd = [
            (notes.grey, "grey"),
            (notes.alpha, "transparent, laid over white"),
            (notes.sixteen_bit, "of 16 bits, rounded to 8"),
            (notes.profiled, "with a colour profile, converted to sRGB"),
            (notes.turned, "stored lying or mirrored, turned as their EXIF tag says"),
            (notes.animated, "animated, of which the first frame is taken"),
            (notes.misnamed, "of another format than their names say"),
            (notes.enlarged, "smaller than the resolution, enlarged (--min-size leaves them out)"),
        ];
        lines.extend(odd.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("  {count} {what}")));
        if !self.unusable_profiles.is_empty() {
            let count = self.unusable_profiles.len();
            lines.push(format!("  {count} with a colour profile that cannot be converted, taken as sRGB:"));
        }
        lines.extend(self.unusable_profiles.iter().map(|name| format!("    {}", on_one_line(name))));
        lines.extend(self.labels.iter().map(|labels| labels.summary.clone()));
        lines.extend(self.labels_left_out.iter().map(|reason| format!("  labels left out: {reason}")));
        if !self.duplicates.is_empty() {
            let fate = if self.duplicates_kept { "kept" } else { "left out" };
            lines.push(format!("  {} duplicates, {fate}:", self.duplicates.len()));
        }
        let duplicate = |found: &Duplicate| {
            format!("    {}: the same as {}", on_one_line(&found.file), on_one_line(&found.same_as))
        };
        lines.extend(self.duplicates.iter().map(duplicate));
        if !self.bad.is_empty() {
            lines.push(format!("  {} bad, left out:", self.bad.len()));
        }
        lines
            .extend(self.bad.iter().map(|bad| format!("    {}: {}", on_one_line(&bad.file), on_one_line(&bad.reason))));
        lines.extend(self.passed_over.iter().map(|line| format!("  {line}")));
        lines.extend(self.other_files.iter().map(|name| format!("    {}", on_one_line(name))));
        if let Some(Written { path, pictures, resolution: side, channels }) = &self.written {
            let colour = if *channels == 1 { "grey" } else { "RGB" };
            lines.push(format!("written: {pictures} pictures of {side}x{side} {colour} to '{path}'"));
        }
        lines
    }

    /// Lists the most frequent sizes first.
    fn sizes_text(&self) -> String {
        let mut sizes = self.sizes.clone();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.pictures));
        let text = |size: &SizeCount| format!("{}x{} ({})", size.width, size.height, size.pictures);
        let mut texts: Vec<String> = sizes.iter().take(NAMED_SIZES).map(text).collect();
        if sizes.len() > NAMED_SIZES {
            texts.push(format!("and {} more", sizes.len() - NAMED_SIZES));
        }
        texts.join(", ")
    }
}

/// Makes a list of the counts by size, smallest first.
pub(super) fn size_list(sizes: &BTreeMap<(u32, u32), usize>) -> Vec<SizeCount> {
    sizes.iter().map(|(&(width, height), &pictures)| SizeCount { width, height, pictures }).collect()
}

/// Returns a name as it goes into reports.
pub(super) fn name_text(name: &Path) -> String {
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_sizes_come_first_and_the_others_are_counted() {
        let sizes: BTreeMap<(u32, u32), usize> = (1..=10).map(|side| ((side, side), side as usize)).collect();
        let findings = Findings { sizes: size_list(&sizes), ..Findings::default() };
        let text = findings.sizes_text();
        assert!(text.starts_with("10x10 (10), 9x9 (9), ") && text.ends_with("3x3 (3), and 2 more"), "{text}");
    }
}
