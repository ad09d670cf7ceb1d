//! One training iteration: the four phases in order, each with its optimiser step, then the average.

use std::time::Instant;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::draw::{Draw, Reals};
use super::journal::stats::Statistics;
use super::networks::Networks;
use super::outcomes::{Culprit, Diverged, Outcomes, place};
use super::phases::{self, Adversarial, mean};
use crate::augment::{AdaController, Augment, Draws};
use crate::config::RunConfig;
use crate::model::FlatParameters;
use crate::optimizer::Adam;
use crate::regularize::MeanPathLength;
use crate::tensor::caught;
use crate::tensor::device;
use crate::tensor::labels::ClassDistribution;
use crate::tensor::memory::lacks_memory;
use crate::tensor::seed::{Stream, host_rng, seed_torch};

/// [`Trainer::timed_every`] where waiting costs something.
const TIMED_EVERY_ON_GPU: u64 = 16;

/// Everything that changes from one iteration to the next.
pub struct Trainer {
    /// The networks.
    pub networks: Networks,
    /// Iterations done.
    pub iteration: u64,
    /// Real images seen.
    pub seen_images: u64,
    pub(super) config: RunConfig,
    classes: Option<ClassDistribution>,
    pub(super) g_adam: Adam,
    pub(super) d_adam: Adam,
    pub(super) pl_mean: MeanPathLength,
    pub(super) ada: Ada,
    pub(super) outcomes: Outcomes,
    /// What the learning rates were multiplied by after divergence, 1 at first.
    pub lr_scale: f64,
    /// Of how many iterations one is timed phase by phase, and the steps looked at one by one, 1 at least: on a GPU the host
    /// waits for it to finish each then, and else at the end of an iteration. A phase that runs seldom is timed when it
    /// runs.
    pub timed_every: u64,
}

/// What the augmentation's probability is adapted by.
pub(super) struct Ada {
    /// None: p stays that of the settings.
    pub(super) controller: Option<AdaController>,
    /// Signs of D(real) since the last adjustment, still on the device.
    pub(super) signs: Vec<Tensor>,
}

/// A phase by its statistics' name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Gmain,
    Greg,
    Dmain,
    Dreg,
}

impl Phase {
    /// What its loss is called in the statistics.
    pub(super) fn loss_name(self) -> &'static str {
        match self {
            Phase::Gmain => "Loss/G/loss",
            Phase::Greg => "Loss/pl_penalty",
            Phase::Dmain => "Loss/D/loss",
            Phase::Dreg => "Loss/r1_penalty",
        }
    }

    fn is_of_generator(self) -> bool {
        matches!(self, Phase::Gmain | Phase::Greg)
    }

    /// Those that it trains.
    fn parameters(self, networks: &Networks) -> &FlatParameters {
        if self.is_of_generator() { &networks.g_flat } else { &networks.d_flat }
    }

    fn stream(self) -> Stream {
        match self {
            Phase::Gmain => Stream::GeneratorMain,
            Phase::Greg => Stream::GeneratorReg,
            Phase::Dmain => Stream::DiscriminatorMain,
            Phase::Dreg => Stream::DiscriminatorReg,
        }
    }
}

impl Trainer {
    /// At the beginning of a run. `classes` are those of the pictures, for conditional networks.
    pub fn new(networks: Networks, config: RunConfig, classes: Option<ClassDistribution>) -> Self {
        let g_adam = Adam::new(config.g_adam, &networks.g_flat.values);
        let d_adam = Adam::new(config.d_adam, &networks.d_flat.values);
        let pl_mean = MeanPathLength::new(networks.g.script.device);
        let controller = config.augment.ada.map(|settings| AdaController::new(settings, config.augment.p));
        let ada = Ada { controller, signs: Vec::new() };
        let timed_every = if networks.g.script.device == Device::Cpu { 1 } else { TIMED_EVERY_ON_GPU };
        Self {
            networks,
            iteration: 0,
            seen_images: 0,
            config,
            classes,
            g_adam,
            d_adam,
            pl_mean,
            ada,
            outcomes: Outcomes::default(),
            lr_scale: 1.0,
            timed_every,
        }
    }

    /// The augmentation's probability now, 0 to 1.
    pub fn augment_p(&self) -> f64 {
        self.ada.controller.as_ref().map_or(self.config.augment.p, AdaController::p)
    }

    /// Sets that probability, where it is fixed; 0 turns the augmentation off.
    pub fn fix_augment_p(&mut self, p: f64) {
        self.ada.controller = None;
        self.config.augment.p = p.clamp(0.0, 1.0);
    }

    /// Evaluates R1 and path length every so many iterations from now on.
    pub fn regularize_every(&mut self, r1_interval: u64, pl_interval: u64) {
        (self.config.r1.interval, self.config.path_length.interval) = (r1_interval, pl_interval);
    }

    /// The settings of the run.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Trains on one batch of reals.
    ///
    /// # Errors
    /// A network that fails, or too many steps in a row without a finite gradient.
    pub fn iterate(&mut self, reals: &Reals, stats: &mut Statistics) -> Result<()> {
        let due = |interval: u64| self.iteration.is_multiple_of(interval);
        let (greg, dreg) = (due(self.config.path_length.interval), due(self.config.r1.interval));
        self.timed(Phase::Gmain, stats, |t, stats| t.generator_main(stats))?;
        if greg && self.config.path_length.weight > 0.0 {
            self.timed(Phase::Greg, stats, |t, stats| t.generator_reg(stats))?;
        }
        self.timed(Phase::Dmain, stats, |t, stats| t.discriminator_main(reals, stats))?;
        if dreg && self.config.r1.gamma > 0.0 {
            self.timed(Phase::Dreg, stats, |t, stats| t.discriminator_reg(reals, stats))?;
        }
        let beta = self.config.ema.beta(self.config.batch, self.seen_images);
        let averaged = caught(|| {
            self.networks.update_ema(beta);
            Ok(())
        });
        averaged.with_context(|| format!("the averaged generator of iteration {}", self.iteration))?;
        self.look(stats)?;
        self.iteration += 1;
        self.seen_images += self.config.batch;
        self.ada.adapt(self.iteration, self.config.batch);
        Ok(())
    }

    /// What has to be told about left-out steps since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outcomes.notices)
    }

    fn timed(
        &mut self,
        phase: Phase,
        stats: &mut Statistics,
        work: impl Fn(&mut Self, &mut Statistics) -> Result<()>,
    ) -> Result<()> {
        let is_timed = self.is_timed(phase);
        let untrained = self.config.shrink_micro_batch.then(|| self.networks.untrained());
        if is_timed {
            self.finish(stats).context(place(phase, self.iteration))?;
        }
        let (begun, mark) = (Instant::now(), stats.mark());
        while let Err(error) = caught(|| work(self, stats)) {
            let smaller = self.smaller_micro_batch().filter(|_| lacks_memory(&format!("{error:#}")));
            let Some(smaller) = smaller else {
                // Steps that were left out before may be the reason, and are worth telling; the error is this one.
                if let Err(diverged) = self.look(stats) {
                    self.outcomes.notices.push(format!("{diverged:#}"));
                }
                return Err(error).context(place(phase, self.iteration));
            };
            // The phase takes its step at its end, and changes nothing before but what networks change by themselves
            // (`w_avg`): it can be done again.
            self.outcomes.notices.push(format!(
                "iteration {}: out of memory in {phase:?}; going on with --micro-batch {smaller} instead of {}",
                self.iteration, self.config.micro_batch
            ));
            self.config.micro_batch = smaller;
            stats.back_to(&mark);
            if let Some(untrained) = &untrained {
                untrained.put_back();
            }
        }
        if is_timed {
            self.finish(stats)?;
            stats.report_number(&format!("Timing/{phase:?}"), begun.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Waits until the device has done its work, and looks at what became of the steps.
    fn finish(&mut self, stats: &mut Statistics) -> Result<()> {
        self.look(stats)?;
        device::synchronize(self.networks.g.script.device);
        Ok(())
    }

    fn generator_main(&mut self, stats: &mut Statistics) -> Result<()> {
        let Self { networks: n, config, .. } = &*self;
        let mut augment = self.augment(Stream::AugmentGeneratorMain);
        let gradient = self.accumulate(Phase::Gmain, |draw, _| {
            let Adversarial { losses, logits } = phases::generator_main(&n.g, &n.d, &config.loss, &draw, &mut augment)?;
            report_scores(stats, "fake", &logits);
            stats.report("Loss/G/loss", &losses);
            stats.report("Loss/G/slope", &config.loss.slope(&logits.detach()));
            n.g_flat.gradient(&(mean(&losses) / self.rounds() as f64))
        })?;
        self.step(Phase::Gmain, gradient);
        Ok(())
    }

    /// On half as many images, as published: it costs more than twice the memory.
    fn generator_reg(&mut self, stats: &mut Statistics) -> Result<()> {
        let mut pl_mean = MeanPathLength { pl_mean: self.pl_mean.pl_mean.shallow_clone() };
        let Self { networks: n, config, .. } = &*self;
        let weight = config.path_length.weight;
        let gain = config.path_length.interval as f64 / self.rounds() as f64;
        let gradient = self.accumulate(Phase::Greg, |draw, _| {
            let penalties = phases::generator_reg(&n.g, &mut pl_mean, &draw, None)?;
            stats.report("Loss/pl_penalty", &penalties);
            stats.report("Loss/G/reg", &(&penalties * weight));
            n.g_flat.gradient(&(mean(&penalties) * (weight * gain)))
        })?;
        // A length that is not finite would stay in the mean for ever.
        let finite = pl_mean.pl_mean.isfinite();
        let pl_mean = pl_mean.pl_mean.where_self(&finite, &self.pl_mean.pl_mean);
        self.step(Phase::Greg, gradient);
        self.pl_mean.pl_mean = pl_mean;
        Ok(())
    }

    /// Generated and real half one after the other, so that only one graph is alive.
    fn discriminator_main(&mut self, reals: &Reals, stats: &mut Statistics) -> Result<()> {
        let Self { networks: n, config, .. } = &*self;
        let share = 1.0 / self.rounds() as f64;
        let mut augment = self.augment(Stream::AugmentDiscriminatorMain);
        let mut signs = Vec::new();
        let gradient = self.accumulate(Phase::Dmain, |draw, round| {
            let fake = phases::discriminator_fake(&n.g, &n.d, &config.loss, &draw, &mut augment)?;
            report_scores(stats, "fake", &fake.logits);
            let of_fake = n.d_flat.gradient(&(mean(&fake.losses) * share))?;
            let Reals { images, c } = self.micro_batch(reals, round);
            let real = phases::discriminator_real(&n.d, &config.loss, &images, c.as_ref(), &mut augment)?;
            report_scores(stats, "real", &real.logits);
            signs.push(real.logits.detach().sign());
            stats.report("Loss/D/loss", &(fake.losses.detach() + real.losses.detach()));
            stats.report("Loss/D/slope", &config.loss.slope(&Tensor::cat(&[-fake.logits, real.logits], 0).detach()));
            Ok(of_fake.shallow_clone().g_add_(&n.d_flat.gradient(&(mean(&real.losses) * share))?))
        })?;
        self.step(Phase::Dmain, gradient);
        if self.ada.controller.is_some() {
            self.ada.signs.extend(signs);
        }
        Ok(())
    }

    fn discriminator_reg(&mut self, reals: &Reals, stats: &mut Statistics) -> Result<()> {
        let Self { networks: n, config, .. } = &*self;
        let weight = config.r1.gamma / 2.0;
        let gain = config.r1.interval as f64 / self.rounds() as f64;
        let mut augment = self.augment(Stream::AugmentDiscriminatorReg);
        // The augmentation's noise comes from libtorch's generator.
        let _ = self.seeded(Phase::Dreg);
        let mut gradient: Option<Tensor> = None;
        for round in 0..self.rounds() {
            let Reals { images, c } = self.micro_batch(reals, round);
            let norms = phases::discriminator_reg(&n.d, &images, c.as_ref(), &mut augment)?;
            stats.report("Loss/r1_penalty", &norms);
            stats.report("Loss/D/reg", &(&norms * weight));
            add(&mut gradient, n.d_flat.gradient(&(mean(&norms) * (weight * gain)))?);
        }
        let gradient = gradient.context("a batch has at least one micro-batch")?;
        self.step(Phase::Dreg, gradient);
        Ok(())
    }

    /// The sum of what `of_round` gives for every micro-batch, each with its own draw.
    fn accumulate(&self, phase: Phase, mut of_round: impl FnMut(Draw, u64) -> Result<Tensor>) -> Result<Tensor> {
        let (config, mut rng) = (&self.config, self.seeded(phase));
        let micro = config.micro_batch;
        let images = if phase == Phase::Greg { (micro / 2).max(1) } else { micro };
        let mut sum = None;
        for round in 0..self.rounds() {
            let draw = Draw::sample(&self.networks.g, self.classes.as_ref(), images, config.style_mixing, &mut rng);
            add(&mut sum, of_round(draw, round)?);
        }
        sum.context("a batch has at least one micro-batch")
    }

    fn augment(&self, stream: Stream) -> Augment {
        let draws = host_rng(self.config.seed, self.iteration, stream, 0);
        Augment::new(self.config.augment.transforms, self.augment_p(), Draws::Random(Box::new(draws)))
    }

    fn seeded(&self, phase: Phase) -> ChaCha8Rng {
        seed_torch(self.config.seed, self.iteration, phase.stream(), 0);
        host_rng(self.config.seed, self.iteration, phase.stream(), 0)
    }

    /// What the learning rates are multiplied by: from nearly 0 to 1 over the warm-up, and less after divergence.
    fn lr_factor(&self) -> f64 {
        let images = (self.seen_images + self.config.batch) as f64;
        let warmup = match self.config.lr_warmup_images {
            0 => 1.0,
            whole => (images / whole as f64).min(1.0),
        };
        warmup * self.lr_scale
    }

    /// Half the micro-batch, where that is wanted and the batch and the discriminator's groups allow it.
    fn smaller_micro_batch(&self) -> Option<u64> {
        let half = self.config.micro_batch / 2;
        let group = (self.networks.d.mbstd_group_size() as u64).clamp(1, half.max(1));
        let fits = half > 0 && self.config.batch.is_multiple_of(half) && half.is_multiple_of(group);
        (self.config.shrink_micro_batch && fits).then_some(half)
    }

    fn rounds(&self) -> u64 {
        self.config.batch / self.config.micro_batch
    }

    fn micro_batch(&self, reals: &Reals, round: u64) -> Reals {
        let micro = self.config.micro_batch;
        reals.narrow(round * micro, micro)
    }

    /// Whether this call of the phase is one to be timed, and its step looked at, at once.
    fn is_timed(&self, phase: Phase) -> bool {
        let interval = match phase {
            Phase::Gmain | Phase::Dmain => 1,
            Phase::Greg => self.config.path_length.interval,
            Phase::Dreg => self.config.r1.interval,
        };
        self.iteration.is_multiple_of(timed_spacing(self.timed_every, interval))
    }

    /// Takes the phase's step, if its gradient is finite.
    fn step(&mut self, phase: Phase, gradient: Tensor) {
        let lr_factor = self.lr_factor();
        let culprit = (!self.is_timed(phase)).then(|| Culprit::of(&gradient));
        let flat = phase.parameters(&self.networks);
        let adam = if phase.is_of_generator() { &mut self.g_adam } else { &mut self.d_adam };
        let taken = adam.step(&flat.values, &gradient, lr_factor);
        self.outcomes.add(phase, taken, culprit.unwrap_or(Culprit::In(gradient)));
    }

    /// Looks at what became of the steps, which waits for the device.
    fn look(&mut self, stats: &mut Statistics) -> Result<()> {
        let Self { networks, outcomes, config, iteration, .. } = self;
        let flat = |phase: Phase| phase.parameters(networks);
        // A GPU's own errors surface here, as it is waited for.
        caught(|| outcomes.look(*iteration, config.max_bad_steps, flat, stats)).map_err(|error| {
            let diverged = error.is::<Diverged>();
            if diverged { error } else { error.context(format!("the steps of iteration {iteration}")) }
        })
    }
}

impl Ada {
    fn adapt(&mut self, iteration: u64, batch: u64) {
        let Some(controller) = self.controller.as_mut().filter(|controller| controller.is_due(iteration)) else {
            return;
        };
        let signs = Tensor::cat(&std::mem::take(&mut self.signs), 0);
        controller.adapt(signs.mean(Kind::Double).double_value(&[]), batch);
    }
}

/// Iterations between two timed calls of a phase that runs every `interval`: at least `timed_every` of them.
fn timed_spacing(timed_every: u64, interval: u64) -> u64 {
    timed_every.div_ceil(interval.max(1)).saturating_mul(interval)
}

fn add(sum: &mut Option<Tensor>, term: Tensor) {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.g_add_(&term),
        None => term,
    });
}

fn report_scores(stats: &mut Statistics, of: &str, logits: &Tensor) {
    let logits = logits.detach();
    stats.report(&format!("Loss/signs/{of}"), &logits.sign());
    stats.report(&format!("Loss/scores/{of}"), &logits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_runs_seldom_is_timed_when_it_runs() {
        for (timed_every, interval, spacing) in
            [(1, 1, 1), (1, 4, 4), (16, 1, 16), (16, 4, 16), (16, 16, 16), (16, 3, 18), (16, 24, 24), (16, 0, 0)]
        {
            assert_eq!(timed_spacing(timed_every, interval), spacing, "{timed_every} {interval}");
        }
        assert_eq!(timed_spacing(u64::MAX, 3), u64::MAX);
    }
}
