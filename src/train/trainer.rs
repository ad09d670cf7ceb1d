//! The state of training, and how one phase is done: its gradient, then the optimiser's step. The iteration that the
//! phases make up is in `iteration.rs`.

use std::rc::Rc;

use anyhow::Result;
use tch::{Device, Tensor};

use super::ada::AugmentProbability;
use super::drift::PhaseGradient;
use super::networks::Networks;
use super::optimizer::Adam;
use super::phases::Phase;
use super::regularizers::MeanPathLength;
use super::settings::TrainSettings;
use super::stats::Statistics;
use super::step_guard::{Diverged, StepGuard};
use crate::tensor::caught;
use crate::tensor::labels::ClassDistribution;
use crate::tensor::world::World;

/// The spacing of timed iterations on a GPU, where waiting costs speed.
const TIMED_EVERY_ON_GPU: u64 = 16;

/// The state of training: networks, optimisers, and everything else that changes from one iteration to the next.
pub struct Trainer {
    /// The generator, the discriminator and the averaged generator.
    pub networks: Networks,
    /// Iterations done.
    pub iteration: u64,
    /// Real images seen.
    pub seen_images: u64,
    /// Factor on both learning rates: 1, halved at every rollback.
    pub lr_scale: f64,
    /// Every how many iterations phases are timed, and each step checked, 1 at least. On a GPU this makes the host wait
    /// after each phase, otherwise only at the end of an iteration. A phase that runs seldom is timed when it runs.
    pub timed_every: u64,
    /// The processes that train together.
    pub world: Rc<World>,
    pub(super) settings: TrainSettings,
    /// Images computed at once: the micro-batch of the settings, or fewer after memory ran out.
    pub(super) micro_batch: u64,
    pub(super) g_adam: Adam,
    pub(super) d_adam: Adam,
    pub(super) pl_mean: MeanPathLength,
    pub(super) ada: AugmentProbability,
    pub(super) guard: StepGuard,
    pub(super) classes: Option<ClassDistribution>,
}

impl Trainer {
    /// Makes a trainer at iteration 0. `classes` are those of the real images, for conditional networks.
    pub fn new(networks: Networks, settings: TrainSettings, classes: Option<ClassDistribution>) -> Self {
        Self::in_world(networks, settings, classes, Rc::new(World::alone()))
    }

    /// Makes a trainer that is one of several, each in a process of its own. All have the same networks and settings; the
    /// batch is a multiple of the micro-batch times the number of processes.
    pub fn in_world(
        networks: Networks,
        settings: TrainSettings,
        classes: Option<ClassDistribution>,
        world: Rc<World>,
    ) -> Self {
        let device = networks.g.script.device;
        Self {
            iteration: 0,
            seen_images: 0,
            lr_scale: 1.0,
            timed_every: if device == Device::Cpu { 1 } else { TIMED_EVERY_ON_GPU },
            micro_batch: settings.micro_batch,
            g_adam: Adam::new(settings.g_adam, &networks.g_flat.values),
            d_adam: Adam::new(settings.d_adam, &networks.d_flat.values),
            pl_mean: MeanPathLength::new(device),
            ada: AugmentProbability::new(settings.augment.p, settings.augment.ada),
            guard: StepGuard::default(),
            networks,
            world,
            settings,
            classes,
        }
    }

    /// Does one phase: its gradient, then the optimiser's step. Returns what `gradient` returns beside the gradient.
    pub(super) fn phase<T>(
        &mut self,
        phase: Phase,
        stats: &mut Statistics,
        gradient: impl Fn(&Self, &mut Statistics) -> Result<(PhaseGradient, T)>,
    ) -> Result<T> {
        self.timed(phase, stats, |t, stats| {
            t.with_retries(phase, stats, |t, stats| {
                let (gradient, result) = t.sum_over_processes(|| gradient(t, stats))?;
                t.step(phase, gradient);
                Ok(result)
            })
        })
    }

    /// Takes the phase's step, if its gradient is finite.
    fn step(&mut self, phase: Phase, gradient: Tensor) {
        let lr_factor = self.lr_factor();
        let flat = phase.parameters(&self.networks);
        let adam = if phase.is_of_generator() { &mut self.g_adam } else { &mut self.d_adam };
        let taken = adam.step(&flat.values, &gradient, lr_factor);
        self.guard.add(phase, taken, gradient);
    }

    /// Counts the skipped steps since the last look, which waits for the device.
    pub(super) fn look_at_steps(&mut self, stats: &mut Statistics) -> Result<()> {
        let rounds = self.rounds_in_process();
        let Self { networks, guard, settings, iteration, .. } = self;
        let flat = |phase: Phase| phase.parameters(networks);
        // Errors of the GPU surface here, where the host waits for it.
        caught(|| guard.look(*iteration, settings.max_bad_steps, flat, rounds, stats)).map_err(|error| {
            let diverged = error.is::<Diverged>();
            if diverged { error } else { error.context(format!("the steps of iteration {iteration}")) }
        })
    }

    /// Returns the factor on the learning rates: from nearly 0 to 1 over the warm-up, and less after divergence.
    fn lr_factor(&self) -> f64 {
        let images = (self.seen_images + self.settings.batch) as f64;
        let warmup = match self.settings.lr_warmup_images {
            0 => 1.0,
            whole => (images / whole as f64).min(1.0),
        };
        warmup * self.lr_scale
    }

    /// Returns the augmentation's present probability, 0 to 1.
    pub fn augment_p(&self) -> f64 {
        self.ada.p()
    }

    /// Fixes the augmentation's probability at `p`; 0 turns the augmentation off.
    pub fn fix_augment_p(&mut self, p: f64) {
        self.ada = AugmentProbability::fixed(p);
    }

    /// Sets the iterations between two evaluations of R1, and of path length.
    pub fn regularize_every(&mut self, r1_interval: u64, pl_interval: u64) {
        (self.settings.r1.interval, self.settings.path_length.interval) = (r1_interval, pl_interval);
    }

    /// Returns the settings that it was made with.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// Takes the lines about skipped steps and smaller micro-batches since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.guard.notices)
    }
}
