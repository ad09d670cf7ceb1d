//! Brings pictures to disk: PNG, grids, plots, films. Nothing here knows a tensor.

pub mod film;
pub mod grid;
pub mod pixels;
pub mod plot;
