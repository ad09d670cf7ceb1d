//! Writes a checkpoint of a run.

use std::time::Instant;

use anyhow::Result;

use super::record::RunRecord;
use super::tensors;
use crate::run::Run;
use crate::run::evaluator::Best;
use crate::system::gpu::Gpu;
use crate::system::ui::detail;
use crate::tensor::device;

impl Run {
    /// Writes everything that a resumed run needs. A state that is not worth going back to is not written: false is
    /// returned, and the next iteration tries again.
    pub(in crate::run) fn save_checkpoint(&mut self) -> Result<bool> {
        if !self.trainer.is_sound() {
            return Ok(false);
        }
        self.gather_from_all()?;
        let begun = Instant::now();
        let (trainer, tensors) = self.trainer.state(&self.statistics);
        let outputs = &self.outputs;
        let record = RunRecord {
            trainer,
            tick: self.schedule.tick_record(),
            journal: self.journal.place()?,
            rollbacks: self.keeper.rollbacks,
            best: outputs.best.clone(),
            pending: outputs.pending.clone(),
            newest: Some(outputs.newest),
            parents: outputs.parents.clone(),
            total_seconds: self.schedule.elapsed().as_secs_f64(),
            pictures: self.dataset.fingerprint().to_owned(),
            device: device::name(self.trainer.networks.g.script.device),
            gpu: self.gpu.as_ref().and_then(Gpu::description),
            threads: tch::get_num_threads(),
            processes: self.trainer.world.size(),
        };
        let (seen_images, best) = (self.trainer.seen_images, outputs.best.as_ref().map(Best::seen_images));
        self.keeper.store.write(seen_images, best, &record, |path| tensors::write(path, &tensors))?;
        self.keeper.is_at(seen_images, outputs.best.clone());
        detail(format!("checkpoint at {}: {:.2} s", self.kimg_text(), begun.elapsed().as_secs_f64()));
        Ok(true)
    }
}
