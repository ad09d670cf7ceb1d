//! Feature sets: the features of pictures, or what metrics need of them, with the record of how they were made. Sets
//! can be saved as files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::detector::DetectorId;
use super::moments::Moments;
use crate::files::bounded::read_text;
use crate::files::opening::to_read;
use crate::model::weights;
use crate::system::available::available_memory;

/// The rows of a set, in messages.
const FEATURES: &str = "features";
const PROBABILITIES: &str = "class probabilities";

/// Key of the record in a file's metadata.
const RECORD: &str = "rootgan_features";

/// The record of how features were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The detector that made them.
    pub detector: DetectorId,
    /// The size and making of the pictures that it got.
    pub pictures: PictureForm,
    /// The number of pictures.
    pub count: usize,
    /// Number of pictures in the folder or zip that the set was drawn from; None for a generator's pictures.
    #[serde(default)]
    pub out_of: Option<usize>,
    /// Key that the cache stored the set under; None outside of the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<String>,
}

impl SetRecord {
    /// Returns how many pictures there are, whether in the set or not.
    pub fn total(&self) -> usize {
        self.out_of.unwrap_or(self.count)
    }
}

/// The size and making of the pictures that a detector got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureForm {
    /// Height and width, in pixels.
    pub side: u32,
    /// Number of channels: 3, or 1 where grey was repeated for the detector.
    pub channels: u32,
    /// The rule by which they came to that size.
    pub rule: String,
}

/// The parts of a feature set that metrics need; each number counts pictures from the first on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Each n for which the moments of the first n pictures are needed.
    pub moments: BTreeSet<usize>,
    /// Features of so many pictures.
    pub features: usize,
    /// Class probabilities of so many pictures.
    pub probabilities: usize,
}

impl Needs {
    /// Returns the number of pictures that this takes.
    pub fn pictures(&self) -> usize {
        self.moments.last().copied().unwrap_or(0).max(self.features).max(self.probabilities)
    }

    /// Returns what satisfies both.
    pub fn union(mut self, other: &Self) -> Self {
        self.moments.extend(&other.moments);
        self.features = self.features.max(other.features);
        self.probabilities = self.probabilities.max(other.probabilities);
        self
    }
}

/// Features of pictures, as far as they are kept.
pub struct FeatureSet {
    /// The record of how they were made.
    pub record: SetRecord,
    /// Moments by the number of pictures that they are of, counted from the first.
    pub moments: BTreeMap<usize, Moments>,
    /// Features [n, F] in float32.
    pub features: Option<Tensor>,
    /// Class probabilities [n, classes] in float32.
    pub probabilities: Option<Tensor>,
}

impl FeatureSet {
    /// Returns what the set can satisfy.
    pub fn holds(&self) -> Needs {
        let rows = |tensor: &Option<Tensor>| tensor.as_ref().map_or(0, |tensor| tensor.size()[0] as usize);
        let moments = self.moments.keys().copied().collect();
        Needs { moments, features: rows(&self.features), probabilities: rows(&self.probabilities) }
    }

    /// Whether the set has everything that is needed.
    pub fn satisfies(&self, needs: &Needs) -> bool {
        self.ensure_satisfies(needs).is_ok()
    }

    /// Makes sure that the set has everything that is needed.
    ///
    /// # Errors
    /// Something is missing; the message says what there is.
    pub fn ensure_satisfies(&self, needs: &Needs) -> Result<()> {
        let held = self.holds();
        ensure_rows(held.features, needs.features, FEATURES)?;
        ensure_rows(held.probabilities, needs.probabilities, PROBABILITIES)?;
        let has = |n: usize| held.moments.contains(&n) || n <= held.features;
        needs.moments.iter().find(|&&n| !has(n)).map_or(Ok(()), |&n| Err(anyhow!(self.no_moments_of(n))))
    }

    fn no_moments_of(&self, n: usize) -> String {
        let there: Vec<_> = self.moments.keys().map(usize::to_string).collect();
        format!("there are no moments of {n} pictures, only of [{}]", there.join(", "))
    }

    /// Returns the moments of the first `n` pictures.
    ///
    /// # Errors
    /// The set has neither these moments nor features of so many pictures.
    pub fn moments_of(&self, n: usize) -> Result<Moments> {
        match self.moments.get(&n) {
            Some(moments) => Ok(moments.copy()),
            None => self
                .features_of(n)
                .map(|features| Moments::from_features(&features))
                .with_context(|| self.no_moments_of(n)),
        }
    }

    /// Returns the features of the first `n` pictures, [n, F].
    ///
    /// # Errors
    /// The set has none of so many pictures.
    pub fn features_of(&self, n: usize) -> Result<Tensor> {
        first_rows(self.features.as_ref(), n, FEATURES)
    }

    /// Returns the class probabilities of the first `n` pictures: [n, classes].
    ///
    /// # Errors
    /// The set has none of so many pictures.
    pub fn probabilities_of(&self, n: usize) -> Result<Tensor> {
        first_rows(self.probabilities.as_ref(), n, PROBABILITIES)
    }

    /// Writes the whole set as safetensors, with the record in the metadata.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = moment_tensors(&self.moments);
        let rows = [("features", &self.features), ("probabilities", &self.probabilities)];
        let kept = rows.into_iter().filter_map(|(name, tensor)| Some((name, tensor.as_ref()?)));
        tensors.extend(kept.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())));
        self.write(path, &tensors)
    }

    /// Writes the moments of the first n pictures, for each n that is asked for.
    ///
    /// # Errors
    /// A file that cannot be written, none asked for, or neither moments nor features of so many pictures.
    pub fn save_moments(&self, path: &Path, counts: &BTreeSet<usize>) -> Result<()> {
        let cannot = || format!("cannot write '{}'", path.display());
        ensure!(!counts.is_empty(), "{}: there are no features to take moments of", cannot());
        let moments =
            counts.iter().map(|&n| Ok((n, self.moments_of(n)?))).collect::<Result<_>>().with_context(cannot)?;
        self.write(path, &moment_tensors(&moments))
    }

    fn write(&self, path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
        let metadata = HashMap::from([(RECORD.to_owned(), serde_json::to_string(&self.record)?)]);
        weights::write_tensors(path, tensors, metadata)
    }

    /// Reads what [`save`](Self::save) wrote, or an `.npz` with one array `features` [N, F] and its record beside it in
    /// `NAME.npz.json`.
    ///
    /// # Errors
    /// A file of another kind, or features without a record: nobody could tell what they compare with.
    pub fn load(path: &Path) -> Result<Self> {
        let is_npz = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"));
        if is_npz { load_npz(path) } else { load_safetensors(path) }
    }
}

/// Refuses to compare features of different detectors, or of pictures of different form.
///
/// # Errors
/// The two differ; the message says in what.
pub fn ensure_comparable(reals: &SetRecord, fakes: &SetRecord) -> Result<()> {
    ensure!(
        reals.detector.sha256 == fakes.detector.sha256,
        "cannot compare features of different detectors: the real pictures' are of {}, the others' of {}; make both with \
         one --detector",
        reals.detector.in_short(),
        fakes.detector.in_short()
    );
    ensure_same_form(&reals.pictures, &fakes.pictures)
}

/// Refuses to compare pictures of different size or channels.
///
/// # Errors
/// The two differ; the message says in what.
pub fn ensure_same_form(real: &PictureForm, fake: &PictureForm) -> Result<()> {
    ensure!(
        (real.side, real.channels) == (fake.side, fake.channels),
        "cannot compare real pictures of {}x{} and {} channels with others of {}x{} and {}: a detector tells them apart by \
         that alone; make the features again at one size (--resolution)",
        real.side,
        real.side,
        real.channels,
        fake.side,
        fake.side,
        fake.channels
    );
    Ok(())
}

fn moment_tensors(moments: &BTreeMap<usize, Moments>) -> Vec<(String, Tensor)> {
    let of_one = |(n, moments): (&usize, &Moments)| {
        [("sum", &moments.sum), ("outer", &moments.outer)]
            .map(|(name, tensor)| (format!("moments.{n}.{name}"), tensor.shallow_clone()))
    };
    moments.iter().flat_map(of_one).collect()
}

fn first_rows(tensor: Option<&Tensor>, n: usize, what: &str) -> Result<Tensor> {
    ensure_rows(tensor.map_or(0, |tensor| tensor.size()[0] as usize), n, what)?;
    Ok(tensor.with_context(|| format!("the set has no {what}"))?.narrow(0, 0, n as i64))
}

fn ensure_rows(held: usize, needed: usize, what: &str) -> Result<()> {
    ensure!(needed <= held, "{needed} rows of {what} are needed, the set has {held} of them");
    Ok(())
}

fn load_safetensors(path: &Path) -> Result<FeatureSet> {
    let shown = path.display();
    let file = weights::read(path)?;
    let record = file.metadata.get(RECORD).with_context(|| {
        format!(
            "'{shown}' does not say which detector its features are of; make it with rootgan metrics --save-features"
        )
    })?;
    let record: SetRecord =
        serde_json::from_str(record).with_context(|| format!("the record in '{shown}' is damaged; make it again"))?;
    let mut parts: HashMap<String, Tensor> = file.tensors.into_iter().collect();
    let counts: BTreeSet<usize> =
        parts.keys().filter_map(|name| name.strip_prefix("moments.")?.strip_suffix(".sum")?.parse().ok()).collect();
    let mut moments = BTreeMap::new();
    for n in counts {
        let parts = (parts.remove(&format!("moments.{n}.sum")), parts.remove(&format!("moments.{n}.outer")));
        if let (Some(sum), Some(outer)) = parts {
            let width = sum.numel() as i64;
            ensure!(
                sum.dim() == 1 && outer.size() == [width, width] && outer.kind() == Kind::Double,
                "the moments in '{shown}' have shapes {:?} and {:?}; the file is damaged, make it again",
                sum.size(),
                outer.size()
            );
            moments.insert(n, Moments { count: n as i64, sum, outer });
        }
    }
    let mut rows = |name: &str| {
        let tensor = parts.remove(name);
        ensure!(
            tensor.as_ref().is_none_or(|tensor| tensor.dim() == 2),
            "'{name}' in '{shown}' is no table of one row per picture; make the file again"
        );
        Ok(tensor)
    };
    Ok(FeatureSet { record, moments, features: rows("features")?, probabilities: rows("probabilities")? })
}

fn load_npz(path: &Path) -> Result<FeatureSet> {
    let shown = path.display();
    let beside = format!("{shown}.json");
    let record = read_text(Path::new(&beside)).with_context(|| {
        format!(
            "'{shown}' does not say which detector its features are of; write '{beside}' with {{\"detector\": {{\"name\": \
             .., \"sha256\": .., \"features\": .., \"resize\": ..}}, \"pictures\": {{\"side\": .., \"channels\": .., \
             \"rule\": ..}}, \"count\": N}}"
        )
    })?;
    let record: SetRecord =
        serde_json::from_str(&record).with_context(|| format!("cannot read the record '{beside}'"))?;
    let read = || -> Result<Tensor> {
        let mut zip = zip::ZipArchive::new(to_read(path)?)?;
        let entry = zip.by_name("features.npy").context("it has no array 'features'")?;
        // A small archive may unpack to a large array.
        let bytes = entry.size();
        let room = available_memory().unwrap_or(u64::MAX) / 4;
        ensure!(bytes <= room, "its array has {} MiB, of which {} fit into memory", bytes >> 20, room >> 20);
        let array = npyz::NpyFile::new(entry)?;
        ensure!(array.order() == npyz::Order::C, "its array is in Fortran's order");
        let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
        let is_table =
            shape.len() == 2 && shape[0].checked_mul(shape[1]).is_some_and(|values| values as u64 <= bytes / 4);
        ensure!(is_table, "its array 'features' has shape {shape:?}, [N, F] is expected, and {bytes} bytes");
        let values: Vec<f32> = match array.dtype().descr().trim_matches('\'') {
            "<f4" => array.into_vec()?,
            "<f8" => array.into_vec::<f64>()?.into_iter().map(|value| value as f32).collect(),
            other => bail!("its array is of type {other}; float32 or float64 is expected"),
        };
        Tensor::f_from_slice(&values).and_then(|flat| flat.f_view(shape.as_slice())).map_err(|error| anyhow!("{error}"))
    };
    let features = read().with_context(|| format!("cannot read features from '{shown}'"))?;
    ensure!(
        features.size()[0] as usize == record.count,
        "'{shown}' has {} features, its record '{beside}' says {}; make both again",
        features.size()[0],
        record.count
    );
    Ok(FeatureSet { record, moments: BTreeMap::new(), features: Some(features), probabilities: None })
}
