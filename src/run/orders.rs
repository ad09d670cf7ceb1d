//! The orders by which the first of several processes leads the others.
//!
//! The first process has the run's folder: it alone decides what comes next, by its clock, its checkpoints and the
//! signals. Before each step it announces the step, so that all processes take part in the same sums; a signal that
//! reached any of them is known to all afterwards.

use anyhow::{Result, bail};
use tch::Tensor;

use crate::system::signals::{Signal, StopRequest};
use crate::tensor::world::World;

/// A step that all processes do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Take over the state of the first process.
    Follow = 1,
    /// Train on the next batch.
    Iterate = 2,
    /// Send the waiting statistics to the first process, and show that weights and optimisers are still the same everywhere.
    Gather = 3,
    /// Make features of the averaged generator's pictures for the metrics.
    Measure = 4,
    /// End.
    End = 5,
}

const ORDERS: [Order; 5] = [Order::Follow, Order::Iterate, Order::Gather, Order::Measure, Order::End];
const SIGNALS: [Signal; 3] = [Signal::Interrupt, Signal::Terminate, Signal::Hangup];

/// Announces `order` in the first process, where it is Some, or waits for it in the others. A signal that came to any
/// process since the last order is handed to all of them.
///
/// # Errors
/// Another process has left.
pub(super) fn announce(world: &World, order: Option<Order>, stop: &StopRequest) -> Result<Order> {
    if let (1, Some(order)) = (world.size(), order) {
        return Ok(order);
    }
    let own = SIGNALS.map(|signal| i64::from(stop.received() == Some(signal)));
    let mut numbers = vec![order.map_or(0, |order| order as i64)];
    numbers.extend(own);
    let numbers = Tensor::from_slice(&numbers);
    world.sum_(&numbers)?;
    let came = SIGNALS.iter().zip(1..).find(|&(_, at)| numbers.int64_value(&[at]) > 0);
    if let (None, Some((&signal, _))) = (stop.received(), came) {
        stop.ask(signal);
    }
    let number = numbers.int64_value(&[0]);
    match ORDERS.into_iter().find(|&order| order as i64 == number) {
        Some(order) => Ok(order),
        None => bail!("the processes are out of step (order {number}); please report it"),
    }
}
