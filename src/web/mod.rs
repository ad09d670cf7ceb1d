//! A local web page that shows runs and explores generators, and reports of runs as one file.
//!
//! `server.rs` answers requests: to whom, `access.rs` decides; what a run's folder holds is read by `runs.rs`, and what
//! the user should know of it is said by `warnings.rs`. `explore.rs` makes pictures on a thread of its own, and `report.rs`
//! puts page and data into one file. The page itself is in `page/`: HTML, CSS and JavaScript as they are, with no build
//! step and nothing from elsewhere.

mod access;
pub mod explore;
pub mod points;
pub mod report;
pub mod runs;
pub mod server;
mod warnings;
