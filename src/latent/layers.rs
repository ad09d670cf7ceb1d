//! Ranges of layers: rows of ws, counted from the coarsest, which is 0.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

/// Some of the rows of ws, as they are typed.
///
/// # Source
/// The three named ranges are those of Karras et al., arXiv 1812.04948, section 3.1, by the numbers of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerRange {
    /// All rows.
    #[default]
    All,
    /// Rows 0 to 3: 4x4, 8x8 and, in StyleGAN2, the first convolution of 16x16.
    Coarse,
    /// Rows 4 to 7: the rest of 16x16, 32x32 and the first convolution of 64x64.
    Middle,
    /// Rows from 8 on: the rest of 64x64, and more.
    Fine,
    /// The rows from the first to the last, both among them.
    Rows(u32, u32),
}

impl LayerRange {
    /// Returns the rows among the `num_ws` of a generator.
    ///
    /// # Errors
    /// The generator has fewer rows.
    pub fn rows(self, num_ws: i64) -> Result<Range<i64>> {
        let rows = match self {
            LayerRange::All => 0..num_ws,
            LayerRange::Coarse => 0..num_ws.min(4),
            LayerRange::Middle => 4..num_ws.min(8),
            LayerRange::Fine => 8..num_ws,
            LayerRange::Rows(first, last) => i64::from(first)..i64::from(last) + 1,
        };
        ensure!(
            rows.start < rows.end && rows.end <= num_ws,
            "cannot take the layers {self}: the generator has the layers 0 to {}; pass some of these",
            num_ws - 1
        );
        Ok(rows)
    }
}

impl FromStr for LayerRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let cannot = || {
            format!("cannot read the layers '{text}'; pass coarse, middle, fine, all, a number, or a range as in 0-3")
        };
        let number = |digits: &str| digits.parse::<u32>().with_context(cannot);
        Ok(match text {
            "all" => LayerRange::All,
            "coarse" => LayerRange::Coarse,
            "middle" => LayerRange::Middle,
            "fine" => LayerRange::Fine,
            _ => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let (first, last) = (number(first)?, number(last)?);
                ensure!(first <= last, "cannot read the layers '{text}': they run backwards; write {last}-{first}");
                LayerRange::Rows(first, last)
            }
        })
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerRange::All => f.write_str("all"),
            LayerRange::Coarse => f.write_str("coarse"),
            LayerRange::Middle => f.write_str("middle"),
            LayerRange::Fine => f.write_str("fine"),
            LayerRange::Rows(first, last) if first == last => write!(f, "{first}"),
            LayerRange::Rows(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, num_ws: i64) -> Result<Range<i64>> {
        text.parse::<LayerRange>()?.rows(num_ws)
    }

    #[test]
    fn names_and_numbers_are_rows() {
        let named = ["all", "coarse", "middle", "fine"].map(|name| rows(name, 14).unwrap());
        assert_eq!(named, [0..14, 0..4, 4..8, 8..14]);
        assert_eq!([rows("2-5", 14).unwrap(), rows("13", 14).unwrap()], [2..6, 13..14]);
        assert_eq!([rows("middle", 6).unwrap(), rows("coarse", 2).unwrap()], [4..6, 0..2]);
    }

    #[test]
    fn a_range_is_written_as_it_is_read() {
        for text in ["all", "coarse", "middle", "fine", "7", "2-5"] {
            assert_eq!(text.parse::<LayerRange>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_range_is_named_with_what_is_allowed() {
        for text in ["", "rough", "-1", "1-x", "1-2-3", "99999999999"] {
            let message = text.parse::<LayerRange>().unwrap_err().to_string();
            assert!(message.contains(&format!("'{text}'")) && message.contains("coarse"), "{message}");
        }
        assert!(rows("3-1", 6).unwrap_err().to_string().contains("write 1-3"));
        for text in ["6", "0-6", "fine"] {
            assert!(rows(text, 6).unwrap_err().to_string().contains("layers 0 to 5"));
        }
    }
}
