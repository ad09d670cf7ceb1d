//! The data set: pictures of a folder or zip, checked once and kept decoded in memory as far as it has room.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::decode::{PictureNotes, decode_bytes};
use crate::data::labels::Labels;
use crate::data::pictures::Pictures;
use crate::system::available::memory_for_this_process;
use crate::system::signals::StopRequest;
use crate::system::ui::{Bar, on_one_line, shell_command};

/// Number of unreadable pictures that a report names.
const NAMED: usize = 10;

/// Some of the pictures, drawn at random before any is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The number of pictures.
    pub count: usize,
    /// Seed of the draw: the same seed draws the same of the same names.
    pub seed: u64,
}

/// The options of reading pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetOptions {
    /// Width and height of every picture, in pixels.
    pub resolution: u32,
    /// Number of channels: 3 for RGB, 1 for grey.
    pub channels: u32,
    /// Bytes of decoded pictures to keep; None takes half of the available memory, of several processes on one
    /// machine each its part of that. Pictures beyond are decoded at each use.
    pub cache_bytes: Option<u64>,
    /// Part of the pictures to take; None takes all.
    pub subset: Option<Subset>,
    /// Number of classes of the networks, for which labels are read; 0 reads none.
    pub class_count: u32,
}

/// The report on the first pass over the pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Number of files named like pictures, in the subset if there is one.
    pub total: usize,
    /// Number of pictures that could be decoded: the length of the data set.
    pub usable: usize,
    /// Files that could not be decoded, and why.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Number of usable pictures that were grey.
    pub grey: usize,
    /// Number of usable pictures that were not fully opaque and were laid over white.
    pub alpha: usize,
    /// Number of usable pictures with more than 8 bits per channel.
    pub sixteen_bit: usize,
    /// Number of usable pictures whose colour profile was converted to sRGB.
    pub profiled: usize,
    /// Number of usable pictures whose colour profile cannot be converted.
    pub unusable_profiles: usize,
    /// The first picture with such a profile.
    pub first_unusable_profile: Option<PathBuf>,
    /// Lines on what lies among the pictures and is not read.
    pub passed_over: Vec<String>,
    /// Number of usable pictures that were stored lying or mirrored.
    pub turned: usize,
    /// Number of usable pictures that were smaller than the resolution.
    pub upscaled: usize,
    /// Number of usable pictures that are kept in memory.
    pub cached: usize,
    /// Number of files before a subset of them was taken; None where none was.
    pub before_subset: Option<usize>,
    /// A line about the labels.
    pub labels: Option<String>,
    /// Width and height, as in the options.
    pub resolution: u32,
    /// Channels, as in the options.
    pub channels: u32,
}

impl ScanReport {
    /// Returns lines for the terminal: the counts, what was done to odd pictures, the unreadable ones (the first ten by
    /// name).
    pub fn summary(&self) -> Vec<String> {
        let colour = if self.channels == 1 { "grey" } else { "RGB" };
        let size = self.resolution;
        let mut lines = vec![
            format!("pictures: {} of {} usable, as {size}x{size} {colour}", self.usable, self.total),
            self.memory_line(),
        ];
        lines.extend(self.before_subset.map(|all| format!("  a subset of {all}")));
        lines.extend(self.labels.clone());
        let grey = match self.channels {
            1 => (self.usable - self.grey, "in colour, turned to grey"),
            _ => (self.grey, "grey, repeated to RGB"),
        };
        let odd = [
            grey,
            (self.alpha, "transparent, laid over white"),
            (self.sixteen_bit, "of 16 bits, rounded to 8"),
            (self.profiled, "with a colour profile, converted to sRGB"),
            (self.turned, "stored lying or mirrored, turned as their EXIF tag says"),
            (self.upscaled, "smaller than that, enlarged"),
        ];
        for (count, what) in odd.into_iter().filter(|&(count, _)| count > 0) {
            lines.push(format!("  {count} {what}"));
        }
        if let Some(first) = &self.first_unusable_profile {
            let first = on_one_line(&first.display().to_string());
            let count = self.unusable_profiles;
            lines.push(format!(
                "  {count} with a colour profile that cannot be converted, taken as sRGB, the first is '{first}'"
            ));
        }
        lines.extend(self.passed_over.iter().map(|line| format!("  {line}")));
        if !self.unreadable.is_empty() {
            lines.push(format!("  {} unreadable, skipped:", self.unreadable.len()));
        }
        lines.extend(self.unreadable_lines().take(NAMED).map(|line| format!("    {line}")));
        if self.unreadable.len() > NAMED {
            lines.push(format!("    and {} more", self.unreadable.len() - NAMED));
        }
        lines
    }

    /// Lists every picture that could not be decoded, one on each line, and why.
    pub fn unreadable_lines(&self) -> impl Iterator<Item = String> {
        self.unreadable.iter().map(|(path, reason)| on_one_line(&format!("{}: {reason}", path.display())))
    }

    fn memory_line(&self) -> String {
        let picture = u64::from(self.channels) * u64::from(self.resolution).pow(2);
        let megabytes = (self.cached as u64 * picture).div_ceil(1 << 20);
        match (self.cached, self.usable) {
            (0, _) => "  none kept in memory, decoded at each use".to_owned(),
            (cached, usable) if cached == usable => format!("  all kept in memory ({megabytes} MiB)"),
            (cached, _) => {
                format!("  {cached} kept in memory ({megabytes} MiB), the others decoded at each use")
            }
        }
    }

    fn count(&mut self, notes: PictureNotes) {
        self.usable += 1;
        self.grey += usize::from(notes.was_grey);
        self.alpha += usize::from(notes.had_alpha);
        self.sixteen_bit += usize::from(notes.was_16bit);
        self.profiled += usize::from(notes.was_profiled);
        self.unusable_profiles += usize::from(notes.had_unusable_profile);
        self.turned += usize::from(notes.was_turned);
        self.upscaled += usize::from(notes.was_upscaled);
    }
}

/// The usable pictures of a folder or zip. Threads may share it.
pub struct Dataset {
    name: String,
    resolution: u32,
    channels: u32,
    pictures: Pictures,
    labels: Option<Labels>,
    fingerprint: String,
    /// SHA-256 of every file, against which files that are read again are checked.
    digests: Vec<[u8; 32]>,
    /// The first pictures, decoded: `cached x channels x resolution x resolution`.
    cache: Vec<u8>,
}

impl Dataset {
    /// Decodes every picture under `root` once, in parallel, and keeps what fits.
    ///
    /// # Errors
    /// Options out of range, no folder or zip or no picture at `root`, no labels where they are asked for, not enough
    /// memory, no usable picture, or more than a tenth of the pictures unreadable.
    pub fn open(root: &Path, options: &DatasetOptions) -> Result<(Self, ScanReport)> {
        Self::open_until(root, options, &StopRequest::default())
    }

    /// Opens a data set as [`Dataset::open`] does, and gives up upon a signal.
    ///
    /// # Errors
    /// The errors of `open`; [`Interrupted`](crate::system::signals::Interrupted).
    pub fn open_until(root: &Path, options: &DatasetOptions, stop: &StopRequest) -> Result<(Self, ScanReport)> {
        let &DatasetOptions { resolution, channels, .. } = options;
        ensure!(
            resolution > 0 && matches!(channels, 1 | 3),
            "cannot read pictures as {channels}x{resolution}x{resolution}; channels are 1 or 3, the resolution at least 1"
        );
        let mut pictures = Pictures::open(root)?;
        let mut labels =
            (options.class_count > 0).then(|| Labels::from_pictures(&pictures, options.class_count)).transpose()?;
        let listed = pictures.len();
        if let Some(places) = options.subset.map(|subset| draw_subset(root, listed, subset)).transpose()? {
            pictures.keep(&places);
            labels.iter_mut().for_each(|labels| labels.keep(&places));
        }
        let picture_bytes = picture_bytes(resolution, channels);
        let slots = cache_slots(options, pictures.len());
        let mut cache = zeroed(slots * picture_bytes)?;
        let outcomes = scan(&pictures, options, &mut cache, stop);
        stop.check()?;

        let before_subset = options.subset.map(|_| listed);
        let passed_over = pictures.passed_over().lines();
        let mut report = ScanReport {
            total: pictures.len(),
            before_subset,
            passed_over,
            resolution,
            channels,
            ..Default::default()
        };
        let (mut usable, mut digests) = (Vec::with_capacity(pictures.len()), Vec::with_capacity(pictures.len()));
        for (index, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(Scanned { notes, digest }) => {
                    if index < slots {
                        let start = index * picture_bytes;
                        // Closes the gaps that unreadable pictures left.
                        cache.copy_within(start..start + picture_bytes, report.cached * picture_bytes);
                        report.cached += 1;
                    }
                    report.count(notes);
                    if notes.had_unusable_profile && report.first_unusable_profile.is_none() {
                        report.first_unusable_profile = Some(pictures.place(index));
                    }
                    usable.push(index);
                    digests.push(digest);
                }
                Err(reason) => report.unreadable.push((pictures.place(index), reason)),
            }
        }
        cache.truncate(report.cached * picture_bytes);
        check_usable(root, &report)?;
        pictures.keep(&usable);
        labels.iter_mut().for_each(|labels| labels.keep(&usable));
        report.labels = labels.as_ref().map(Labels::summary);
        let fingerprint = fingerprint(&pictures, labels.as_ref(), &digests);
        let dataset = Self { name: name_of(root), resolution, channels, pictures, labels, fingerprint, digests, cache };
        Ok((dataset, report))
    }

    /// Returns the number of pictures, at least 1.
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Returns the name of the folder or zip for use in file names: letters, digits, `.`, `_` and `-` only.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns width and height of every picture, in pixels.
    pub fn resolution(&self) -> u32 {
        self.resolution
    }

    /// Returns the number of channels: 3 for RGB, 1 for grey.
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// Returns `channels * resolution * resolution`, the length of one picture.
    pub fn picture_bytes(&self) -> usize {
        picture_bytes(self.resolution, self.channels)
    }

    /// Whether no picture has to be decoded again.
    pub fn is_fully_cached(&self) -> bool {
        self.cache.len() == self.len() * self.picture_bytes()
    }

    /// Returns where picture `index` lies, for messages: the file, or the zip and the name in it.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn place(&self, index: usize) -> PathBuf {
        self.pictures.place(index)
    }

    /// Returns a checksum over names, classes and files in order, taken when the data set was opened.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the list of pictures that the data set is made of.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// Returns the classes, where labels were asked for.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// Copies picture `index` to `out`, decoding it again if it is not kept.
    ///
    /// # Shapes
    /// `out`: `channels x resolution x resolution` bytes, 0 to 255.
    ///
    /// # Errors
    /// The file has gone or changed since the data set was opened.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len) or `out` has another length.
    pub fn read_into(&self, index: usize, out: &mut [u8]) -> Result<()> {
        let length = self.picture_bytes();
        if let Some(kept) = self.cache.get(index * length..(index + 1) * length) {
            out.copy_from_slice(kept);
            return Ok(());
        }
        let decode = || -> Result<_> {
            let bytes = self.pictures.read(index)?;
            // Otherwise another picture under the same name would be trained on, and exact resume be lost.
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            ensure!(digest == self.digests[index], "its content is another one now");
            decode_bytes(&bytes, self.resolution, self.channels)
        };
        let (planes, _) = decode().with_context(|| {
            format!(
                "cannot decode the picture '{}' again, which was readable when the run began; put it back and resume",
                self.place(index).display()
            )
        })?;
        out.copy_from_slice(&planes);
        Ok(())
    }
}

/// Draws the places of the pictures in the subset, and puts them in order.
fn draw_subset(root: &Path, listed: usize, subset: Subset) -> Result<Vec<usize>> {
    let Subset { count, seed } = subset;
    ensure!(
        (1..=listed).contains(&count),
        "cannot take {count} of the {listed} pictures in '{}'; pass a --subset of 1 to {listed}",
        root.display()
    );
    let mut places = index::sample(&mut ChaCha8Rng::seed_from_u64(seed), listed, count).into_vec();
    places.sort_unstable();
    Ok(places)
}

fn picture_bytes(resolution: u32, channels: u32) -> usize {
    channels as usize * resolution as usize * resolution as usize
}

/// Returns how many of `total` pictures the cache has room for.
fn cache_slots(options: &DatasetOptions, total: usize) -> usize {
    let bytes = options.cache_bytes.unwrap_or_else(|| memory_for_this_process() / 2);
    let slots = bytes / picture_bytes(options.resolution, options.channels) as u64;
    total.min(usize::try_from(slots).unwrap_or(usize::MAX))
}

/// Returns zeroed memory, or an error where `vec!` would abort.
fn zeroed(length: usize) -> Result<Vec<u8>> {
    Vec::<u8>::new()
        .try_reserve_exact(length)
        .with_context(|| format!("cannot keep {} MiB of pictures in memory; ask for a smaller cache", length >> 20))?;
    Ok(vec![0; length])
}

/// The part of one picture that the first pass keeps.
struct Scanned {
    notes: PictureNotes,
    /// Checksum of the file and not of its pixels: decoders may differ from one version or processor to the next.
    digest: [u8; 32],
}

/// Computes a checksum over names, classes and contents in order.
fn fingerprint(pictures: &Pictures, labels: Option<&Labels>, digests: &[[u8; 32]]) -> String {
    let mut hasher = Sha256::new();
    for (index, (name, digest)) in pictures.names().iter().zip(digests).enumerate() {
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(labels.map_or(0, |labels| labels.classes[index] + 1).to_le_bytes());
        hasher.update(digest);
    }
    format!("{:x}", hasher.finalize())
}

/// Decodes all pictures, the first of them into `cache`, as many as it has room for. Upon a signal the rest is not
/// read.
fn scan(
    pictures: &Pictures,
    options: &DatasetOptions,
    cache: &mut [u8],
    stop: &StopRequest,
) -> Vec<Result<Scanned, String>> {
    let &DatasetOptions { resolution, channels, .. } = options;
    let length = picture_bytes(resolution, channels);
    let kept = cache.len() / length;
    let bar = Bar::new(pictures.len() as u64, "reading pictures");
    let decode = |index: usize| {
        let read = || -> Result<_> {
            stop.check()?;
            let bytes = pictures.read(index)?;
            let (planes, notes) = decode_bytes(&bytes, resolution, channels)?;
            Ok((planes, Scanned { notes, digest: Sha256::digest(&bytes).into() }))
        };
        let scanned = read();
        bar.inc(1);
        scanned.map_err(|error| format!("{error:#}"))
    };
    let into_slot = |(index, slot): (usize, &mut [u8])| {
        decode(index).map(|(planes, scanned)| {
            slot.copy_from_slice(&planes);
            scanned
        })
    };
    let mut outcomes: Vec<_> = cache.par_chunks_exact_mut(length).enumerate().map(into_slot).collect();
    let others = (kept..pictures.len()).into_par_iter();
    outcomes.par_extend(others.map(|index| decode(index).map(|(_, scanned)| scanned)));
    bar.finish();
    outcomes
}

fn check_usable(root: &Path, report: &ScanReport) -> Result<()> {
    let bad = report.unreadable.len();
    let Some((path, reason)) = report.unreadable.first().filter(|_| bad * 10 > report.total) else {
        return Ok(());
    };
    // A name that begins with a dash would be taken for an option.
    let shown =
        if root.as_os_str().as_encoded_bytes().starts_with(b"-") { Path::new(".").join(root) } else { root.into() };
    let list = shell_command(["rootgan".as_ref(), "dataset".as_ref(), shown.as_os_str()]);
    let (root, total) = (root.display(), report.total);
    bail!(
        "cannot use the pictures in '{root}': {bad} of {total} are unreadable, more than a tenth; the first is '{}': {reason}; \
         repair or remove them, `{list}` lists them all",
        path.display()
    );
}

/// Returns the name of the folder, also for `.` and `..`, or of the zip without its ending, in characters that are safe
/// in a file name.
fn name_of(root: &Path) -> String {
    let full = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let name = if full.is_dir() { full.file_name() } else { full.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy();
    let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().take(64).map(safe).collect();
    let name = name.trim_matches(|c| c == '.' || c == '-');
    if name.is_empty() { "pictures".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resumed run compares fingerprints, and would train conditional networks on other classes otherwise.
    #[test]
    fn the_fingerprint_changes_with_one_label_and_with_their_absence() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one.png", "two.png"] {
            image::RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        let fingerprint = |classes: [u32; 2], class_count: u32| {
            let labels = serde_json::json!({ "labels": [["one.png", classes[0]], ["two.png", classes[1]]] });
            fs::write(folder.path().join("dataset.json"), labels.to_string()).unwrap();
            let options = DatasetOptions { resolution: 4, channels: 3, class_count, ..DatasetOptions::default() };
            Dataset::open(folder.path(), &options).unwrap().0.fingerprint().to_owned()
        };
        let labelled = fingerprint([0, 1], 2);
        assert_eq!(fingerprint([0, 1], 2), labelled);
        let others = [fingerprint([0, 0], 2), fingerprint([1, 0], 2), fingerprint([0, 1], 0)];
        assert!(!others.contains(&labelled) && others[0] != others[1], "{labelled} {others:?}");
        assert_eq!(fingerprint([0, 0], 0), others[2], "networks without classes know no labels");
    }
}
