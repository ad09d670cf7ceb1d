//! The machine and the terminal: signals, panics, memory, processor, GPUs, what a process may write, lines and progress bars.

pub mod available;
pub mod confine;
pub mod gpu;
pub mod installation;
pub mod memory;
pub mod panics;
pub mod processor;
pub mod signals;
pub mod ui;
