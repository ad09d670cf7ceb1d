//! Measures every snapshot during a run, and remembers the best one.

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::feed::classes_of;
use super::snapshot::BEST;
use crate::config::RunSettings;
use crate::data::Dataset;
use crate::files::atomic::{remove_if_there, write_atomically, write_json};
use crate::files::bounded::read_long_text;
use crate::latent::picture_source::{DumpDraws, PictureSource, default_batch};
use crate::metrics::{
    Detector, Detectors, EvaluateSettings, Evaluation, Fakes, FeatureCache, Outcome, RealPictures, outcome, parse_list,
};
use crate::model::Generator;
use crate::system::signals::StopRequest;
use crate::tensor::labels::ClassDistribution;
use crate::tensor::world::World;

/// Seed of the fakes, the default of `rootgan metrics` and `rootgan dump`.
const FAKES_SEED: u32 = 0;

/// The best snapshot so far, by the first metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Name of the metric.
    pub metric: String,
    /// Value of the metric.
    pub value: f64,
    /// Training images seen when it was made, in thousands.
    pub kimg: f64,
    /// File name of the snapshot's manifest.
    pub snapshot: String,
    /// SHA-256 of the detector.
    pub detector: String,
}

impl Best {
    /// Returns the images seen when it was made.
    pub fn seen_images(&self) -> u64 {
        (self.kimg * 1000.0).round() as u64
    }
}

/// Measures the averaged generator.
pub struct Evaluator {
    evaluation: Evaluation,
    classes: Option<ClassDistribution>,
    lower_is_better: bool,
}

impl Evaluator {
    /// Prepares the metrics that the settings name; None where they name none.
    ///
    /// # Errors
    /// An unknown metric, or a detector that is missing or a file of another kind.
    pub fn new(
        settings: &RunSettings,
        dataset: &Dataset,
        generator: &Generator,
        world: &Rc<World>,
        stop: &StopRequest,
    ) -> Result<Option<Self>> {
        let options = settings.effective();
        let Some(names) = options.metrics.as_deref() else {
            return Ok(None);
        };
        let metrics = parse_list(names)?;
        let device = generator.script.device;
        let load = |path: &Option<std::path::PathBuf>| path.as_deref().map(|p| Detector::load(p, device)).transpose();
        let detectors = Detectors { main: load(&options.detector)?, vgg: load(&options.vgg_detector)? };
        let lower_is_better = metrics.first().is_some_and(|first| first.formula.lower_is_better());
        let how = EvaluateSettings {
            cache: FeatureCache::default_folder(),
            world: Rc::clone(world),
            stop: stop.clone(),
            ..EvaluateSettings::default()
        };
        let evaluation = Evaluation::new(metrics, detectors, RealPictures::Pictures(settings.data.clone()), how)?;
        let classes = classes_of(dataset);
        Ok(Some(Self { evaluation, classes, lower_is_better }))
    }

    /// Computes all metrics of the averaged generator as it is. `call_others` is called before its pictures are made: of
    /// several processes all have a part in that, see [`assist`](Self::assist).
    ///
    /// # Errors
    /// Too few pictures, a detector that fails, another process that has left.
    pub fn measure(&mut self, g_ema: &Generator, call_others: impl FnOnce() -> Result<()>) -> Result<Vec<Outcome>> {
        let fakes = self.fakes(g_ema);
        self.evaluation.run_together(&fakes, call_others)
    }

    /// Helps the first process to measure.
    ///
    /// # Errors
    /// A detector that fails, here or in another process, or another process that has left.
    pub fn assist(&self, g_ema: &Generator) -> Result<()> {
        self.evaluation.assist(&self.fakes(g_ema))
    }

    fn fakes<'g>(&self, g_ema: &'g Generator) -> Fakes<'g> {
        let source = PictureSource::of_metric(g_ema, None, default_batch(g_ema.img_resolution()));
        Fakes::Generator(source, DumpDraws { seed: FAKES_SEED, classes: self.classes.clone() })
    }

    /// Returns what is worth telling about the measuring since the last call.
    pub fn take_notices(&self) -> Vec<String> {
        self.evaluation.take_notices()
    }

    /// Returns the better of the best so far and the first of `outcomes`.
    pub fn better(&self, best: Option<Best>, outcomes: &[Outcome], snapshot: &str, kimg: f64) -> Option<Best> {
        better(self.lower_is_better, best, outcomes, snapshot, kimg)
    }
}

fn better(lower_is_better: bool, best: Option<Best>, outcomes: &[Outcome], snapshot: &str, kimg: f64) -> Option<Best> {
    let Some((first, &(_, value))) = outcomes.first().and_then(|first| Some((first, first.values.first()?))) else {
        return best;
    };
    // Numbers of another metric or detector say nothing about this one.
    let best = best.filter(|old| old.metric == first.metric && old.detector == first.detector.sha256);
    let beats = |old: &Best| if lower_is_better { value < old.value } else { value > old.value };
    let replaces = value.is_finite() && best.as_ref().is_none_or(beats);
    let new = || Best {
        metric: first.metric.clone(),
        value,
        kimg,
        snapshot: snapshot.to_owned(),
        detector: first.detector.sha256.clone(),
    };
    if replaces { Some(new()) } else { best }
}

/// Adds each outcome to `metric-<name>.jsonl` in the run's folder.
///
/// # Errors
/// A file that cannot be written.
pub fn record(outcomes: &[Outcome], folder: &Path, snapshot: &str, kimg: f64, took: Duration) -> Result<()> {
    outcomes.iter().try_for_each(|outcome| {
        let mut record = outcome.record(snapshot, took);
        record["kimg"] = json!(kimg);
        outcome::append(folder, &outcome.metric, &record)
    })
}

/// Writes `best.json`, which names the best snapshot; removes it where there is none.
///
/// # Errors
/// A file that cannot be written or removed.
pub fn save_best(folder: &Path, best: Option<&Best>) -> Result<()> {
    let path = folder.join(BEST);
    match best {
        Some(best) => write_json(&path, best),
        None => remove_if_there(&path),
    }
}

/// Removes the lines of metrics of `first_images` and more, as when a run goes back to that place.
///
/// # Errors
/// A file that cannot be read or written.
pub fn forget_from(folder: &Path, first_images: u64) -> Result<()> {
    let context = || format!("cannot go on with the metrics in '{}'", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("metric-") || !name.ends_with(".jsonl") {
            continue;
        }
        let text = read_long_text(&path).with_context(context)?;
        let stays = |line: &&str| {
            // A killed process may have left half a line, which goes.
            let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
            // Lines that others added, such as `rootgan metrics`, have no such number and stay.
            line["kimg"].as_f64().is_none_or(|kimg| ((kimg * 1000.0).round() as u64) < first_images)
        };
        let kept: String = text.lines().filter(stays).map(|line| format!("{line}\n")).collect();
        if kept != text {
            write_atomically(&path, |file| Ok(file.write_all(kept.as_bytes())?))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::detector::DetectorId;
    use crate::metrics::feature_set::PictureForm;

    fn outcome(metric: &str, sha256: &str, value: f64) -> Outcome {
        let text = str::to_owned;
        Outcome {
            metric: text(metric),
            measure: text("FID"),
            values: vec![(text(metric), value)],
            detector: DetectorId { name: text("d"), sha256: text(sha256), features: text("f"), resize: text("none") },
            pictures: PictureForm { side: 16, channels: 3, rule: text("as generated") },
            fakes: 10,
            reals: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_best_stays_over_failures_and_is_compared_with_its_own_metric_only() {
        let first = better(true, None, &[outcome("fid10", "a", 3.0)], "s1", 1.0);
        assert_eq!(first.as_ref().unwrap().value, 3.0);
        let failed = better(true, first.clone(), &[], "s2", 2.0);
        let worse = better(true, failed, &[outcome("fid10", "a", 4.0)], "s3", 3.0);
        let nan = better(true, worse, &[outcome("fid10", "a", f64::NAN)], "s4", 4.0);
        assert_eq!(nan, first);
        let improved = better(true, nan, &[outcome("fid10", "a", 2.0)], "s5", 5.0);
        assert_eq!(improved.as_ref().unwrap().snapshot, "s5");
        for other in [outcome("kid10", "a", 9.0), outcome("fid10", "b", 9.0)] {
            assert_eq!(better(true, improved.clone(), &[other], "s6", 6.0).unwrap().value, 9.0);
        }
        assert_eq!(better(false, first, &[outcome("fid10", "a", 4.0)], "s7", 7.0).unwrap().value, 4.0);
    }
}
