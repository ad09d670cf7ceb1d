//! The processes that a command runs in, as torchrun or `--processes` started them, and what the first tells the others.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::config::Options;
use crate::run::launch::Launch;
use crate::run::networks::NetworkFiles;
use crate::system::ui::{Verbosity, is_verbose, set_verbosity};
use crate::tensor::device;
use crate::tensor::world::{ProcessPlace, World};

/// The longest wait for the others to start.
const JOIN_TIMEOUT: Duration = Duration::from_secs(600);

/// What the first process has found, and the others need to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingPlan {
    /// The options of the run.
    pub options: Options,
    /// The networks that it starts from.
    pub files: NetworkFiles,
    /// Whether it is a run that goes on.
    pub goes_on: bool,
}

/// The processes of one training, this one among them.
pub struct Team {
    place: Option<ProcessPlace>,
    /// The number of processes that there are, or will be.
    pub planned: u64,
    /// The launch by torchrun, and how often it has started the processes again.
    pub launch: Option<Launch>,
    restarts: u64,
    /// Joined processes; this one alone until then.
    pub world: World,
}

impl Team {
    /// Makes the team of one process.
    pub fn alone() -> Self {
        Self { place: None, planned: 1, launch: None, restarts: 0, world: World::alone() }
    }

    /// Reads from the environment how many processes there are and which one this is. All but the first then tell warnings
    /// alone, unless asked for more.
    ///
    /// # Errors
    /// A variable is missing or no number.
    pub fn from_env() -> Result<Self> {
        let place = ProcessPlace::from_env()?;
        let (planned, restarts) = place.as_ref().map_or((1, 0), |place| (place.size, place.restarts));
        let launch = place.as_ref().and_then(|_| Launch::from_env());
        if place.as_ref().is_some_and(|place| place.rank > 0) && !is_verbose() {
            // The first process tells what all of them do.
            set_verbosity(Verbosity::Quiet);
        }
        Ok(Self { place, planned, launch, restarts, world: World::alone() })
    }

    /// Whether the processes were started again after one of them had died.
    pub fn is_restarted(&self) -> bool {
        self.restarts > 0
    }

    /// Whether this process leads: it alone has the folder of the run.
    pub fn is_first(&self) -> bool {
        self.place.as_ref().is_none_or(|place| place.rank == 0)
    }

    /// Returns the device of this process: of several processes on one machine each takes a GPU of its own.
    ///
    /// # Errors
    /// There is no such device, or all processes would share it.
    pub fn device(&self, name: Option<&str>) -> Result<Device> {
        let name = name.unwrap_or("auto");
        let device = device::parse(name)?;
        match &self.place {
            Some(place) if place.size > 1 && device.is_cuda() => {
                ensure!(!name.contains(':'), "each process takes a GPU of its own; pass --device cuda, not {name}");
                device::parse(&format!("cuda:{}", place.local_rank))
            }
            _ => Ok(device),
        }
    }

    /// Waits for the other processes.
    ///
    /// # Errors
    /// The others do not come.
    pub fn join(&mut self) -> Result<()> {
        if let Some(place) = &self.place {
            self.world = World::join(place, JOIN_TIMEOUT)?;
        }
        Ok(())
    }

    /// Waits for the other processes, and tells them the plan.
    ///
    /// # Errors
    /// The others do not come.
    pub fn join_as_first(&mut self, plan: &TrainingPlan) -> Result<()> {
        self.join()?;
        self.world.share(&serde_json::to_vec(plan)?, 0).map(drop)
    }

    /// Waits for the first process; returns its plan.
    ///
    /// # Errors
    /// The first process does not come, or has ended.
    pub fn join_and_receive(&mut self) -> Result<TrainingPlan> {
        self.join()?;
        Ok(serde_json::from_slice(&self.world.share(&[], 0)?)?)
    }
}
