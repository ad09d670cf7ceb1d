//! From pictures or a generator to numbers: which features are needed, made once for all metrics, and compared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::cache::{FeatureCache, Found};
use super::collect::{of_dataset, of_generator};
use super::compute;
use super::detector::{Detector, DetectorId};
use super::feature_set::{FeatureSet, Needs, PictureForm, ensure_comparable};
use super::name::{Metric, MetricKind};
use super::outcome::Outcome;
use super::path_length;
use crate::data::{Dataset, DatasetOptions, Pictures, Sampler};
use crate::model::pictures::{DumpDraws, PictureSource};
use crate::ui::say;

/// How real pictures are read.
const LANCZOS: &str = "centre crop, Lanczos";
/// Real pictures come in this order, so that fewer of them are a random part.
const REALS_ORDER: u64 = 0;

/// The networks of features. Metrics that the field computes with VGG16 take `vgg` where it is given.
#[derive(Default)]
pub struct Detectors {
    /// For Frechet and kernel distance and inception score.
    pub main: Option<Detector>,
    /// For precision, recall, density, coverage and path length.
    pub vgg: Option<Detector>,
}

impl Detectors {
    fn of(&self, slot: Slot) -> Option<&Detector> {
        match slot {
            Slot::Main => self.main.as_ref(),
            Slot::Vgg => self.vgg.as_ref(),
        }
    }

    fn slot(&self, kind: MetricKind) -> Slot {
        if kind.of_vgg() && self.vgg.is_some() { Slot::Vgg } else { Slot::Main }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Main,
    Vgg,
}

/// The real pictures.
pub enum Reals {
    /// None: enough for inception score and path length.
    None,
    /// A folder or zip.
    Pictures(PathBuf),
    /// Saved features.
    Features(FeatureSet),
}

/// The pictures that are judged.
pub enum Fakes<'a> {
    /// Made by a generator, as `rootgan dump` makes them.
    Generator(PictureSource<'a>, DumpDraws),
    /// A folder or zip, in the order of the names.
    Pictures(PathBuf),
    /// Saved features.
    Features(FeatureSet),
}

/// What is to be measured and against what; may be run again and again on other fakes, the features of the real
/// pictures being made once.
pub struct Evaluation {
    metrics: Vec<Metric>,
    detectors: Detectors,
    reals: Reals,
    settings: EvaluateSettings,
    /// Those of real pictures.
    known: HashMap<Slot, FeatureSet>,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct EvaluateSettings {
    /// Size of pictures of which there is no generator to say it; None: their own.
    pub resolution: Option<u32>,
    /// Decoded pictures that a detector gets at a time.
    pub batch: usize,
    /// Which subsets the kernel distance takes, and the pairs of the path length.
    pub seed: u32,
    /// Where features of real pictures are kept.
    pub cache: Option<PathBuf>,
    /// A folder for the features of both sides.
    pub save_features: Option<PathBuf>,
    /// A folder for the moments of both sides.
    pub save_moments: Option<PathBuf>,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self { resolution: None, batch: 32, seed: 0, cache: None, save_features: None, save_moments: None }
    }
}

impl Evaluation {
    /// Checks that the metrics have what they need.
    ///
    /// # Errors
    /// No metric, or one that needs real pictures where there are none.
    pub fn new(metrics: Vec<Metric>, detectors: Detectors, reals: Reals, settings: EvaluateSettings) -> Result<Self> {
        ensure!(!metrics.is_empty(), "no metric is named; pass for instance --metrics fid50k_full");
        ensure!(settings.batch > 0, "cannot measure pictures 0 at a time; pass --batch 1 or more");
        if let (Reals::None, Some(metric)) = (&reals, metrics.iter().find(|metric| metric.kind.needs_reals())) {
            bail!(
                "cannot compute {}: it needs real pictures; pass --data DIR_OR_ZIP or --data-features FILE",
                metric.name
            );
        }
        Ok(Self { metrics, detectors, reals, settings, known: HashMap::new() })
    }

    /// All metrics of these fakes, in the order in which they were asked for.
    ///
    /// # Errors
    /// Pictures, a generator or a detector that fail; too few pictures; features of different detectors.
    pub fn run(&mut self, fakes: &Fakes) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = self.metrics.iter().map(|_| None).collect();
        for slot in [Slot::Main, Slot::Vgg] {
            let of_slot = |metric: &Metric| self.detectors.slot(metric.kind) == slot;
            let by_features = |metric: &Metric| metric.kind != MetricKind::PathLength;
            let places: Vec<usize> = (0..self.metrics.len())
                .filter(|&place| of_slot(&self.metrics[place]) && by_features(&self.metrics[place]))
                .collect();
            if places.is_empty() {
                continue;
            }
            let metrics: Vec<Metric> = places.iter().map(|&place| self.metrics[place].clone()).collect();
            for (place, outcome) in places.into_iter().zip(self.of_features(slot, &metrics, fakes)?) {
                outcomes[place] = Some(outcome);
            }
        }
        for (metric, outcome) in self.metrics.iter().zip(&mut outcomes) {
            if outcome.is_none() {
                *outcome = Some(self.path_length(metric, fakes)?);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    fn of_features(&mut self, slot: Slot, metrics: &[Metric], fakes: &Fakes) -> Result<Vec<Outcome>> {
        let mut needs = Needs::default();
        metrics.iter().for_each(|metric| compute::fake_needs(metric, &mut needs));
        if self.settings.save_features.is_some() {
            needs.features = needs.pictures();
        }
        let made;
        let fakes_set = match fakes {
            Fakes::Features(set) => {
                ensure_detector(self.detectors.of(slot), &set.record.detector)?;
                set
            }
            Fakes::Pictures(root) => {
                made = self.make_fakes(slot, root, metrics, &needs)?;
                &made
            }
            Fakes::Generator(source, draws) => {
                made = of_generator(self.detector(slot)?, source, draws, &needs)?;
                &made
            }
        };
        ensure_enough(metrics, fakes_set.record.count, "the saved features are of")?;
        self.save(slot, "fakes", fakes_set)?;
        if metrics.iter().any(|metric| metric.kind.needs_reals()) && !self.known.contains_key(&slot) {
            let form = &fakes_set.record.pictures;
            if let Some(set) = self.make_reals(slot, metrics, form)? {
                self.save(slot, "reals", &set)?;
                self.known.insert(slot, set);
            }
        }
        let reals_set = match &self.reals {
            Reals::Features(set) => Some(set),
            _ => self.known.get(&slot),
        };
        if let Some(reals_set) = reals_set {
            ensure_comparable(&reals_set.record, &fakes_set.record)?;
            let (real, fake) = (&reals_set.record.pictures, &fakes_set.record.pictures);
            if (real.side, real.channels) != (fake.side, fake.channels) {
                bail!(
                    "cannot compare pictures of {}x{} with {} channels and of {}x{} with {}: a detector tells them apart \
                     by that alone; make the features again at one size (--resolution)",
                    real.side,
                    real.side,
                    real.channels,
                    fake.side,
                    fake.side,
                    fake.channels
                );
            }
        }
        let seed = u64::from(self.settings.seed);
        metrics.iter().map(|metric| compute::outcome(metric, reals_set, fakes_set, seed)).collect()
    }

    /// The features of the real pictures, out of the cache or made; None where they are given.
    fn make_reals(&self, slot: Slot, metrics: &[Metric], form: &PictureForm) -> Result<Option<FeatureSet>> {
        let Reals::Pictures(root) = &self.reals else {
            if let Reals::Features(set) = &self.reals {
                ensure_detector(self.detectors.of(slot), &set.record.detector)?;
            }
            return Ok(None);
        };
        let detector = self.detector(slot)?;
        let form = PictureForm { rule: LANCZOS.to_owned(), ..form.clone() };
        let cached = self.settings.cache.as_deref().map(|folder| -> Result<_> {
            let content = Pictures::open(root)?.content_sha256();
            let cache = FeatureCache::at(folder);
            let path = cache.path(&content, &detector.id.sha256, &form, &format!("shuffled {REALS_ORDER}"));
            Ok((cache, path))
        });
        let cached = cached.transpose()?;
        let needs_of = |total: usize| compute::real_needs(metrics, total, self.settings.save_features.is_some());
        let mut held = Needs::default();
        if let Some((cache, path)) = &cached {
            match cache.find(path, |record| needs_of(record.total())) {
                Found::All(set) => {
                    say(format!("features of '{}' are in the cache", root.display()));
                    return Ok(Some(*set));
                }
                Found::Less(less) => held = less,
                Found::Nothing => {}
            }
        }
        let dataset = self.open(root, &form)?;
        let total = dataset.len();
        let order = Sampler::new(total, false, REALS_ORDER);
        let needs = needs_of(total).union(&held);
        let set = of_dataset(detector, dataset, order, form, self.settings.batch, &needs)?;
        if let Some((cache, path)) = cached {
            cache.store(&path, &set)?;
        }
        Ok(Some(set))
    }

    fn make_fakes(&self, slot: Slot, root: &Path, metrics: &[Metric], needs: &Needs) -> Result<FeatureSet> {
        let detector = self.detector(slot)?;
        let own = || -> Result<u32> {
            let side = Pictures::open(root)?.common_side()?;
            if let Reals::Pictures(reals) = &self.reals {
                let of_reals = Pictures::open(reals)?.common_side()?;
                ensure!(
                    side == of_reals,
                    "cannot compare '{}' ({side}x{side}) with '{}' ({of_reals}x{of_reals}): pass --resolution to bring both \
                     to one size",
                    root.display(),
                    reals.display()
                );
            }
            Ok(side)
        };
        let side = match (self.settings.resolution, &self.reals) {
            (Some(side), _) => side,
            (None, Reals::Features(set)) => set.record.pictures.side,
            (None, _) => own()?,
        };
        let form = PictureForm { side, channels: 3, rule: LANCZOS.to_owned() };
        let dataset = self.open(root, &form)?;
        ensure_enough(metrics, dataset.len(), &format!("'{}' has", root.display()))?;
        let order = Sampler::in_order(dataset.len());
        of_dataset(detector, dataset, order, form, self.settings.batch, needs)
    }

    fn open(&self, root: &Path, form: &PictureForm) -> Result<Arc<Dataset>> {
        let options = DatasetOptions { resolution: form.side, channels: form.channels, ..DatasetOptions::default() };
        let (dataset, report) = Dataset::open(root, &options)?;
        if !report.unreadable.is_empty() {
            report.summary().iter().for_each(say);
        }
        Ok(Arc::new(dataset))
    }

    fn path_length(&self, metric: &Metric, fakes: &Fakes) -> Result<Outcome> {
        let Fakes::Generator(source, draws) = fakes else {
            bail!("cannot compute {}: it needs a generator; pass --generator or --from", metric.name);
        };
        let detector = self.detector(self.detectors.slot(metric.kind))?;
        let value = path_length::perceptual_path_length(detector, source, draws, metric.fakes)
            .with_context(|| format!("cannot compute {}", metric.name))?;
        let pictures = PictureForm {
            side: source.side() as u32,
            channels: source.channels() as u32,
            rule: "as generated".to_owned(),
        };
        Ok(Outcome {
            metric: metric.name.clone(),
            measure: format!("perceptual path length in W, {}", detector.id.features),
            values: vec![(metric.name.clone(), value)],
            detector: detector.id.clone(),
            pictures,
            fakes: metric.fakes,
            reals: None,
            warnings: Vec::new(),
        })
    }

    fn detector(&self, slot: Slot) -> Result<&Detector> {
        self.detectors.of(slot).context(
            "there is no detector to make features with; pass --detector FILE: scripts/make_detector.py makes one, the \
             README says where the one of published FIDs comes from",
        )
    }

    /// Keeps one side's features where that is asked for.
    fn save(&self, slot: Slot, side: &str, set: &FeatureSet) -> Result<()> {
        let suffix = if slot == Slot::Vgg { "-vgg" } else { "" };
        let place = |folder: &Path| -> Result<PathBuf> {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder '{}'; pass another", folder.display()))?;
            Ok(folder.join(format!("{side}{suffix}.safetensors")))
        };
        if let Some(folder) = &self.settings.save_features {
            set.save(&place(folder)?)?;
        }
        if let Some(folder) = &self.settings.save_moments {
            set.save_moments(&place(folder)?)?;
        }
        Ok(())
    }
}

/// Refuses saved features of a detector other than the loaded one.
fn ensure_detector(loaded: Option<&Detector>, id: &DetectorId) -> Result<()> {
    if let Some(loaded) = loaded {
        ensure!(
            loaded.id.sha256 == id.sha256,
            "cannot use the saved features: they are of {}, --detector is {}; pass the detector that made them",
            id.in_short(),
            loaded.id.in_short()
        );
    }
    Ok(())
}

fn ensure_enough(metrics: &[Metric], there: usize, whose: &str) -> Result<()> {
    if let Some(metric) = metrics.iter().find(|metric| metric.fakes > there) {
        bail!(
            "cannot compute {}: it is of {} pictures, {whose} {there}; ask for {there} of them, as in fid{there}_full",
            metric.name,
            metric.fakes
        );
    }
    Ok(())
}
