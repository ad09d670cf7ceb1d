//! One training iteration on one screen: the four phases in the paper's order, then the average.
//!
//! `phases.rs` computes the phases, `objective/` their losses. Each phase goes through [`Trainer::phase`], which takes
//! the optimiser's step with the gradient that a closure sums over micro-batches and processes (`rounds.rs`); around that go
//! timing (`timing.rs`) and another try where memory ran out (`retry.rs`). The look at skipped steps comes after the phases
//! (`step_guard.rs`).

use anyhow::{Context, Result};
use tch::Tensor;

use super::draw::{PhaseDraws, Reals};
use super::drift::PhaseGradient;
use super::objective::{Logits, discriminator_graphs};
use super::phases::{self, Judged, Phase, mean};
use super::rounds::{Round, add};
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
            let pl_means = self.phase(Phase::Greg, stats, |t, stats| t.generator_reg(stats))?;
            self.pl_mean = self.pl_mean.moved_to(&self.mean_over_rounds(&pl_means)?);
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
        self.ada.adapt(self.iteration, self.settings.batch, &self.world)
    }

    fn generator_main(&self, reals: &Reals, stats: &mut Statistics) -> Result<(PhaseGradient, ())> {
        let (n, objective) = (&self.networks, &*self.settings.objective);
        let gradient = self.sum_over_rounds(|round| {
            let (mut draws, mut augment) =
                (self.draws(Phase::Gmain, round), self.augment(Stream::AugmentGeneratorMain, round));
            let (draw, reals) = (draws.draw(self.micro_batch), self.part_of(reals, round));
            let Judged { losses, logits } = phases::generator_main(&n.g, &n.d, objective, &draw, &reals, &mut augment)?;
            stats.report("Loss/G/loss", &losses);
            let logits = logits.detach();
            stats.report("Loss/G/slope", &objective.generator_slope(&logits));
            // Real images are counted in the discriminator's step.
            let of_fakes = |values: Logits| Logits { reals: None, ..values };
            let signs = of_fakes(objective.signs(&logits));
            stats.report_logits(&of_fakes(logits), &signs);
            n.g_flat.gradient(&(mean(&losses) / self.rounds() as f64))
        })?;
        Ok((gradient, ()))
    }

    /// Computes path length on half as many images, as published, since it takes more than twice the memory. Returns
    /// the gradient, and the means that `pl_mean` would move to by each micro-batch, [rounds].
    fn generator_reg(&self, stats: &mut Statistics) -> Result<(PhaseGradient, Tensor)> {
        let (n, s) = (&self.networks, self.settings.path_length);
        let gain = s.interval as f64 / self.rounds() as f64;
        let mut pl_means = Vec::new();
        let gradient = self.sum_over_rounds(|round| {
            let draw = self.draws(Phase::Greg, round).draw((self.micro_batch / 2).max(1));
            // Every micro-batch moves the mean from the same place, so that their order does not matter.
            let mut pl_mean = self.pl_mean.copy();
            let penalties = phases::generator_reg(&n.g, &mut pl_mean, &draw, None)?;
            pl_means.push(pl_mean.pl_mean);
            stats.report("Loss/pl_penalty", &penalties);
            stats.report("Loss/G/reg", &(&penalties * s.weight));
            n.g_flat.gradient(&(mean(&penalties) * (s.weight * gain)))
        })?;
        Ok((gradient, Tensor::stack(&pl_means, 0)))
    }

    /// Judges generated and real images one after the other, so that only one graph is in memory, unless the objective
    /// compares them. Returns the gradient, and the signs of D(real), which the augmentation follows.
    fn discriminator_main(&self, reals: &Reals, stats: &mut Statistics) -> Result<(PhaseGradient, Vec<Tensor>)> {
        let (n, objective, share) = (&self.networks, &*self.settings.objective, 1.0 / self.rounds() as f64);
        let mut signs = Vec::new();
        let gradient = self.sum_over_rounds(|round| {
            let (mut draws, mut augment) =
                (self.draws(Phase::Dmain, round), self.augment(Stream::AugmentDiscriminatorMain, round));
            let (draw, reals) = (draws.draw(self.micro_batch), self.part_of(reals, round));
            let (mut gradient, mut losses) = (None, None);
            for &seen in discriminator_graphs(objective) {
                let judged = phases::discriminator_main(&n.g, &n.d, objective, seen, &draw, &reals, &mut augment)?;
                add(&mut gradient, n.d_flat.gradient(&(mean(&judged.losses) * share))?);
                add(&mut losses, judged.losses.detach());
                let logits = judged.logits.detach();
                let found = objective.signs(&logits);
                stats.report_logits(&logits, &found);
                stats.report("Loss/D/slope", &objective.discriminator_slope(&logits));
                signs.extend(found.reals);
            }
            stats.report("Loss/D/loss", &losses.context("an objective has at least one graph")?);
            gradient.context("an objective has at least one graph")
        })?;
        Ok((gradient, signs))
    }

    /// Computes R1 on real images, then R2 on generated ones, each where it has a weight.
    fn discriminator_reg(&self, reals: &Reals, stats: &mut Statistics) -> Result<(PhaseGradient, ())> {
        let (n, s) = (&self.networks, &self.settings);
        let gain = s.r1.interval as f64 / self.rounds() as f64;
        let gradient = self.sum_over_rounds(|round| {
            let (mut draws, mut augment) =
                (self.draws(Phase::Dreg, round), self.augment(Stream::AugmentDiscriminatorReg, round));
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

    /// Returns the real images of one micro-batch.
    fn part_of(&self, reals: &Reals, round: Round) -> Reals {
        reals.narrow(round.in_process * self.micro_batch, self.micro_batch)
    }

    /// Seeds the latents and noise of a phase by the place of the micro-batch in the batch.
    fn draws(&self, phase: Phase, round: Round) -> PhaseDraws<'_> {
        let (seed, stream) = (self.settings.seed, phase.stream());
        seed_torch(seed, self.iteration, stream, round.in_batch);
        let rng = host_rng(seed, self.iteration, stream, round.in_batch);
        PhaseDraws { g: &self.networks.g, classes: self.classes.as_ref(), mixing: self.settings.style_mixing, rng }
    }

    fn augment(&self, stream: Stream, round: Round) -> Augment {
        let draws = host_rng(self.settings.seed, self.iteration, stream, round.in_batch);
        Augment::new(self.settings.augment.transforms, self.augment_p(), Draws::Random(Box::new(draws)))
    }
}
