//! The beginning of a run, new or resumed.

use std::path::PathBuf;
use std::rc::Rc;

use super::checkpoint::Resumed;
use super::evaluator::Evaluator;
use super::launch::Launch;
use crate::config::RunSettings;
use crate::data::Dataset;
use crate::tensor::world::World;
use crate::train::Networks;

/// The parts that a run starts from: settings, networks, pictures and, where it goes on, a checkpoint.
pub struct Start {
    /// The resolved options.
    pub settings: RunSettings,
    /// The launch by torchrun that the run belongs to.
    pub launch: Option<Launch>,
    /// The processes that train together; the first one has the folder.
    pub world: Rc<World>,
    /// The loaded pair.
    pub networks: Networks,
    /// The pictures, of the pair's resolution and channels.
    pub dataset: Dataset,
    /// Measures the snapshots, where the settings name metrics; made early, so that nothing is written before a wrong one
    /// is refused.
    pub evaluator: Option<Evaluator>,
    /// Lines about options and pictures, for the terminal and the log.
    pub remarks: Vec<String>,
    /// Every picture that was left out, for a list in the folder.
    pub bad_pictures: Vec<String>,
    /// The folder of a new run; None makes the next one in `--outdir`.
    pub folder: Option<PathBuf>,
    /// The run that goes on; None where a new one begins.
    pub resume: Option<Resumed>,
}
