//! A training iteration: networks and settings in, better networks out. Nothing here knows a command line, a path or a
//! file; runs with a folder are in `run/`.

mod ada;
pub mod draw;
mod drift;
mod ema;
mod iteration;
pub mod networks;
pub mod objective;
pub mod optimizer;
pub mod phases;
pub mod preflight;
pub mod regularizers;
mod retry;
mod rounds;
pub mod settings;
pub mod state;
pub mod stats;
mod step_guard;
mod timing;
pub mod trainer;

pub use ada::AdaSettings;
pub use draw::Reals;
pub use ema::EmaSettings;
pub use networks::Networks;
pub use optimizer::AdamSettings;
pub use rounds::possible_micro_batches;
pub use settings::{AugmentSettings, TrainSettings};
pub use stats::Statistics;
pub use step_guard::Diverged;
pub use trainer::Trainer;
