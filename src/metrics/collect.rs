//! Makes features of pictures: those of a folder, while the next ones are decoded, or those of a generator.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Error, Result, ensure};
use tch::{Kind, Tensor};

use super::by_rank::{DetectorRows, exchanged};
use super::detector::Detector;
use super::feature_set::{FeatureSet, Needs, PictureForm, SetRecord};
use super::moments::Moments;
use crate::data::{Dataset, Loader, Sampler};
use crate::latent::picture_source::{DumpDraws, PictureSource};
use crate::system::signals::StopRequest;
use crate::system::ui::Bar;
use crate::tensor::caught;
use crate::tensor::images::ToBytes;
use crate::tensor::world::World;

/// The number of decoded batches that wait for a detector.
const PREFETCH: usize = 3;

/// Makes features of the first pictures that a sampler draws from a data set, one set per detector.
///
/// # Errors
/// Fewer pictures than needed, one that cannot be read any more, or a detector that fails; a signal.
pub fn of_dataset(
    needs: &[(&Detector, &Needs)],
    dataset: Arc<Dataset>,
    order: Sampler,
    form: PictureForm,
    batch: usize,
    stop: &StopRequest,
) -> Result<Vec<FeatureSet>> {
    let mut collectors = Collectors::new(needs);
    let (count, total) = (collectors.expected, dataset.len());
    ensure!(count <= total, "{count} pictures are needed, there are {total}");
    let batch = batch.min(count.max(1));
    let (side, channels) = (i64::from(dataset.resolution()), i64::from(dataset.channels()));
    let bar = Bar::new(count as u64, &format!("features of {}", dataset.name()));
    let mut loader = Loader::new(dataset, order, batch, 0, PREFETCH)?;
    for first in (0..count).step_by(batch) {
        stop.check()?;
        let pixels = loader.next()?.pixels;
        let used = batch.min(count - first);
        let pixels = Tensor::from_data_size(&pixels, &[batch as i64, channels, side, side], Kind::Uint8);
        let rows = collectors.look(first, &pixels.narrow(0, 0, used as i64))?;
        collectors.add(first..first + used, rows);
        bar.inc(used as u64);
    }
    bar.finish();
    Ok(collectors.finish(&form, Some(total)))
}

/// Makes features of the first pictures of a dump, one set per detector. Of several processes each looks at every
/// `size`-th batch; the first one puts the rows together in order, so that the sets are those of one process, bit for
/// bit, and the others return empty ones.
///
/// # Errors
/// The generator or the detector fails in any process; a signal.
pub fn of_generator(
    needs: &[(&Detector, &Needs)],
    source: &PictureSource<'_>,
    draws: &DumpDraws,
    form: PictureForm,
    world: &World,
    stop: &StopRequest,
) -> Result<Vec<FeatureSet>> {
    let collectors = Collectors::new(needs);
    let batches: Vec<_> = source.batches(collectors.expected).collect();
    let bar = Bar::new(collectors.expected as u64, "features of fakes");
    let mut rounds = Rounds { collectors, world, rest: &batches, all_know: false };
    let own: Vec<_> = batches.iter().skip(world.rank() as usize).step_by(world.size() as usize).cloned().collect();
    let take = |first: usize, pixels: &Tensor| {
        let looked = stop.check().map_err(Error::from).and_then(|()| rounds.collectors.look(first, pixels));
        bar.inc(rounds.exchange(looked)?);
        Ok(true)
    };
    let made = caught(|| source.each(&own, ToBytes::Metric, |range| draws.latents(source, range), take));
    match made {
        // The generator failed; the others wait for rows.
        Err(error) if !rounds.all_know => rounds.exchange(Err(error)).map(drop)?,
        made => made?,
    }
    if !rounds.rest.is_empty() {
        // The last round has no batch for this process.
        bar.inc(rounds.exchange(Ok(Vec::new()))?);
    }
    bar.finish();
    Ok(rounds.collectors.finish(&form, None))
}

/// The batches of a dump in rounds of one batch for each process.
struct Rounds<'a, 'd> {
    collectors: Collectors<'d>,
    world: &'a World,
    /// The batches that no process has looked at.
    rest: &'a [Range<usize>],
    /// Whether all processes know that one has failed.
    all_know: bool,
}

impl Rounds<'_, '_> {
    /// Ends a round with the rows of this process; returns the number of pictures that it was about.
    fn exchange(&mut self, own: Result<Vec<DetectorRows>>) -> Result<u64> {
        let (round, rest) = self.rest.split_at(self.rest.len().min(self.world.size() as usize));
        self.rest = rest;
        let all = exchanged(self.world, round, own).inspect_err(|_| self.all_know = true)?;
        let keeps = self.world.is_first();
        for (range, rows) in round.iter().zip(all).filter(|_| keeps) {
            self.collectors.add(range.clone(), rows);
        }
        Ok(round.iter().map(|range| range.len() as u64).sum())
    }
}

/// Several detectors that look at the same pictures.
struct Collectors<'a> {
    each: Vec<Collector<'a>>,
    expected: usize,
}

impl<'a> Collectors<'a> {
    fn new(needs: &[(&'a Detector, &'a Needs)]) -> Self {
        let each: Vec<_> = needs.iter().map(|(detector, needs)| Collector::new(detector, needs)).collect();
        let expected = each.iter().map(|collector| collector.expected).max().unwrap_or(0);
        Self { each, expected }
    }

    /// Looks at u8 pixels [n, C, H, W] of any device, the first of which is picture `first`.
    fn look(&self, first: usize, pixels: &Tensor) -> Result<Vec<DetectorRows>> {
        let pixels = to_rgb(pixels);
        self.each
            .iter()
            .map(|collector| collector.look(first, &pixels.to_device(collector.detector.device())))
            .collect()
    }

    /// Adds the rows of the next pictures.
    fn add(&mut self, range: Range<usize>, rows: Vec<DetectorRows>) {
        self.each.iter_mut().zip(rows).for_each(|(collector, rows)| collector.add(range.clone(), &rows));
    }

    fn finish(self, form: &PictureForm, out_of: Option<usize>) -> Vec<FeatureSet> {
        self.each.into_iter().map(|collector| collector.finish(form.clone(), out_of)).collect()
    }
}

/// Repeats grey pictures to the three channels that detectors want: [N, 1 or 3, H, W] -> [N, 3, H, W].
pub fn to_rgb(images: &Tensor) -> Tensor {
    if images.size()[1] == 1 { images.repeat([1, 3, 1, 1]) } else { images.shallow_clone() }
}

/// One detector, and the features that it has made so far.
struct Collector<'a> {
    detector: &'a Detector,
    needs: &'a Needs,
    expected: usize,
    count: usize,
    running: Option<Moments>,
    moments: BTreeMap<usize, Moments>,
    features: Vec<Tensor>,
    probabilities: Vec<Tensor>,
}

impl<'a> Collector<'a> {
    fn new(detector: &'a Detector, needs: &'a Needs) -> Self {
        let expected = needs.pictures();
        let (moments, features, probabilities) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { detector, needs, expected, count: 0, running: None, moments, features, probabilities }
    }

    /// Looks at u8 pixels [n, 3, H, W] on the detector's device, for as much as is needed of them.
    fn look(&self, first: usize, pixels: &Tensor) -> Result<DetectorRows> {
        let needs = self.needs;
        let with_features = first < needs.features.max(needs.moments.last().copied().unwrap_or(0));
        let features = with_features.then(|| self.detector.features(pixels)).transpose();
        let with_probabilities = first < needs.probabilities;
        let probabilities = with_probabilities.then(|| self.detector.probabilities(pixels)).transpose();
        Ok(DetectorRows {
            features: features.with_context(|| self.place(first))?,
            probabilities: probabilities.with_context(|| self.place(first))?,
        })
    }

    /// Adds the rows of the pictures that follow those added before.
    fn add(&mut self, range: Range<usize>, rows: &DetectorRows) {
        self.count = range.end;
        if let Some(rows) = &rows.features {
            self.add_moments(range.start, rows);
            keep(&mut self.features, rows, range.start, self.needs.features);
        }
        if let Some(rows) = &rows.probabilities {
            keep(&mut self.probabilities, rows, range.start, self.needs.probabilities);
        }
    }

    fn place(&self, first: usize) -> String {
        format!("cannot measure the pictures from number {first} on, of {}", self.expected)
    }

    /// Adds rows to the running moments, and keeps a copy at each number of pictures whose moments are needed.
    fn add_moments(&mut self, first: usize, rows: &Tensor) {
        let mut done = first;
        for &stop in self.needs.moments.range(first + 1..) {
            let running = self.running.get_or_insert_with(|| Moments::new(rows.size()[1], rows.device()));
            let end = stop.min(self.count);
            running.add(&rows.narrow(0, (done - first) as i64, (end - done) as i64));
            done = end;
            if end < stop {
                break;
            }
            self.moments.insert(stop, running.copy());
            if end == self.count {
                break;
            }
        }
    }

    fn finish(self, pictures: PictureForm, out_of: Option<usize>) -> FeatureSet {
        let joined = |parts: Vec<Tensor>| (!parts.is_empty()).then(|| Tensor::cat(&parts, 0));
        FeatureSet {
            record: SetRecord {
                detector: self.detector.id.clone(),
                pictures,
                count: self.count.min(self.expected),
                out_of,
                cache_key: None,
            },
            moments: self.moments,
            features: joined(self.features),
            probabilities: joined(self.probabilities),
        }
    }
}

/// Keeps the rows of the first `wanted` pictures, counted over all batches.
fn keep(parts: &mut Vec<Tensor>, rows: &Tensor, first: usize, wanted: usize) {
    let used = wanted.saturating_sub(first).min(rows.size()[0] as usize);
    if used > 0 {
        parts.push(rows.narrow(0, 0, used as i64));
    }
}
