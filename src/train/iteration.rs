//! One training iteration on one screen: the four phases in the paper's order, then the average.
//!
//! `phases.rs` computes the phases, `objective/` their losses. Each phase goes through [`Trainer::phase`], which takes
//! the optimiser's step; around that go timing (`timing.rs`), another try where memory ran out (`retry.rs`), and the
//! look at skipped steps (`step_guard.rs`).

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::draw::{PhaseDraws, Reals};
use super::objective::discriminator_graphs;
use super::phases::{self, Judged, Phase, mean};
use super::regularizers::MeanPathLength;
use super::stats::Statistics;
use super::trainer::Trainer;
use crate::augment::{Augment, Draws};
use crate::tensor::caught;
use crate::tensor::seed::{Stream, host_rng, seed_torch};

impl Trainer {
    /// Trains on one batch of real images, [batch, C, R, R].
    ///
    /// # Errors
    /// A network that fails, or too many steps in a row without a finite gradient.
    pub fn iterate(&mut self, reals: &Reals, stats: &mut Statistics) -> Result<()> {
        let is_due = |interval: u64| self.iteration.is_multiple_of(interval);
        let path_length_is_due = self.settings.path_length.weight > 0.0 && is_due(self.settings.path_length.interval);
        let r1_is_due = self.settings.has_gradient_penalty() && is_due(self.settings.r1.interval);

        // Generator, main: towards images that the discriminator takes for real.
        self.phase(Phase::Gmain, stats, |t, stats| t.generator_main(reals, stats))?;

        // Generator, regularisation: path length.
        if path_length_is_due {
            self.pl_mean = self.phase(Phase::Greg, stats, |t, stats| t.generator_reg(stats))?;
        }

        // Discriminator, main: to tell generated from real images.
        let signs = self.phase(Phase::Dmain, stats, |t, stats| t.discriminator_main(reals, stats))?;
        self.ada.collect(signs);

        // Discriminator, regularisation: R1, and R2 where it is on, through the augmentation.
        if r1_is_due {
            self.phase(Phase::Dreg, stats, |t, stats| t.discriminator_reg(reals, stats))?;
        }

        // The averaged generator follows.
        self.average()?;

        self.look_at_steps(stats)?;
        self.iteration += 1;
        self.seen_images += self.settings.batch;
        self.ada.adapt(self.iteration, self.settings.batch);
        Ok(())
    }

    fn generator_main(&self, reals: &Reals, stats: &mut Statistics) -> Result<(Tensor, ())> {
        let (n, objective) = (&self.networks, &*self.settings.objective);
        let (mut draws, mut augment) = (self.draws(Phase::Gmain), self.augment(Stream::AugmentGeneratorMain));
        let gradient = self.sum_over_rounds(|round| {
            let (draw, reals) = (draws.draw(self.micro_batch), self.part_of(reals, round));
            let Judged { losses, logits } = phases::generator_main(&n.g, &n.d, objective, &draw, &reals, &mut augment)?;
            stats.report_logits(&logits);
            stats.report("Loss/G/loss", &losses);
            stats.report("Loss/G/slope", &objective.generator_slope(&logits.detach()));
            n.g_flat.gradient(&(mean(&losses) / self.rounds() as f64))
        })?;
        Ok((gradient, ()))
    }

    /// Computes path length on half as many images, as published, since it takes more than twice the memory. Returns
    /// the gradient, and the mean path length after the step.
    fn generator_reg(&self, stats: &mut Statistics) -> Result<(Tensor, MeanPathLength)> {
        let (n, s) = (&self.networks, self.settings.path_length);
        let (mut draws, mut pl_mean) = (self.draws(Phase::Greg), self.pl_mean.copy());
        let gain = s.interval as f64 / self.rounds() as f64;
        let gradient = self.sum_over_rounds(|_| {
            let draw = draws.draw((self.micro_batch / 2).max(1));
            let penalties = phases::generator_reg(&n.g, &mut pl_mean, &draw, None)?;
            stats.report("Loss/pl_penalty", &penalties);
            stats.report("Loss/G/reg", &(&penalties * s.weight));
            n.g_flat.gradient(&(mean(&penalties) * (s.weight * gain)))
        })?;
        Ok((gradient, pl_mean.or_if_not_finite(&self.pl_mean)))
    }

    /// Judges generated and real images one after the other, so that only one graph is in memory, unless the objective
    /// compares them. Returns the gradient, and the signs of D(real), which the augmentation follows.
    fn discriminator_main(&self, reals: &Reals, stats: &mut Statistics) -> Result<(Tensor, Vec<Tensor>)> {
        let (n, objective, share) = (&self.networks, &*self.settings.objective, 1.0 / self.rounds() as f64);
        let (mut draws, mut augment) = (self.draws(Phase::Dmain), self.augment(Stream::AugmentDiscriminatorMain));
        let mut signs = Vec::new();
        let gradient = self.sum_over_rounds(|round| {
            let (draw, reals) = (draws.draw(self.micro_batch), self.part_of(reals, round));
            let (mut gradient, mut losses) = (None, None);
            for &seen in discriminator_graphs(objective) {
                let judged = phases::discriminator_main(&n.g, &n.d, objective, seen, &draw, &reals, &mut augment)?;
                add(&mut gradient, n.d_flat.gradient(&(mean(&judged.losses) * share))?);
                add(&mut losses, judged.losses.detach());
                stats.report_logits(&judged.logits);
                stats.report("Loss/D/slope", &objective.discriminator_slope(&judged.logits.detach()));
                signs.extend(objective.signs_of_reals(&judged.logits.detach()));
            }
            stats.report("Loss/D/loss", &losses.context("an objective has at least one graph")?);
            gradient.context("an objective has at least one graph")
        })?;
        Ok((gradient, signs))
    }

    /// Computes R1 on real images, then R2 on generated ones, each where it has a weight.
    fn discriminator_reg(&self, reals: &Reals, stats: &mut Statistics) -> Result<(Tensor, ())> {
        let (n, s) = (&self.networks, &self.settings);
        let (mut draws, mut augment) = (self.draws(Phase::Dreg), self.augment(Stream::AugmentDiscriminatorReg));
        let gain = s.r1.interval as f64 / self.rounds() as f64;
        let gradient = self.sum_over_rounds(|round| {
            let (mut gradient, mut penalty) = (None, None);
            for (name, gamma) in [("Loss/r1_penalty", s.r1.gamma), ("Loss/r2_penalty", s.r2_gamma)] {
                if gamma == 0.0 {
                    continue;
                }
                let images = match name {
                    "Loss/r2_penalty" => phases::generated(&n.g, draws.draw(self.micro_batch))?,
                    _ => self.part_of(reals, round),
                };
                let norms = phases::discriminator_reg(&n.d, &images, &mut augment)?;
                stats.report(name, &norms);
                add(&mut gradient, n.d_flat.gradient(&(mean(&norms) * (gamma / 2.0 * gain)))?);
                add(&mut penalty, norms.detach() * (gamma / 2.0));
            }
            stats.report("Loss/D/reg", &penalty.context("R1 or R2 has a weight")?);
            gradient.context("R1 or R2 has a weight")
        })?;
        Ok((gradient, ()))
    }

    fn average(&mut self) -> Result<()> {
        let beta = self.settings.ema.beta(self.settings.batch, self.seen_images);
        let averaged = caught(|| {
            self.networks.update_ema(beta);
            Ok(())
        });
        averaged.with_context(|| format!("the averaged generator of iteration {}", self.iteration))
    }

    /// Returns the number of micro-batches in a batch.
    pub(super) fn rounds(&self) -> u64 {
        self.settings.batch / self.micro_batch
    }

    /// Sums the gradients of all micro-batches.
    fn sum_over_rounds(&self, mut gradient: impl FnMut(u64) -> Result<Tensor>) -> Result<Tensor> {
        let mut sum = None;
        for round in 0..self.rounds() {
            add(&mut sum, gradient(round)?);
        }
        sum.context("a batch has at least one micro-batch")
    }

    /// Returns the real images of one micro-batch.
    fn part_of(&self, reals: &Reals, round: u64) -> Reals {
        reals.narrow(round * self.micro_batch, self.micro_batch)
    }

    /// Seeds the latents and noise of a phase.
    fn draws(&self, phase: Phase) -> PhaseDraws<'_> {
        let rng = self.seeded(phase);
        PhaseDraws { g: &self.networks.g, classes: self.classes.as_ref(), mixing: self.settings.style_mixing, rng }
    }

    fn seeded(&self, phase: Phase) -> ChaCha8Rng {
        seed_torch(self.settings.seed, self.iteration, phase.stream(), 0);
        host_rng(self.settings.seed, self.iteration, phase.stream(), 0)
    }

    fn augment(&self, stream: Stream) -> Augment {
        let draws = host_rng(self.settings.seed, self.iteration, stream, 0);
        Augment::new(self.settings.augment.transforms, self.augment_p(), Draws::Random(Box::new(draws)))
    }
}

fn add(sum: &mut Option<Tensor>, term: Tensor) {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.g_add_(&term),
        None => term,
    });
}
