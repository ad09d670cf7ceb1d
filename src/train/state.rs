//! The state of a trainer, to be kept and put back: every tensor that training changes, and the counters.
//!
//! Random streams need no state: they are derived from seed, iteration and phase.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::optimizer::{Adam, AdamState};
use super::stats::Statistics;
use super::trainer::Trainer;
use crate::model::ScriptModule;
use crate::tensor::device::upload;
use crate::tensor::finite::all_finite;
use crate::tensor::images::bytes;
use crate::tensor::no_grad;

/// Counters and numbers of a trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerRecord {
    /// Iterations done.
    pub iteration: u64,
    /// Real images seen.
    pub seen_images: u64,
    /// The augmentation's probability.
    pub augment_p: f64,
    /// Steps taken by the generator's and by the discriminator's optimiser.
    pub adam_steps: [i32; 2],
    /// Skipped steps in a row, by phase.
    #[serde(rename = "bad_steps")]
    pub skipped_steps: [u64; 4],
    /// The factor of the learning rates, as in [`Trainer::lr_scale`].
    pub lr_scale: f64,
    /// Images computed at once, which can have become fewer than the settings say.
    pub micro_batch: u64,
    /// The micro-batch of the settings.
    pub micro_batch_asked: u64,
}

impl TrainerRecord {
    /// Whether these numbers can be those of a trainer.
    pub fn is_plausible(&self) -> bool {
        (0.0..=1.0).contains(&self.augment_p)
            && self.lr_scale > 0.0
            && self.lr_scale <= 1.0
            && self.micro_batch > 0
            && self.adam_steps.iter().all(|&steps| steps >= 0)
    }
}

/// Name of the signs that wait for ADA's next adjustment.
const SIGNS: &str = "ada.signs";

/// Tensors by name, as a checkpoint holds them.
pub type Tensors = BTreeMap<String, Tensor>;

impl Trainer {
    /// Returns everything that training has changed, as views, with the statistics that wait for the next tick.
    pub fn state(&self, statistics: &Statistics) -> (TrainerRecord, Tensors) {
        let mut tensors = Tensors::new();
        for (network, script) in self.scripts() {
            for parameter in &script.parameters {
                tensors.insert(format!("{network}.{}", parameter.name), parameter.tensor.detach());
            }
        }
        let adams = [("g", self.g_adam.state()), ("d", self.d_adam.state())];
        let adam_steps = [adams[0].1.steps, adams[1].1.steps];
        for (network, state) in adams {
            tensors.insert(format!("adam.{network}.square"), state.square);
            tensors.extend(state.mean.map(|mean| (format!("adam.{network}.mean"), mean)));
        }
        tensors.insert("pl_mean".to_owned(), self.pl_mean.pl_mean.shallow_clone());
        tensors.extend(self.ada.pending().map(|signs| (SIGNS.to_owned(), signs)));
        tensors.extend(statistics.pending().into_iter().map(|(name, values)| (format!("stats.{name}"), values)));
        let record = TrainerRecord {
            iteration: self.iteration,
            seen_images: self.seen_images,
            augment_p: self.augment_p(),
            adam_steps,
            skipped_steps: self.guard.skipped_in_a_row,
            lr_scale: self.lr_scale,
            micro_batch: self.micro_batch,
            micro_batch_asked: self.settings.micro_batch,
        };
        (record, tensors)
    }

    /// Whether it is worth going back to this state: the newest step of each phase was taken, and all trained
    /// parameters are finite.
    pub fn is_sound(&self) -> bool {
        self.guard.skipped_in_a_row == [0; 4]
            && all_finite(&self.networks.g_flat.values)
            && all_finite(&self.networks.d_flat.values)
    }

    /// Takes over a state that [`state`](Self::state) returned.
    ///
    /// # Errors
    /// Tensors of other networks, or missing ones.
    pub fn restore(&mut self, statistics: &mut Statistics, record: &TrainerRecord, mut tensors: Tensors) -> Result<()> {
        for (network, script) in self.scripts() {
            for parameter in &script.parameters {
                let stored = take(&mut tensors, &format!("{network}.{}", parameter.name))?;
                copy_to(&parameter.tensor, &stored, &parameter.name)?;
            }
        }
        let [g_steps, d_steps] = record.adam_steps;
        restore_adam(&mut self.g_adam, &mut tensors, "g", g_steps)?;
        restore_adam(&mut self.d_adam, &mut tensors, "d", d_steps)?;
        copy_to(&self.pl_mean.pl_mean, &take(&mut tensors, "pl_mean")?, "pl_mean")?;
        let device = self.networks.g.script.device;
        self.ada.restore(record.augment_p, tensors.remove(SIGNS).map(|signs| signs.to_device(device)));
        let pending =
            tensors.into_iter().filter_map(|(name, values)| Some((name.strip_prefix("stats.")?.to_owned(), values)));
        statistics.restore(pending.collect());
        (self.iteration, self.seen_images) = (record.iteration, record.seen_images);
        self.guard.forget(record.skipped_steps);
        self.lr_scale = record.lr_scale;
        // A smaller micro-batch is taken over only where the settings ask for the same one as before.
        let stored = record.micro_batch.max(1);
        if record.micro_batch_asked == self.settings.micro_batch
            && self.settings.batch.is_multiple_of(stored * self.world.size())
        {
            self.micro_batch = stored;
        }
        Ok(())
    }

    /// Gives every process the state of the first one.
    ///
    /// # Errors
    /// Another process has left, or has other networks.
    pub fn follow_first(&mut self, statistics: &mut Statistics) -> Result<()> {
        let world = Rc::clone(&self.world);
        if world.size() == 1 {
            return Ok(());
        }
        let (record, tensors) = self.common_state();
        let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.size())).collect();
        let own = serde_json::to_string(&shapes)?;
        let first = world.share(own.as_bytes(), 0)?;
        let fits = world.gather(&[u8::from(first == own.as_bytes())])?;
        ensure!(
            fits.iter().all(|fits| fits == &[1]),
            "the processes have loaded different networks; pass the same files to all"
        );
        for tensor in tensors.values() {
            world.broadcast_(tensor, 0)?;
        }
        let record: TrainerRecord = serde_json::from_slice(&world.share(&serde_json::to_vec(&record)?, 0)?)?;
        if world.is_first() {
            return Ok(());
        }
        self.restore(statistics, &record, tensors)?;
        self.micro_batch = record.micro_batch;
        Ok(())
    }

    /// Returns the state that all processes have in common, as views: all but statistics and signs, which are of a process's
    /// own images.
    fn common_state(&self) -> (TrainerRecord, Tensors) {
        let (record, mut tensors) = self.state(&Statistics::default());
        tensors.remove(SIGNS);
        (record, tensors)
    }

    /// Returns a SHA-256 over everything that all processes have in common: weights, averages and the optimisers' state.
    pub fn fingerprint(&self) -> Vec<u8> {
        let (record, tensors) = self.common_state();
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&record).expect("numbers are JSON"));
        for tensor in tensors.values() {
            hash.update(bytes(&tensor.to_device(Device::Cpu).contiguous().flatten(0, -1).view_dtype(Kind::Uint8)));
        }
        hash.finalize().to_vec()
    }

    /// Moves the waiting statistics and signs of all processes to the first one, which tells and keeps them.
    ///
    /// # Errors
    /// Another process has left.
    pub fn gather(&mut self, statistics: &mut Statistics) -> Result<()> {
        if self.world.size() > 1 {
            // A sign is -1, 0 or 1: 0, 1 or 2 as a byte.
            let own = self.ada.take_signs().map_or_else(Vec::new, |signs| bytes(&(signs + 1.0).to_kind(Kind::Uint8)));
            let mut all = self.world.gather(&own)?.concat();
            if self.world.is_first() && !all.is_empty() {
                // Only their sum counts; sorted, they do not tell how often this was called before.
                all.sort_unstable();
                let signs: Vec<f32> = all.into_iter().map(|byte| f32::from(byte) - 1.0).collect();
                self.ada.collect(vec![upload(&Tensor::from_slice(&signs), self.networks.g.script.device)]);
            }
        }
        statistics.gather(&self.world)
    }

    fn scripts(&self) -> [(&'static str, &ScriptModule); 3] {
        let n = &self.networks;
        [("G", &n.g.script), ("G_ema", &n.g_ema.script), ("D", &n.d.script)]
    }
}

fn restore_adam(adam: &mut Adam, tensors: &mut Tensors, network: &str, steps: i32) -> Result<()> {
    let mean = tensors.remove(&format!("adam.{network}.mean"));
    let square = take(tensors, &format!("adam.{network}.square"))?;
    adam.restore(&AdamState { mean, square, steps })
        .context("the checkpoint does not fit: was a --freeze option changed?")
}

fn take(tensors: &mut Tensors, name: &str) -> Result<Tensor> {
    tensors.remove(name).with_context(|| format!("the checkpoint has no '{name}'"))
}

fn copy_to(target: &Tensor, source: &Tensor, name: &str) -> Result<()> {
    ensure!(
        target.size() == source.size(),
        "the checkpoint's '{name}' has shape {:?}, {:?} is expected",
        source.size(),
        target.size()
    );
    no_grad(|| target.detach().copy_(source));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without `float_roundtrip` serde_json reads some numbers a last bit off, and p would differ after a resume.
    #[test]
    fn numbers_come_back_from_a_manifest_to_the_last_bit() {
        let record = TrainerRecord {
            iteration: 3,
            seen_images: 24,
            augment_p: 0.002_495_999_999_999_999,
            adam_steps: [1, 2],
            skipped_steps: [0; 4],
            lr_scale: 0.1 + 0.2,
            micro_batch: 8,
            micro_batch_asked: 16,
        };
        let read: TrainerRecord = serde_json::from_slice(&serde_json::to_vec_pretty(&record).unwrap()).unwrap();
        assert_eq!(read.augment_p.to_bits(), record.augment_p.to_bits());
        assert_eq!(read, record);
    }
}
