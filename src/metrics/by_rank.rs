//! Rows of a detector that several processes make together: in each round every process looks at one batch.

use std::ops::Range;

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::tensor::world::World;

/// What one detector says about a batch of N pictures.
#[derive(Debug)]
pub struct DetectorRows {
    /// [N, F]; None where none are needed.
    pub features: Option<Tensor>,
    /// [N, classes]; None where none are needed.
    pub probabilities: Option<Tensor>,
}

/// What a process tells the others before it sends its rows.
#[derive(Serialize, Deserialize)]
struct Announced {
    /// Why there are none.
    error: Option<String>,
    /// Widths of features and probabilities, by detector; None where none are sent.
    widths: Vec<[Option<i64>; 2]>,
}

/// Returns what all processes found in a round, in the order of its batches: `round` has one for each process, fewer at
/// the end. `own` are the rows of this process's batch by detector; nothing where it has none.
///
/// # Errors
/// `own` is an error, that of another process, or another process has left.
pub fn exchanged(
    world: &World,
    round: &[Range<usize>],
    own: Result<Vec<DetectorRows>>,
) -> Result<Vec<Vec<DetectorRows>>> {
    if world.size() == 1 {
        return Ok(vec![own?]);
    }
    let width = |rows: &Option<Tensor>| rows.as_ref().map(|rows| rows.size()[1]);
    let announced = Announced {
        error: own.as_ref().err().map(|error| format!("{error:#}")),
        widths: own.iter().flatten().map(|rows| [width(&rows.features), width(&rows.probabilities)]).collect(),
    };
    let all = world.gather(&serde_json::to_vec(&announced)?)?;
    let own = own?;
    let all = all.iter().map(|text| serde_json::from_slice(text)).collect::<Result<Vec<Announced>, _>>()?;
    if let Some((rank, error)) = all.iter().enumerate().find_map(|(rank, one)| Some((rank, one.error.as_ref()?))) {
        bail!("process {rank}: {error}");
    }
    let mut found = Vec::new();
    for (root, (range, announced)) in round.iter().zip(&all).enumerate() {
        let own = if root as u64 == world.rank() { &*own } else { &[] };
        let send = |detector: usize, part: usize, width: Option<i64>| -> Result<Option<Tensor>> {
            let Some(width) = width else { return Ok(None) };
            let own = own.get(detector).and_then(|rows| [&rows.features, &rows.probabilities][part].as_ref());
            let zeros = || Tensor::zeros([range.len() as i64, width], (Kind::Float, Device::Cpu));
            let rows = own.map_or_else(zeros, |rows| rows.to_device(Device::Cpu).to_kind(Kind::Float).contiguous());
            world.broadcast_(&rows, root as u64).map_err(|error| anyhow!("cannot share features: {error:#}"))?;
            Ok(Some(rows))
        };
        let rows = announced.widths.iter().enumerate().map(|(detector, &[features, probabilities])| {
            Ok(DetectorRows {
                features: send(detector, 0, features)?,
                probabilities: send(detector, 1, probabilities)?,
            })
        });
        found.push(rows.collect::<Result<Vec<_>>>()?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_alone_keeps_its_rows_and_its_error() {
        let world = World::alone();
        let rows = DetectorRows { features: Some(Tensor::from_slice(&[1f32, 2.0]).view([1, 2])), probabilities: None };
        let all = exchanged(&world, std::slice::from_ref(&(0..1)), Ok(vec![rows])).unwrap();
        assert_eq!(all[0][0].features.as_ref().unwrap().size(), [1, 2]);
        let error = exchanged(&world, &[], Err(anyhow!("no disk"))).unwrap_err();
        assert_eq!(error.to_string(), "no disk");
    }
}
