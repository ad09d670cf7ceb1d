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
