//! The processes of a run besides the first one: they compute their share of every batch, and write nothing.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::feed::{classes_of, loader, reals_of};
use super::orders::{Order, announce};
use super::start::Start;
use crate::system::signals::{StopRequest, Stopped};
use crate::tensor::caught;
use crate::train::{Diverged, Statistics, Trainer};

/// Trains under the orders of the first process until it ends the run.
///
/// # Errors
/// A picture that has gone, a network that fails, or another process that has left; [`Stopped`] where a signal asked
/// for the end.
pub fn follow(start: Start) -> Result<()> {
    let stop = StopRequest::listen()?;
    let Start { settings, mut networks, dataset, evaluator, world, .. } = start;
    ensure!(!world.is_first(), "the first process has a run of its own");
    networks.set_precision(settings.precision)?;
    let dataset = Arc::new(dataset);
    let mut pictures = loader(&settings, &dataset, 0, &world)?;
    let mut trainer = Trainer::in_world(networks, settings.train.clone(), classes_of(&dataset), Rc::clone(&world));
    let mut statistics = Statistics::default();
    loop {
        match announce(&world, None, &stop)? {
            Order::Follow => {
                trainer.follow_first(&mut statistics)?;
                pictures = loader(&settings, &dataset, trainer.seen_images, &world)?;
            }
            Order::Iterate => {
                let reals = reals_of(&pictures.next()?, &trainer, &dataset);
                // Training diverges in all processes at once; the first one tells of it and decides what comes.
                match trainer.iterate(&reals, &mut statistics) {
                    Err(error) if !error.is::<Diverged>() => return Err(error),
                    _ => drop(trainer.take_notices()),
                }
            }
            Order::Gather => {
                trainer.gather(&mut statistics)?;
                world.gather(&trainer.fingerprint())?;
            }
            Order::Measure => {
                // The first process tells what failed, and goes on training.
                if let Some(evaluator) = &evaluator {
                    let _ = caught(|| evaluator.assist(&trainer.networks.g_ema));
                }
            }
            Order::End => {
                return match stop.received() {
                    Some(signal) => Err(Stopped { signal, message: String::new() }.into()),
                    None => Ok(()),
                };
            }
        }
    }
}
