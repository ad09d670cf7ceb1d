//! What a checkpoint has of a trainer: every tensor that training changes, and the counters.
//!
//! Random streams need no state: they are derived from seed, iteration and phase.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::journal::stats::Statistics;
use super::step::Trainer;
use crate::model::{ScriptModule, weights};
use crate::optimizer::{Adam, AdamState};
use crate::tensor::finite::all_finite;
use crate::tensor::no_grad;
use crate::tensor::one_line;

/// Counters and numbers of a trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerRecord {
    /// Iterations done.
    pub iteration: u64,
    /// Real images seen.
    pub seen_images: u64,
    /// ADA's probability.
    pub augment_p: f64,
    /// Steps of the generator's and the discriminator's optimiser.
    pub adam_steps: [i32; 2],
    /// Left-out steps in a row, by phase.
    pub bad_steps: [u64; 4],
    /// See [`Trainer::lr_scale`].
    pub lr_scale: f64,
    /// Images computed at once, which can have become fewer than the options say.
    pub micro_batch: u64,
    /// What the options say.
    pub micro_batch_asked: u64,
}

impl TrainerRecord {
    /// Whether a trainer can have been there.
    pub(super) fn is_plausible(&self) -> bool {
        (0.0..=1.0).contains(&self.augment_p)
            && self.lr_scale > 0.0
            && self.lr_scale <= 1.0
            && self.micro_batch > 0
            && self.adam_steps.iter().all(|&steps| steps >= 0)
    }
}

/// Named tensors.
pub type Tensors = BTreeMap<String, Tensor>;

/// Everything that training has changed, as views, with the statistics that wait for the next tick.
pub fn collect(trainer: &Trainer, statistics: &Statistics) -> (TrainerRecord, Tensors) {
    let mut tensors = Tensors::new();
    for (network, script) in scripts(trainer) {
        for parameter in &script.parameters {
            tensors.insert(format!("{network}.{}", parameter.name), parameter.tensor.detach());
        }
    }
    let adams = [("g", trainer.g_adam.state()), ("d", trainer.d_adam.state())];
    let adam_steps = [adams[0].1.steps, adams[1].1.steps];
    for (network, state) in adams {
        tensors.insert(format!("adam.{network}.square"), state.square);
        tensors.extend(state.mean.map(|mean| (format!("adam.{network}.mean"), mean)));
    }
    tensors.insert("pl_mean".to_owned(), trainer.pl_mean.pl_mean.shallow_clone());
    if !trainer.ada.signs.is_empty() {
        tensors.insert("ada.signs".to_owned(), Tensor::cat(&trainer.ada.signs, 0));
    }
    tensors.extend(statistics.pending().into_iter().map(|(name, values)| (format!("stats.{name}"), values)));
    let record = TrainerRecord {
        iteration: trainer.iteration,
        seen_images: trainer.seen_images,
        augment_p: trainer.augment_p(),
        adam_steps,
        bad_steps: trainer.outcomes.left_out_in_a_row,
        lr_scale: trainer.lr_scale,
        micro_batch: trainer.config.micro_batch,
        micro_batch_asked: asked(trainer),
    };
    (record, tensors)
}

/// Whether it is worth going back to: no step was left out just now, and all weights are numbers.
pub fn is_sound(trainer: &Trainer) -> bool {
    trainer.outcomes.left_out_in_a_row == [0; 4]
        && all_finite(&trainer.networks.g_flat.values)
        && all_finite(&trainer.networks.d_flat.values)
}

/// Puts everything back.
///
/// # Errors
/// Tensors of other networks, or missing ones.
pub fn restore(
    trainer: &mut Trainer,
    statistics: &mut Statistics,
    record: &TrainerRecord,
    mut tensors: Tensors,
) -> Result<()> {
    for (network, script) in scripts(trainer) {
        for parameter in &script.parameters {
            copy_to(&parameter.tensor, take(&mut tensors, &format!("{network}.{}", parameter.name))?, &parameter.name)?;
        }
    }
    let [g_steps, d_steps] = record.adam_steps;
    restore_adam(&mut trainer.g_adam, &mut tensors, "g", g_steps)?;
    restore_adam(&mut trainer.d_adam, &mut tensors, "d", d_steps)?;
    copy_to(&trainer.pl_mean.pl_mean, take(&mut tensors, "pl_mean")?, "pl_mean")?;
    let device = trainer.networks.g.script.device;
    trainer.ada.signs = tensors.remove("ada.signs").into_iter().map(|signs| signs.to_device(device)).collect();
    if let Some(controller) = &mut trainer.ada.controller {
        controller.set_p(record.augment_p);
    }
    let pending =
        tensors.into_iter().filter_map(|(name, values)| Some((name.strip_prefix("stats.")?.to_owned(), values)));
    statistics.restore(pending.collect());
    (trainer.iteration, trainer.seen_images) = (record.iteration, record.seen_images);
    trainer.outcomes.forget(record.bad_steps);
    trainer.lr_scale = record.lr_scale;
    // Other options since then are for another amount of memory.
    if record.micro_batch_asked == asked(trainer) && trainer.config.batch.is_multiple_of(record.micro_batch.max(1)) {
        trainer.config.micro_batch = record.micro_batch.max(1);
    }
    Ok(())
}

fn asked(trainer: &Trainer) -> u64 {
    trainer.config.effective().micro_batch.unwrap_or(trainer.config.batch)
}

/// Writes tensors to a new file.
///
/// # Errors
/// A full disk or a folder that cannot be written.
pub fn write(path: &Path, tensors: &Tensors) -> Result<()> {
    let on_cpu: Vec<(&String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name, tensor.to_device(Device::Cpu).contiguous())).collect();
    Tensor::write_safetensors(&on_cpu, path).map_err(|error| anyhow!("{}", one_line(&error)))
}

/// Reads them again.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<Tensors> {
    Ok(weights::read(path)?.tensors.into_iter().collect())
}

fn scripts(trainer: &Trainer) -> [(&'static str, &ScriptModule); 3] {
    let n = &trainer.networks;
    [("G", &n.g.script), ("G_ema", &n.g_ema.script), ("D", &n.d.script)]
}

fn restore_adam(adam: &mut Adam, tensors: &mut Tensors, network: &str, steps: i32) -> Result<()> {
    let mean = tensors.remove(&format!("adam.{network}.mean"));
    let square = take(tensors, &format!("adam.{network}.square"))?;
    adam.restore(&AdamState { mean, square, steps })
        .context("the checkpoint does not fit: was --freeze-d, --freeze-g or --freeze-mapping changed?")
}

fn take(tensors: &mut Tensors, name: &str) -> Result<Tensor> {
    tensors.remove(name).with_context(|| format!("the checkpoint has no '{name}'"))
}

fn copy_to(target: &Tensor, source: Tensor, name: &str) -> Result<()> {
    ensure!(
        target.size() == source.size(),
        "the checkpoint's '{name}' has shape {:?}, {:?} is expected",
        source.size(),
        target.size()
    );
    no_grad(|| target.detach().copy_(&source));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without `float_roundtrip` serde_json reads some numbers a last bit off, and p would be another after a resume.
    #[test]
    fn numbers_come_back_from_a_manifest_to_the_last_bit() {
        let record = TrainerRecord {
            iteration: 3,
            seen_images: 24,
            augment_p: 0.002_495_999_999_999_999,
            adam_steps: [1, 2],
            bad_steps: [0; 4],
            lr_scale: 0.1 + 0.2,
            micro_batch: 8,
            micro_batch_asked: 16,
        };
        let read: TrainerRecord = serde_json::from_slice(&serde_json::to_vec_pretty(&record).unwrap()).unwrap();
        assert_eq!(read.augment_p.to_bits(), record.augment_p.to_bits());
        assert_eq!(read, record);
    }
}
