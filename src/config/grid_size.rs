//! The size of preview grids as an option: `COLUMNSxROWS`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// A grid's size as an option: `COLUMNSxROWS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GridSize {
    /// Pictures side by side.
    pub columns: usize,
    /// Pictures on top of each other.
    pub rows: usize,
}

impl GridSize {
    /// Returns the grid that fits an 8K screen (7680 x 4320) at `side` pixels a picture (at least 1), as in the
    /// StyleGAN tools: 7x4 at 1024, 15x8 at 512, 30x16 at 256, 32x32 at 128 and below.
    pub fn for_resolution(side: u64) -> Self {
        let fitting = |length: u64, fewest: u64| (length / side).clamp(fewest, 32) as usize;
        Self { columns: fitting(7680, 7), rows: fitting(4320, 4) }
    }
}

impl FromStr for GridSize {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let size = text.split_once('x').and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
        match size {
            Some((columns, rows)) if (1..=256).contains(&columns) && (1..=256).contains(&rows) => {
                Ok(Self { columns, rows })
            }
            _ => bail!("'{text}' is no grid; write COLUMNSxROWS with numbers from 1 to 256, as in 8x4"),
        }
    }
}

impl TryFrom<String> for GridSize {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<GridSize> for String {
    fn from(size: GridSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for GridSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_as_the_stylegan_tools_draw_them() {
        let texts = [1024, 512, 256, 128, 16].map(|side| GridSize::for_resolution(side).to_string());
        assert_eq!(texts, ["7x4", "15x8", "30x16", "32x32", "32x32"]);
    }
}
