//! Statistics between two ticks: number, mean, standard deviation and maximum of everything reported.
//!
//! Tensors are kept on their device until a tick asks, so reporting never waits for the device.

use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

use super::objective::Logits;
use crate::tensor::world::World;

/// The statistics of one name over a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The number of values reported.
    pub num: u64,
    /// The mean of the values; one that is not finite makes it not finite.
    pub mean: f64,
    /// The standard deviation of the values, with num as the divisor.
    pub std: f64,
    /// The largest value.
    pub max: f64,
}

/// Everything reported since the last tick, by name.
#[derive(Default)]
pub struct Statistics {
    tensors: BTreeMap<String, Vec<Tensor>>,
    numbers: BTreeMap<String, Vec<f64>>,
}

/// Tensors by name, each as the bits of its values, which JSON keeps where they are not finite.
type Reports = BTreeMap<String, Vec<Vec<u32>>>;

/// A point in the reporting, kept as the number of values that each name had.
pub struct Mark {
    tensors: BTreeMap<String, usize>,
    numbers: BTreeMap<String, usize>,
}

impl Statistics {
    /// Adds every value of a tensor, of any shape, to a name.
    pub fn report(&mut self, name: &str, values: &Tensor) {
        self.tensors.entry(name.to_owned()).or_default().push(values.detach().reshape([-1]));
    }

    /// Adds logits of the discriminator, and the signs that the objective gives them.
    pub fn report_logits(&mut self, logits: &Logits, signs: &Logits) {
        for (name, values) in [("scores", logits), ("signs", signs)] {
            for (of, values) in [("fake", &values.fakes), ("real", &values.reals)] {
                if let Some(values) = values {
                    self.report(&format!("Loss/{name}/{of}"), values);
                }
            }
        }
    }

    /// Adds one value to a name.
    pub fn report_number(&mut self, name: &str, value: f64) {
        self.numbers.entry(name.to_owned()).or_default().push(value);
    }

    /// Marks the present point, which [`back_to`](Self::back_to) returns to.
    pub fn mark(&self) -> Mark {
        fn lengths<T>(all: &BTreeMap<String, Vec<T>>) -> BTreeMap<String, usize> {
            all.iter().map(|(name, values)| (name.clone(), values.len())).collect()
        }
        Mark { tensors: lengths(&self.tensors), numbers: lengths(&self.numbers) }
    }

    /// Forgets what was reported since `mark`, as when a phase is done again.
    pub fn back_to(&mut self, mark: &Mark) {
        fn cut<T>(all: &mut BTreeMap<String, Vec<T>>, lengths: &BTreeMap<String, usize>) {
            all.iter_mut().for_each(|(name, values)| values.truncate(lengths.get(name).copied().unwrap_or(0)));
            all.retain(|_, values| !values.is_empty());
        }
        cut(&mut self.tensors, &mark.tensors);
        cut(&mut self.numbers, &mark.numbers);
    }

    /// Returns the last tensors (at most `count`) that were reported under a name since the last `take`.
    pub fn last(&self, name: &str, count: usize) -> &[Tensor] {
        let all = self.tensors.get(name).map_or(&[][..], Vec::as_slice);
        &all[all.len().saturating_sub(count)..]
    }

    /// Returns everything since the last `take`, by name, in float64 on the CPU; it stays pending.
    pub fn pending(&self) -> BTreeMap<String, Tensor> {
        let mut all: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, numbers) in &self.numbers {
            all.insert(name.clone(), Tensor::from_slice(numbers));
        }
        for (name, tensors) in &self.tensors {
            let tensors: Vec<_> = tensors.iter().map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double)).collect();
            let values = Tensor::cat(&tensors, 0);
            let values =
                all.get(name).map_or_else(|| values.shallow_clone(), |first| Tensor::cat(&[first, &values], 0));
            all.insert(name.clone(), values);
        }
        all
    }

    /// Moves the tensors reported in other processes to the first one, which reports them. Every process has reported the
    /// same names equally often since the last call; the values of the processes follow one another report by report, so
    /// that the result does not depend on how often this is called. Numbers (times above all) are those of the first
    /// process.
    ///
    /// # Errors
    /// Another process has left.
    pub fn gather(&mut self, world: &World) -> Result<()> {
        if world.size() == 1 {
            return Ok(());
        }
        let own = if world.is_first() { Reports::new() } else { self.take_reports() };
        let all = world.gather(&serde_json::to_vec(&own)?)?;
        if !world.is_first() {
            self.numbers.clear();
            return Ok(());
        }
        let mut others = Vec::new();
        for bytes in &all[1..] {
            others.push(serde_json::from_slice::<Reports>(bytes).context("another process sent no statistics")?);
        }
        for (name, tensors) in &mut self.tensors {
            let reports = others.first().and_then(|reports| reports.get(name)).map_or(0, Vec::len);
            let new = tensors.split_off(tensors.len().saturating_sub(reports));
            for (at, tensor) in new.into_iter().enumerate() {
                tensors.push(tensor);
                let of_others = others.iter().filter_map(|reports| reports.get(name)?.get(at));
                tensors.extend(
                    of_others
                        .map(|bits| Tensor::from_slice(&bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>())),
                );
            }
        }
        Ok(())
    }

    /// Takes the reported tensors as the bits of float32.
    fn take_reports(&mut self) -> Reports {
        let bits = |tensor: Tensor| {
            let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float);
            let mut values = vec![0f32; tensor.numel()];
            let count = values.len();
            tensor.copy_data(&mut values, count);
            values.into_iter().map(f32::to_bits).collect()
        };
        let all = std::mem::take(&mut self.tensors);
        all.into_iter().map(|(name, tensors)| (name, tensors.into_iter().map(bits).collect())).collect()
    }

    /// Replaces everything by the values that another instance returned as pending.
    pub fn restore(&mut self, pending: BTreeMap<String, Tensor>) {
        self.numbers.clear();
        self.tensors = pending.into_iter().map(|(name, values)| (name, vec![values])).collect();
    }

    /// Summarises everything since the last call, by name, and forgets it.
    pub fn take(&mut self) -> BTreeMap<String, Summary> {
        let mut numbers = std::mem::take(&mut self.numbers);
        for (name, tensors) in std::mem::take(&mut self.tensors) {
            let tensors: Vec<_> = tensors.iter().map(|t| t.to_device(Device::Cpu).to_kind(Kind::Double)).collect();
            let all = Tensor::cat(&tensors, 0);
            let mut values = vec![0f64; all.numel()];
            let count = values.len();
            all.copy_data(&mut values, count);
            numbers.entry(name).or_default().extend(values);
        }
        numbers.into_iter().map(|(name, values)| (name, summarise(&values))).collect()
    }
}

fn summarise(values: &[f64]) -> Summary {
    let num = values.len() as f64;
    let mean = values.iter().sum::<f64>() / num;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / num;
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Summary { num: values.len() as u64, mean, std: variance.sqrt(), max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phase_reported_before_it_was_done_again_is_forgotten() {
        let mut stats = Statistics::default();
        stats.report("loss", &Tensor::from_slice(&[1.0, 2.0]));
        let mark = stats.mark();
        stats.report("loss", &Tensor::from_slice(&[3.0]));
        stats.report("new", &Tensor::from_slice(&[3.0]));
        stats.report_number("time", 1.0);
        stats.back_to(&mark);
        let taken = stats.take();
        assert_eq!(taken.keys().collect::<Vec<_>>(), ["loss"]);
        assert_eq!((taken["loss"].num, taken["loss"].mean), (2, 1.5));
    }

    #[test]
    fn what_is_pending_can_go_on_elsewhere() {
        let mut stats = Statistics::default();
        stats.report("x", &Tensor::from_slice(&[1f32, 2.0]));
        stats.report_number("y", 5.0);
        let mut other = Statistics::default();
        other.restore(stats.pending());
        for stats in [&mut stats, &mut other] {
            stats.report("x", &Tensor::from_slice(&[6f32]));
            stats.report_number("y", 7.0);
        }
        assert_eq!(stats.take(), other.take());
    }

    #[test]
    fn tensors_and_numbers_of_a_name_are_pooled() {
        let mut stats = Statistics::default();
        stats.report("x", &Tensor::from_slice(&[1f32, 2.0]));
        stats.report("x", &Tensor::from_slice(&[3f32]));
        stats.report_number("x", 6.0);
        let taken = stats.take();
        assert_eq!(taken["x"], Summary { num: 4, mean: 3.0, std: 3.5f64.sqrt(), max: 6.0 });
        assert!(stats.take().is_empty());
    }
}
