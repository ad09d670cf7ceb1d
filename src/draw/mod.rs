//! Brings pictures to disk: PNG, grids, plots. Nothing here knows a tensor.

pub mod grid;
pub mod pixels;
pub mod plot;
