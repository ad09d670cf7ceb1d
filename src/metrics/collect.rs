//! Makes features of pictures: those of a folder, while the next ones are decoded, or those of a generator.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use super::detector::Detector;
use super::feature_set::{FeatureSet, Needs, PictureForm, SetRecord};
use super::moments::Moments;
use crate::data::{Dataset, Loader, Sampler};
use crate::latent::picture_source::{DumpDraws, PictureSource};
use crate::system::signals::StopRequest;
use crate::system::ui::Bar;
use crate::tensor::images::ToBytes;

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
    let (side, channels) = (i64::from(dataset.resolution()), i64::from(dataset.channels()));
    let bar = Bar::new(count as u64, &format!("features of {}", dataset.name()));
    let mut loader = Loader::new(dataset, order, batch, 0, PREFETCH)?;
    for first in (0..count).step_by(batch) {
        stop.check()?;
        let pixels = loader.next()?.pixels;
        let used = batch.min(count - first) as i64;
        let pixels = Tensor::from_data_size(&pixels, &[batch as i64, channels, side, side], Kind::Uint8);
        collectors.add(&pixels.narrow(0, 0, used))?;
        bar.inc(used as u64);
    }
    bar.finish();
    Ok(collectors.finish(&form, Some(total)))
}

/// Makes features of the first pictures of a dump, one set per detector.
///
/// # Errors
/// The generator or the detector fails; a signal.
pub fn of_generator(
    needs: &[(&Detector, &Needs)],
    source: &PictureSource<'_>,
    draws: &DumpDraws,
    form: PictureForm,
    stop: &StopRequest,
) -> Result<Vec<FeatureSet>> {
    let mut collectors = Collectors::new(needs);
    let count = collectors.expected;
    let batches: Vec<_> = source.batches(count).collect();
    let bar = Bar::new(count as u64, "features of fakes");
    source.each(
        &batches,
        ToBytes::Metric,
        |range| draws.latents(source, range),
        |_, pixels| {
            stop.check()?;
            collectors.add(pixels)?;
            bar.inc(pixels.size()[0] as u64);
            Ok(true)
        },
    )?;
    bar.finish();
    Ok(collectors.finish(&form, None))
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

    /// Adds u8 pixels [n, C, H, W] of any device.
    fn add(&mut self, pixels: &Tensor) -> Result<()> {
        let pixels = to_rgb(pixels);
        self.each.iter_mut().try_for_each(|collector| collector.add(&pixels.to_device(collector.detector.device())))
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

    /// Adds u8 pixels [n, 3, H, W] on the detector's device.
    fn add(&mut self, pixels: &Tensor) -> Result<()> {
        let (first, n) = (self.count, pixels.size()[0] as usize);
        self.count += n;
        if first < self.needs.features.max(self.needs.moments.last().copied().unwrap_or(0)) {
            let rows = self.detector.features(pixels).with_context(|| self.place(first))?;
            self.add_moments(first, &rows);
            keep(&mut self.features, &rows, first, self.needs.features);
        }
        if first < self.needs.probabilities {
            let rows = self.detector.probabilities(pixels).with_context(|| self.place(first))?;
            keep(&mut self.probabilities, &rows, first, self.needs.probabilities);
        }
        Ok(())
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
