//! `rootgan dump`: makes many pictures for tools that compute FID. Picture i depends on the seed and i alone, so an
//! interrupted dump goes on where it stopped.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::args::{ClassRule, PictureArgs, PngWriter, class_counts, count_text, refuse_foreign};
use crate::cli::processes;
use crate::cli::team::Team;
use crate::draw::pixels::{encode_png_in_place, grey_to_rgb, png_is_whole, to_interleaved};
use crate::files::atomic::remove_if_there;
use crate::files::checksum::sha256;
use crate::files::lock::Lock;
use crate::files::npz::{RowFile, npz_shape, write_npz};
use crate::files::record;
use crate::latent::picture_source::{DumpDraws, PictureBatch, PictureSource};
use crate::model::NoiseMode;
use crate::system::signals::{Interrupted, StopRequest};
use crate::system::ui::{Bar, say};
use crate::tensor::device;
use crate::tensor::images::ToBytes;
use crate::tensor::labels::ClassDistribution;
use crate::tensor::world::World;

/// The record of what a folder of pictures was asked for.
const RECORD: &str = "dump.json";

/// Make many pictures for tools that compute FID.
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// The generator and how it is called.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Folder for 000000.png, 000001.png, ..., or one file NAME.npz (arr_0, N x H x W x 3)
    #[arg(long, value_name = "DIR_OR_FILE.npz")]
    pub out: PathBuf,
    /// Number of pictures
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub count: u32,
    /// Seed of the whole dump
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Draw classes as often as these pictures have them [default: as the training pictures had them]
    #[arg(long, value_name = "DIR_OR_ZIP", conflicts_with = "class")]
    pub labels_of: Option<PathBuf>,
    /// Make the pictures of a folder in N processes, each on CPU cores or a GPU of its own; torchrun starts them on several
    /// machines that share the folder
    #[arg(long, value_name = "N")]
    pub processes: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// A generator that cannot be loaded or called; a place that is not writable, that another process writes, or that holds
/// the dump of another request or other files.
pub fn run(args: DumpArgs) -> Result<()> {
    if let Some(count) = args.processes {
        return processes::run(count);
    }
    let mut team = Team::from_env()?;
    ensure!(args.count > 0, "cannot dump 0 pictures; pass --count 1 or more");
    let out = args.out.display();
    let ending = args.out.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let as_npz = ending == "npz";
    ensure!(
        !["npy", "zip", "png", "tar"].contains(&ending.as_str()),
        "cannot dump to '{out}': a folder of PNG files or an .npz file is written; pass a name without .{ending}, or one \
         that ends in .npz"
    );
    ensure!(
        !as_npz || !args.out.is_dir(),
        "cannot write '{out}': a folder of that name is in the way; pass another name"
    );
    ensure!(
        as_npz || !args.out.is_file(),
        "cannot dump to '{out}': it is a file; pass a folder, or a name that ends in .npz"
    );
    if !as_npz {
        refuse_foreign(&args.out, |name| name == RECORD || index_of(name).is_some())?;
    }
    ensure!(
        !as_npz || team.planned == 1,
        "cannot write '{out}' in {} processes: an .npz is filled from its beginning to its end; dump to a folder, or in one process",
        team.planned
    );
    let mut pictures = args.pictures;
    pictures.generator.device = device::name(team.device(Some(&pictures.generator.device))?);
    let generator = pictures.load(&[&args.out])?;
    team.join()?;
    let source = pictures.source(&generator, NoiseMode::Random, ClassRule::Drawn)?;
    let class_counts = class_counts(&source, args.labels_of.as_deref())?;
    let request = describe(&source, args.seed, class_counts.as_deref())?;
    let classes = class_counts.and_then(|counts| ClassDistribution::new(&counts));
    let draws = DumpDraws { seed: args.seed, classes };
    let stop = StopRequest::listen()?;
    let dump = Dump { source, draws, request, count: args.count as usize, out: args.out, stop, world: team.world };
    let outcome = if as_npz { dump.to_npz() } else { dump.to_folder() };
    outcome.map_err(|error| {
        let out = dump.out.display();
        Interrupted::or_else(error, |signal| format!("stopped by {signal} in '{out}'; to go on: the same command"))
    })
}

/// Describes what fixes every pixel of a dump, for its record.
fn describe(source: &PictureSource<'_>, seed: u32, class_counts: Option<&[u64]>) -> Result<Map<String, Value>> {
    let noise_mode = source.generator.spec().map_or("its own", |_| source.noise_mode.name());
    let fields = [
        ("generator_sha256", json!(sha256(&source.generator.script.path)?)),
        ("seed", json!(seed)),
        ("psi", json!(source.truncation.psi)),
        ("truncation_cutoff", json!(source.truncation.cutoff)),
        ("noise_mode", json!(noise_mode)),
        ("class", json!(source.class)),
        ("class_counts", json!(class_counts)),
        ("z_dim", json!(source.generator.z_dim())),
        ("resolution", json!(source.side())),
        ("conversion", json!("trunc(clamp(127.5 x + 128))")),
    ];
    Ok(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

struct Dump<'g> {
    source: PictureSource<'g>,
    draws: DumpDraws,
    request: Map<String, Value>,
    count: usize,
    out: PathBuf,
    stop: StopRequest,
    world: World,
}

/// What is left to do for a folder of pictures.
#[derive(Serialize, Deserialize)]
struct FolderWork {
    /// The indices of the pictures that are there.
    present: BTreeSet<usize>,
    /// The batches with gaps. They are made as a whole, so that their pictures are the same to the last bit.
    batches: Vec<Range<usize>>,
}

impl Dump<'_> {
    /// Makes what is missing in the folder; of several processes each makes every `size`-th batch.
    fn to_folder(&self) -> Result<()> {
        let mut lock = None;
        let work = match self.world.is_first() {
            true => {
                let (held, work) = self.prepare_folder()?;
                lock = held;
                self.world.share(&serde_json::to_vec(&work)?, 0)?;
                work
            }
            false => serde_json::from_slice(&self.world.share(&[], 0)?)?,
        };
        let FolderWork { present, batches } = work;
        if self.begin(present.len()) {
            let (rank, size) = (self.world.rank() as usize, self.world.size() as usize);
            let own: Vec<_> = batches.into_iter().skip(rank).step_by(size).collect();
            self.make_folder_pictures(&own, &present)?;
        }
        // The dump is whole once all are done.
        self.world.gather(&[])?;
        drop(lock);
        if self.world.is_first() {
            self.say_where();
        }
        Ok(())
    }

    /// Makes the folder, or finds what it has; returns the lock on it, where one is needed.
    fn prepare_folder(&self) -> Result<(Option<Lock>, FolderWork)> {
        make_folder(&self.out)?;
        let record = self.out.join(RECORD);
        let lock = match Lock::on(&record) {
            // A finished dump is only read, which can be done in folders that cannot be written.
            Err(_) if self.is_finished(&record) => None,
            lock => Some(lock.with_context(|| format!("cannot dump to '{}'", self.out.display()))?),
        };
        let named = pictures_in(&self.out)?;
        record::claim(&record, &self.request, !named.is_empty())?;
        self.check_held(named.last().map_or(0, |last| last + 1))?;
        remove_leftovers(&self.out)?;
        let present = whole_among(&self.out, &named);
        if present.len() < named.len() {
            say(format!("{} pictures are empty or cut short and are made again", named.len() - present.len()));
        }
        let has_gap = |range: &Range<usize>| range.clone().any(|index| !present.contains(&index));
        let batches = self.source.batches(self.count).filter(has_gap).collect();
        Ok((lock, FolderWork { present, batches }))
    }

    fn make_folder_pictures(&self, batches: &[Range<usize>], present: &BTreeSet<usize>) -> Result<()> {
        let (out, picture_bytes) = (&self.out, self.source.picture_bytes());
        let writer = PngWriter::new(&self.source, encode_png_in_place)?;
        let missing = batches.iter().cloned().flatten().filter(|index| !present.contains(index)).count();
        let bar = Bar::new(missing as u64, "dumping");
        self.make(batches, |batch| {
            let pictures = (batch.first..).zip(batch.pixels.chunks_exact(picture_bytes));
            let missing = pictures.filter(|(index, _)| !present.contains(index));
            let named: Vec<_> = missing.map(|(index, planar)| (out.join(png_name(index)), planar)).collect();
            writer.write(&named)?;
            bar.inc(named.len() as u64);
            Ok(())
        })?;
        bar.finish();
        Ok(())
    }

    /// Whether the folder holds just what was asked for.
    fn is_finished(&self, record: &Path) -> bool {
        let named = pictures_in(&self.out).unwrap_or_default();
        named.len() == self.count
            && record::claim(record, &self.request, true).is_ok()
            && whole_among(&self.out, &named).len() == self.count
    }

    fn to_npz(&self) -> Result<()> {
        let (record, partial) = (beside(&self.out, ".json"), beside(&self.out, ".partial"));
        make_folder(self.out.parent().unwrap_or(Path::new("")))?;
        // A finished dump is only read.
        let lock = if self.out.exists() { None } else { Some(Lock::on(&self.out)?) };
        if self.out.exists() {
            record::claim(&record, &self.request, true)?;
            let held = npz_shape(&self.out)?.first().map_or(0, |&rows| rows as usize);
            ensure!(
                held == self.count,
                "cannot dump to '{}': it is finished with count {held}, this call asks for count {}; pass another --out",
                self.out.display(),
                self.count
            );
            self.begin(held);
        } else {
            let begun = partial.metadata().is_ok_and(|file| file.len() > 0);
            record::claim(&record, &self.request, begun)?;
            self.fill_rows(&partial)?;
            let side = self.source.side() as u64;
            let bar = Bar::new(self.count as u64, "packing");
            write_npz(&self.out, &partial, [self.count as u64, side, side, 3], |rows| {
                bar.inc(rows);
                Ok(self.stop.check()?)
            })?;
            bar.finish();
        }
        remove_if_there(&partial)?;
        drop(lock);
        self.say_where();
        Ok(())
    }

    /// Gathers the rows of the archive, behind those that are there.
    fn fill_rows(&self, partial: &Path) -> Result<()> {
        let (picture_bytes, channels) = (self.source.picture_bytes(), self.source.channels());
        let row_bytes = picture_bytes / channels * 3;
        let mut rows = RowFile::open(partial, row_bytes as u64)?;
        let held = rows.rows() as usize;
        self.check_held(held)?;
        let batches: Vec<_> = self.source.batches(self.count).filter(|range| range.end > held).collect();
        self.begin(held);
        let bar = Bar::new((self.count - held) as u64, "dumping");
        self.make(&batches, |batch| {
            // The first batch may be there in part; it is made as a whole for the same last bits.
            let known = held.saturating_sub(batch.first) * picture_bytes;
            let pictures = batch.pixels[known..].par_chunks_exact(picture_bytes);
            let interleaved: Vec<Vec<u8>> = pictures.map(|planar| rgb_row(planar, channels)).collect();
            rows.append(&interleaved.concat())?;
            bar.inc(interleaved.len() as u64);
            Ok(())
        })?;
        bar.finish();
        Ok(())
    }

    fn make(&self, batches: &[Range<usize>], mut write: impl FnMut(PictureBatch) -> Result<()> + Send) -> Result<()> {
        let stop = self.stop.clone();
        let write = move |batch| {
            stop.check()?;
            write(batch)
        };
        self.source.make(batches, ToBytes::Metric, |range| self.draws.latents(&self.source, range), write)
    }

    /// Says how much is there already; returns whether something is left to do.
    fn begin(&self, held: usize) -> bool {
        match held {
            0 => {}
            _ if held < self.count => say(format!("going on: {held} of {} pictures are there", self.count)),
            _ => say(format!("all {} pictures are there already", self.count)),
        }
        held < self.count
    }

    fn check_held(&self, held: usize) -> Result<()> {
        ensure!(
            held <= self.count,
            "cannot dump to '{}': it holds count {held} already, this call asks for count {}; pass --count {held} or \
             more, or another --out",
            self.out.display(),
            self.count
        );
        Ok(())
    }

    fn say_where(&self) {
        println!("{}: {}", count_text(self.count), self.out.display());
    }
}

/// Makes a row of the archive from one picture: H x W x 3, grey repeated.
fn rgb_row(planar: &[u8], channels: usize) -> Vec<u8> {
    if channels == 1 { to_interleaved(&grey_to_rgb(planar), 3) } else { to_interleaved(planar, channels) }
}

fn png_name(index: usize) -> String {
    format!("{index:06}.png")
}

/// Reads the index in a name that [`png_name`] makes.
fn index_of(name: &str) -> Option<usize> {
    let index = name.strip_suffix(".png")?.parse().ok()?;
    (png_name(index) == name).then_some(index)
}

/// Makes `NAME.npz.json` of `NAME.npz` and `.json`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder '{}'; pass another --out", folder.display()))
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let context = || format!("cannot list the folder '{}'", folder.display());
    let entries =
        std::fs::read_dir(folder).with_context(context)?.collect::<Result<Vec<_>, _>>().with_context(context)?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Lists the indices of files that are named like pictures.
fn pictures_in(folder: &Path) -> Result<BTreeSet<usize>> {
    Ok(names_in(folder)?.iter().filter_map(|name| index_of(name)).collect())
}

/// Returns the complete files among those named: a kill or a power cut may have left the beginning of one.
fn whole_among(folder: &Path, named: &BTreeSet<usize>) -> BTreeSet<usize> {
    named.par_iter().copied().filter(|&index| png_is_whole(&folder.join(png_name(index)))).collect()
}

/// Removes what a killed dump of rootgan before 2026-11-25 was writing, `.000123.png.xxxxxx.png`: tools that take every
/// png of a folder would count it.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for name in names_in(folder)? {
        let hidden = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".png")?.rsplit_once('.'));
        if hidden.is_some_and(|(picture, _)| index_of(picture).is_some()) {
            let path = folder.join(name);
            std::fs::remove_file(&path).with_context(|| format!("cannot remove '{}'", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_six_digits_and_more_where_needed() {
        assert_eq!(png_name(7), "000007.png");
        assert_eq!(png_name(1_234_567), "1234567.png");
        assert_eq!(index_of("1234567.png"), Some(1_234_567));
        for other in ["7.png", "0000007.png", "+00007.png", "cat.png", "000007.jpg", ".000007.png"] {
            assert_eq!(index_of(other), None, "{other}");
        }
    }

    #[test]
    fn only_leftovers_of_pictures_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".000007.png.AbCdEf.png", ".cat.png", "000007.png", ".000007.png"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        let mut left = names_in(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, [".000007.png", ".cat.png", "000007.png"]);
    }

    #[test]
    fn a_grey_picture_becomes_three_equal_channels() {
        assert_eq!(rgb_row(&[5, 9], 1), [5, 5, 5, 9, 9, 9]);
        assert_eq!(rgb_row(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
    }
}
