//! The finetune run: networks and phases, one iteration, the loop around it, and what it writes.

pub mod comparison;
pub mod draw;
pub mod evaluate;
pub mod journal;
pub mod networks;
mod outcomes;
pub mod phases;
pub mod preview;
mod provenance;
pub mod rehearsal;
pub mod resume;
pub mod run;
pub mod run_dir;
pub mod state;
pub mod step;
mod tick;

pub use run::{Finetune, finetune};
