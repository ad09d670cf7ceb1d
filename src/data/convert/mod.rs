//! Checks every picture of a folder or zip and, if asked, writes the good ones as a clean set: in the order of their
//! names, whatever the number of threads, with a few pictures in memory at a time. `prepare.rs` judges and encodes a
//! picture, `target.rs` writes the set, and `findings.rs` is the report.

mod findings;
mod prepare;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

pub use self::findings::Findings;
use self::findings::{BadFile, BadKind, Duplicate, LabelCounts, Written, name_text, size_list};
pub use self::prepare::{Crop, Filter};
use self::prepare::{Prepared, Rules, Unusable};
use self::target::{Sink, Target};
use crate::data::formats::stored_size;
use crate::data::labels::{LabelChoice, Labels};
use crate::data::pictures::Pictures;
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::Bar;

/// Number of bytes, roughly, of finished pictures that may wait to be written.
const WAITING_BYTES: u64 = 64 << 20;
/// Number of pictures, at most, that are at work between two looks at duplicates.
const MOST_AT_ONCE: usize = 1024;
/// Number of sizes that an error names.
const NAMED_SIZES: usize = 5;

/// The options of a conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Width and height of every picture written; None takes that of the pictures, which has to be the same for all.
    pub resolution: Option<u32>,
    /// The way in which pictures become square.
    pub crop: Crop,
    /// The filter that changes their size.
    pub filter: Filter,
    /// Whether to write one channel instead of three.
    pub grey: bool,
    /// Shortest side that a picture may have; smaller pictures are bad.
    pub min_size: u32,
    /// The labels to keep.
    pub labels: LabelChoice,
    /// Whether to keep pictures that show the same as an earlier one.
    pub keep_duplicates: bool,
}

/// Checks the pictures at `source` and, if there is a `destination`, writes a set of the good ones there: a zip if it
/// ends in `.zip`, otherwise a folder. Nothing is written where no picture is usable.
///
/// # Errors
/// No pictures at `source`, labels that cannot be used, a destination that is taken, inside the source or not writable,
/// or sizes that differ where no resolution is asked for; [`Interrupted`] where a signal came while a set was written,
/// of which nothing is left.
pub fn convert(source: &Path, destination: Option<&Path>, options: &ConvertOptions) -> Result<Findings> {
    let pictures = Pictures::open(source)?;
    let target = destination.map(|path| Target::check(path, source)).transpose()?;
    let (labels, labels_left_out) = Labels::chosen(&pictures, options.labels)?;
    let &ConvertOptions { crop, filter, min_size, resolution, grey, keep_duplicates, .. } = options;
    let channels = if grey { 1 } else { 3 };
    let mut rules = Rules { crop, filter, channels, min_size, resolution, encode: false };
    if target.is_some() && resolution.is_none() {
        rules.resolution = common_side(&pictures, &rules)?;
    }
    let findings = Findings {
        source: name_text(source),
        total: pictures.len() + pictures.escaping().len(),
        bad: pictures.escaping().iter().map(|name| escaping(name)).collect(),
        duplicates_kept: keep_duplicates,
        passed_over: pictures.passed_over().lines(),
        other_files: pictures.passed_over().names().into_iter().map(name_text).collect(),
        labels_left_out,
        ..Findings::default()
    };
    let mut pass = Pass::new(pictures, labels, rules, findings);
    // If no size was found, no picture is usable, and there is only a report to make.
    if let (Some(target), Some(path), Some(resolution)) = (target, destination, pass.rules.resolution) {
        pass.rules.encode = true;
        // From here on a signal would leave half a set: it ends the pass instead, so that the half is removed.
        pass.stop = StopRequest::listen()?;
        let outcome = target.fill(|sink| pass.run(Some(sink)));
        if !pass.found_nothing {
            outcome?;
            let (path, pictures) = (name_text(path), pass.findings.usable);
            pass.findings.written = Some(Written { path, pictures, resolution, channels });
        }
    } else {
        pass.run(None)?;
    }
    pass.findings.sizes = size_list(&pass.sizes);
    Ok(pass.findings)
}

fn escaping(name: &Path) -> BadFile {
    let reason = "its name points out of the zip".to_owned();
    BadFile { file: name_text(name), kind: BadKind::UnsafeName, reason }
}

/// Returns the side that all pictures have once they are cropped, by their headers; None if none can be used.
fn common_side(pictures: &Pictures, rules: &Rules) -> Result<Option<u32>> {
    let bar = Bar::new(pictures.len() as u64, "reading sizes");
    let side = |index: usize| {
        bar.inc(1);
        let size = stored_size(&pictures.read(index).ok()?).ok()?;
        rules.judge(size).ok().map(|()| size.0.min(size.1))
    };
    let one = |mut sides: BTreeMap<u32, usize>, side: u32| {
        *sides.entry(side).or_default() += 1;
        sides
    };
    let both = |mut all: BTreeMap<u32, usize>, more: BTreeMap<u32, usize>| {
        more.into_iter().for_each(|(side, count)| *all.entry(side).or_default() += count);
        all
    };
    let sides =
        (0..pictures.len()).into_par_iter().filter_map(side).fold(BTreeMap::new, one).reduce(BTreeMap::new, both);
    bar.finish();
    if sides.len() > 1 {
        let mut found: Vec<_> = sides.iter().collect();
        found.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
        let named = found.iter().take(NAMED_SIZES).map(|(side, count)| format!("{side}x{side} ({count})"));
        let more = if found.len() > NAMED_SIZES { ", ..." } else { "" };
        bail!(
            "cannot convert '{}': its pictures have {} sizes once they are square, {}{more}; pass --resolution N for one",
            pictures.root().display(),
            sides.len(),
            named.collect::<Vec<_>>().join(", ")
        );
    }
    Ok(sides.into_keys().next())
}

/// The state of one pass through all pictures.
struct Pass {
    pictures: Pictures,
    labels: Option<Labels>,
    rules: Rules,
    findings: Findings,
    sizes: BTreeMap<(u32, u32), usize>,
    /// First picture of each digest.
    seen: HashMap<[u8; 32], usize>,
    kept: Vec<usize>,
    /// Whether all pictures were looked at and none is usable.
    found_nothing: bool,
    stop: StopRequest,
}

impl Pass {
    fn new(pictures: Pictures, labels: Option<Labels>, rules: Rules, findings: Findings) -> Self {
        let (sizes, seen, kept, stop) = (BTreeMap::new(), HashMap::new(), Vec::new(), StopRequest::default());
        Self { pictures, labels, rules, findings, sizes, seen, kept, found_nothing: false, stop }
    }

    fn run(&mut self, mut sink: Option<&mut Sink>) -> Result<()> {
        let total = self.pictures.len();
        let bar = Bar::new(total as u64, if sink.is_some() { "converting pictures" } else { "checking pictures" });
        let step = self.at_once();
        for start in (0..total).step_by(step) {
            let range = start..total.min(start + step);
            let (pictures, rules, stop) = (&self.pictures, self.rules, &self.stop);
            let prepare = |index: usize| {
                stop.check()?;
                let prepared = prepare(pictures, rules, index);
                bar.inc(1);
                Ok(prepared)
            };
            let outcomes = range.clone().into_par_iter().map(prepare).collect::<Result<Vec<_>, Interrupted>>()?;
            for (index, outcome) in range.zip(outcomes) {
                self.take(index, outcome, &mut sink)?;
            }
        }
        bar.finish();
        self.finish(sink)
    }

    /// Returns how many pictures are prepared before they are written: enough for all threads, and few enough to wait
    /// in memory.
    fn at_once(&self) -> usize {
        let picture_bytes = match (self.rules.encode, self.rules.resolution) {
            (true, Some(side)) => u64::from(self.rules.channels) * u64::from(side).pow(2),
            _ => 0,
        };
        let fitting = WAITING_BYTES.checked_div(picture_bytes).map_or(MOST_AT_ONCE, |count| count as usize);
        fitting.min(MOST_AT_ONCE).max(rayon::current_num_threads())
    }

    fn take(&mut self, index: usize, outcome: Result<Prepared, Unusable>, sink: &mut Option<&mut Sink>) -> Result<()> {
        let name = |index: usize| name_text(&self.pictures.names()[index]);
        let Prepared { size, notes, animated, misnamed, digest, png } = match outcome {
            Ok(prepared) => prepared,
            Err((kind, reason)) => {
                self.findings.bad.push(BadFile { file: name(index), kind, reason });
                return Ok(());
            }
        };
        let first = *self.seen.entry(digest).or_insert(index);
        if first != index {
            self.findings.duplicates.push(Duplicate { file: name(index), same_as: name(first) });
            if !self.findings.duplicates_kept {
                return Ok(());
            }
        }
        if let (Some(sink), Some(png)) = (sink, png) {
            sink.picture(self.kept.len(), &png).context("is the disk full?")?;
        }
        if notes.had_unusable_profile {
            self.findings.unusable_profiles.push(name(index));
        }
        self.findings.notes.count(notes, animated, misnamed);
        *self.sizes.entry(size).or_default() += 1;
        self.kept.push(index);
        self.findings.usable += 1;
        Ok(())
    }

    /// Reports and writes what is known after the last picture: the labels, and whether any picture is usable.
    fn finish(&mut self, sink: Option<&mut Sink>) -> Result<()> {
        if let Some(labels) = &mut self.labels {
            labels.keep(&self.kept);
            self.findings.labels = Some(LabelCounts::from_labels(labels));
        }
        self.found_nothing = self.kept.is_empty();
        match sink {
            // An error keeps an empty set from appearing; the report says it in full.
            Some(_) if self.found_nothing => bail!("no picture is usable"),
            Some(sink) => sink.labels(self.labels.as_ref().map(|labels| &labels.classes[..])),
            None => Ok(()),
        }
    }
}

fn prepare(pictures: &Pictures, rules: Rules, index: usize) -> Result<Prepared, Unusable> {
    let bytes = pictures.read(index).map_err(|error| (BadKind::Unreadable, format!("{error:#}")))?;
    rules.prepare(&bytes, &pictures.names()[index])
}
