//! Measures pictures or a generator: finds which features the metrics need, makes them once for all, and compares.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::cache::{FeatureCache, Found};
use super::collect::{of_dataset, of_generator};
use super::compute;
use super::detector::{Detector, DetectorId};
use super::detectors::{Detectors, Slot};
use super::feature_set::{FeatureSet, Needs, PictureForm, ensure_comparable, ensure_same_form};
use super::name::Metric;
use super::outcome::Outcome;
use super::path_length;
use crate::data::{Dataset, DatasetOptions, Pictures, Sampler};
use crate::latent::picture_source::{DumpDraws, PictureSource};
use crate::system::signals::StopRequest;
use crate::tensor::world::World;

/// The rule by which real pictures come to their size, for records.
const LANCZOS: &str = "centre crop, Lanczos";
/// Seed of the order in which real pictures come, so that fewer of them are a random part.
const REALS_ORDER: u64 = 0;

/// The pictures that a metric compares with.
pub enum RealPictures {
    /// No real pictures, which is enough for inception score and path length.
    None,
    /// A folder or zip of pictures.
    Pictures(PathBuf),
    /// Saved features of real pictures.
    Features(Box<FeatureSet>),
}

/// The pictures that a metric judges.
pub enum Fakes<'a> {
    /// Pictures that a generator makes, in the way of `rootgan dump`.
    Generator(PictureSource<'a>, DumpDraws),
    /// A folder or zip of pictures, in the order of the names.
    Pictures(PathBuf),
    /// Saved features of the pictures.
    Features(FeatureSet),
}

/// The metrics of one detector, and what they need of the fakes.
struct Job {
    slot: Slot,
    metrics: Vec<Metric>,
    needs: Needs,
}

/// An evaluation: the metrics, and the pictures that they compare with. It may be run again and again on other fakes;
/// the features of the real pictures are made once.
pub struct Evaluation {
    metrics: Vec<Metric>,
    detectors: Detectors,
    reals: RealPictures,
    settings: EvaluateSettings,
    /// Features of real pictures that were made or loaded before.
    known: HashMap<Slot, FeatureSet>,
    notices: RefCell<Vec<String>>,
}

/// The settings of an evaluation.
#[derive(Clone, Debug)]
pub struct EvaluateSettings {
    /// Side of the pictures where there is no generator to decide it; None takes the pictures' own.
    pub resolution: Option<u32>,
    /// Number of decoded pictures that a detector gets at a time.
    pub batch: usize,
    /// Seed of the subsets of the kernel distance.
    pub seed: u32,
    /// A folder in which features of real pictures are kept; None keeps none.
    pub cache: Option<PathBuf>,
    /// Folder to which the features of both sides are written.
    pub save_features: Option<PathBuf>,
    /// Folder to which the moments of both sides are written.
    pub save_moments: Option<PathBuf>,
    /// The processes that look at a generator's pictures together.
    pub world: Rc<World>,
    /// Request that ends the measuring with [`Interrupted`](crate::system::signals::Interrupted).
    pub stop: StopRequest,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        Self {
            resolution: None,
            batch: 32,
            seed: 0,
            cache: None,
            save_features: None,
            save_moments: None,
            world: Rc::new(World::alone()),
            stop: StopRequest::default(),
        }
    }
}

impl Evaluation {
    /// Prepares an evaluation, after checking that the metrics have what they need.
    ///
    /// # Errors
    /// No metric, one that needs real pictures where there are none, or a batch of 0.
    pub fn new(
        metrics: Vec<Metric>,
        detectors: Detectors,
        reals: RealPictures,
        settings: EvaluateSettings,
    ) -> Result<Self> {
        ensure!(!metrics.is_empty(), "no metric is named; pass for instance --metrics fid50k_full");
        ensure!(settings.batch > 0, "cannot measure pictures 0 at a time; pass --batch 1 or more");
        if let (RealPictures::None, Some(metric)) = (&reals, metrics.iter().find(|metric| metric.formula.needs_reals()))
        {
            bail!(
                "cannot compute {}: it needs real pictures; pass --data DIR_OR_ZIP or --data-features FILE",
                metric.name
            );
        }
        Ok(Self { metrics, detectors, reals, settings, known: HashMap::new(), notices: RefCell::default() })
    }

    /// Helps the first of several processes, which calls [`run_together`](Self::run_together), to look at a generator's pictures.
    ///
    /// # Errors
    /// The generator or a detector fails, here or in another process; another process has left.
    pub fn assist(&self, fakes: &Fakes) -> Result<()> {
        let jobs = self.jobs();
        if !jobs.is_empty() {
            self.make_fakes(&jobs, fakes, self.form(fakes)?)?;
        }
        Ok(())
    }

    /// Computes all metrics of these fakes, in the order in which they were asked for.
    ///
    /// # Errors
    /// Pictures, a generator or a detector that fail; too few pictures; features of different detectors.
    pub fn run(&mut self, fakes: &Fakes) -> Result<Vec<Outcome>> {
        self.run_together(fakes, || Ok(()))
    }

    /// Computes all metrics as [`run`](Self::run) does, in the first of several processes. `call_others` has the others
    /// [`assist`](Self::assist); it is called when everything is ready for features of the fakes.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), those of `call_others`, or another process that fails.
    pub fn run_together(&mut self, fakes: &Fakes, call_others: impl FnOnce() -> Result<()>) -> Result<Vec<Outcome>> {
        self.check(fakes)?;
        let jobs = self.jobs();
        let mut outcomes = Vec::new();
        if !jobs.is_empty() {
            // The real pictures come first: what is wrong with them shows before fakes are made.
            let form = self.form(fakes)?;
            for job in &jobs {
                self.ready_reals(job, &form)?;
            }
            call_others()?;
            let made = self.make_fakes(&jobs, fakes, form)?;
            for (place, job) in jobs.iter().enumerate() {
                let set = if let Fakes::Features(set) = fakes { set } else { &made[place] };
                self.save(job.slot, "fakes", set, &job.needs)?;
                outcomes.extend(self.compare(job, set)?);
            }
        }
        self.in_order(outcomes, fakes)
    }

    /// Takes what is worth telling of the runs since the last call: pictures that were left out, a cache that failed.
    pub fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    fn note(&self, line: String) {
        self.notices.borrow_mut().push(line);
    }

    /// Refuses what would fail after long work.
    fn check(&self, fakes: &Fakes) -> Result<()> {
        for metric in &self.metrics {
            let (formula, detector) = (metric.formula, || self.detectors.need(self.detectors.slot(metric.formula)));
            let checked = match fakes {
                Fakes::Generator(source, _) if formula.walks_latents() && source.generator.spec().is_none() => {
                    Err(anyhow!("'{}' only takes z: it has no W", source.generator.script.path.display()))
                }
                Fakes::Generator(..) if formula.walks_latents() => detector().and_then(Detector::ensure_perceptual),
                _ if formula.walks_latents() => Err(anyhow!("it needs a generator; pass --generator or --from")),
                Fakes::Generator(..) | Fakes::Pictures(_) if formula.needs_classes() => {
                    detector().and_then(Detector::ensure_classes)
                }
                _ => Ok(()),
            };
            checked.with_context(|| format!("cannot compute {}", metric.name))?;
        }
        Ok(())
    }

    /// Groups the metrics that need features by detector.
    fn jobs(&self) -> Vec<Job> {
        let of_slot = |slot: Slot| {
            let chosen = self
                .metrics
                .iter()
                .filter(|metric| !metric.formula.walks_latents() && self.detectors.slot(metric.formula) == slot);
            let metrics: Vec<Metric> = chosen.cloned().collect();
            let mut needs = Needs::default();
            metrics.iter().for_each(|metric| compute::fake_needs(metric, &mut needs));
            (!metrics.is_empty()).then(|| Job { slot, metrics, needs: self.with_saved(needs) })
        };
        Slot::ALL.into_iter().filter_map(of_slot).collect()
    }

    /// Adds what the files of `save_features` and `save_moments` hold.
    fn with_saved(&self, mut needs: Needs) -> Needs {
        let pictures = needs.pictures();
        if self.settings.save_features.is_some() {
            needs.features = pictures;
        }
        if self.settings.save_moments.is_some() && pictures > 0 {
            needs.moments.insert(pictures);
        }
        needs
    }

    /// Puts outcomes into the order in which they were asked for, and computes those that need a generator and no
    /// features.
    fn in_order(&self, mut outcomes: Vec<Outcome>, fakes: &Fakes) -> Result<Vec<Outcome>> {
        let one = |metric: &Metric| match outcomes.iter().position(|outcome| outcome.metric == metric.name) {
            Some(place) => Ok(outcomes.swap_remove(place)),
            None => self.path_length(metric, fakes),
        };
        self.metrics.iter().map(one).collect()
    }

    fn compare(&self, job: &Job, fakes: &FeatureSet) -> Result<Vec<Outcome>> {
        let reals = match &self.reals {
            RealPictures::Features(set) => Some(&**set),
            _ => self.known.get(&job.slot),
        };
        if let Some(reals) = reals {
            ensure_comparable(&reals.record, &fakes.record)?;
        }
        let seed = u64::from(self.settings.seed);
        job.metrics.iter().map(|metric| compute::outcome(metric, reals, fakes, seed)).collect()
    }

    /// Returns the size, channels and resizing rule of the pictures that detectors get.
    fn form(&self, fakes: &Fakes) -> Result<PictureForm> {
        Ok(match fakes {
            Fakes::Features(set) => set.record.pictures.clone(),
            Fakes::Generator(source, _) => generated(source),
            Fakes::Pictures(root) => {
                let side = match (self.settings.resolution, &self.reals) {
                    (Some(side), _) => side,
                    (None, RealPictures::Features(set)) => set.record.pictures.side,
                    (None, RealPictures::Pictures(reals)) => common_side(root, reals)?,
                    (None, RealPictures::None) => Pictures::open(root)?.common_side()?,
                };
                PictureForm { side, channels: 3, rule: LANCZOS.to_owned() }
            }
        })
    }

    /// Makes the features of the real pictures that a job needs, unless they are known already.
    fn ready_reals(&mut self, job: &Job, form: &PictureForm) -> Result<()> {
        if let RealPictures::Features(set) = &self.reals {
            self.detectors.ensure_same(job.slot, &set.record.detector)?;
            ensure_same_form(&set.record.pictures, form)?;
            for metric in &job.metrics {
                set.ensure_satisfies(&compute::real_needs(std::slice::from_ref(metric), set.record.total()))
                    .with_context(|| format!("cannot compute {}", metric.name))?;
            }
        }
        let needed =
            job.metrics.iter().any(|metric| metric.formula.needs_reals()) && !self.known.contains_key(&job.slot);
        let made = if needed { self.make_reals(job.slot, &job.metrics, form)? } else { None };
        if let Some(set) = made {
            let needs = self.with_saved(compute::real_needs(&job.metrics, set.record.total()));
            self.save(job.slot, "reals", &set, &needs)?;
            self.known.insert(job.slot, set);
        }
        Ok(())
    }

    /// Makes one set of features per job; none where features are given.
    fn make_fakes(&self, jobs: &[Job], fakes: &Fakes, form: PictureForm) -> Result<Vec<FeatureSet>> {
        let needs = || -> Result<Vec<(&Detector, &Needs)>> {
            jobs.iter().map(|job| Ok((self.detectors.need(job.slot)?, &job.needs))).collect()
        };
        match fakes {
            Fakes::Features(set) => {
                for job in jobs {
                    self.detectors.ensure_same(job.slot, &set.record.detector)?;
                    ensure_enough(&job.metrics, set.record.count, "the saved features are of")?;
                }
                Ok(Vec::new())
            }
            Fakes::Pictures(root) => {
                let needs = needs()?;
                let dataset = self.open(root, &form)?;
                for job in jobs {
                    ensure_enough(&job.metrics, dataset.len(), &format!("'{}' has", root.display()))?;
                }
                let order = Sampler::in_order(dataset.len());
                of_dataset(&needs, dataset, order, form, self.settings.batch, &self.settings.stop)
            }
            Fakes::Generator(source, draws) => {
                of_generator(&needs()?, source, draws, form, &self.settings.world, &self.settings.stop)
            }
        }
    }

    /// Returns the features of the real pictures, out of the cache or made; None where there are no pictures to make
    /// them of.
    fn make_reals(&self, slot: Slot, metrics: &[Metric], form: &PictureForm) -> Result<Option<FeatureSet>> {
        let RealPictures::Pictures(root) = &self.reals else {
            return Ok(None);
        };
        let detector = self.detectors.need(slot)?;
        let form = PictureForm { rule: LANCZOS.to_owned(), ..form.clone() };
        let cached = self.settings.cache.as_deref().map(|folder| -> Result<_> {
            let content = Pictures::open(root)?.content_sha256(&self.settings.stop)?;
            let cache = FeatureCache::at(folder);
            let path = cache.path(&content, &detector.id.sha256, &form, &format!("shuffled {REALS_ORDER}"));
            Ok((cache, path))
        });
        let cached = cached.transpose()?;
        let needs_of = |total: usize| self.with_saved(compute::real_needs(metrics, total));
        let mut held = Needs::default();
        if let Some((cache, path)) = &cached {
            match cache.find(path, |record| needs_of(record.total())) {
                Found::All(set) => {
                    self.note(format!("features of '{}' are in the cache", root.display()));
                    return Ok(Some(*set));
                }
                Found::Less(less) => held = less,
                Found::Damaged(why) => self.note(format!("warning: {why}; these features were computed again")),
                Found::Nothing => {}
            }
        }
        let dataset = self.open(root, &form)?;
        let total = dataset.len();
        let order = Sampler::new(total, false, REALS_ORDER);
        let needs = needs_of(total).union(&held);
        let sets = of_dataset(&[(detector, &needs)], dataset, order, form, self.settings.batch, &self.settings.stop)?;
        let mut set = sets.into_iter().next().context("there is one set per detector")?;
        if let Some((cache, path)) = cached
            && let Err(error) = cache.store(&path, &mut set)
        {
            self.note(format!("warning: {error:#}"));
        }
        Ok(Some(set))
    }

    fn open(&self, root: &Path, form: &PictureForm) -> Result<Arc<Dataset>> {
        let options = DatasetOptions { resolution: form.side, channels: form.channels, ..DatasetOptions::default() };
        let (dataset, report) = Dataset::open_until(root, &options, &self.settings.stop)?;
        if !report.unreadable.is_empty() {
            report.summary().into_iter().for_each(|line| self.note(line));
        }
        Ok(Arc::new(dataset))
    }

    fn path_length(&self, metric: &Metric, fakes: &Fakes) -> Result<Outcome> {
        let Fakes::Generator(source, draws) = fakes else {
            bail!("cannot compute {}: it needs a generator", metric.name);
        };
        let detector = self.detectors.need(self.detectors.slot(metric.formula))?;
        let value = path_length::perceptual_path_length(detector, source, draws, metric.fakes, &self.settings.stop)
            .with_context(|| format!("cannot compute {}", metric.name))?;
        Ok(Outcome {
            metric: metric.name.clone(),
            measure: format!("perceptual path length in W, {}", detector.id.features),
            values: vec![(metric.name.clone(), value)],
            detector: DetectorId { resize: path_length::RESIZE.to_owned(), ..detector.id.clone() },
            pictures: generated(source),
            fakes: metric.fakes,
            reals: None,
            warnings: Vec::new(),
        })
    }

    /// Writes one side's features, and the moments that are needed of it, where that is asked for.
    fn save(&self, slot: Slot, side: &str, set: &FeatureSet, needs: &Needs) -> Result<()> {
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
            set.save_moments(&place(folder)?, &needs.moments)?;
        }
        Ok(())
    }
}

/// Returns the size that the pictures of two folders share.
fn common_side(fakes: &Path, reals: &Path) -> Result<u32> {
    let (of_fakes, of_reals) = (Pictures::open(fakes)?.common_side()?, Pictures::open(reals)?.common_side()?);
    ensure!(
        of_fakes == of_reals,
        "cannot compare '{}' ({of_fakes}x{of_fakes}) with '{}' ({of_reals}x{of_reals}): pass --resolution to bring both \
         to one size",
        fakes.display(),
        reals.display()
    );
    Ok(of_fakes)
}

/// Describes the pictures of a generator.
fn generated(source: &PictureSource<'_>) -> PictureForm {
    let (side, channels) = (source.side() as u32, source.channels() as u32);
    PictureForm { side, channels, rule: "as generated".to_owned() }
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
