//! The numbers in the names of snapshots and grids: `000020`, the thousands of images seen, as StyleGAN tools write them;
//! and `000020_512`, all of the images seen, for a later one within the same thousand.
//!
//! No two outputs of a run share a number, names sort in the order in which they were made, and a run that is resumed gives
//! the numbers again that an uninterrupted one would have given.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number in a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    kimg: u64,
    /// The images beyond the thousand, where an earlier output has the number of the thousand alone.
    beyond: Option<u64>,
}

impl Number {
    /// Returns the fewest images that an output of this number has seen.
    pub fn least_images(self) -> u64 {
        self.kimg.saturating_mul(1000).saturating_add(self.beyond.unwrap_or(0))
    }
}

impl From<u64> for Number {
    fn from(kimg: u64) -> Self {
        Self { kimg, beyond: None }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.kimg)?;
        self.beyond.map_or(Ok(()), |beyond| write!(f, "_{beyond:03}"))
    }
}

/// A text that is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNumber;

impl FromStr for Number {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        let (kimg, beyond) = text.split_once('_').map_or((text, None), |(kimg, beyond)| (kimg, Some(beyond)));
        let parse = |digits: &str| digits.parse::<u64>().map_err(|_| NoNumber);
        let number = Self { kimg: parse(kimg)?, beyond: beyond.map(parse).transpose()? };
        // Only the form that is written here counts: signs, missing zeros and more than three digits are another
        // file's.
        let is_ours = number.to_string() == text && number.beyond.is_none_or(|beyond| beyond < 1000);
        is_ours.then_some(number).ok_or(NoNumber)
    }
}

/// An output with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Images seen when the output was made.
    pub seen_images: u64,
    /// Whether an earlier output has the number of the thousand alone.
    is_later: bool,
}

impl Numbered {
    /// Numbers the next output after `last`, the newest of its kind; at the same images it is `last` again.
    pub fn after(last: Option<Self>, seen_images: u64) -> Self {
        match last {
            Some(last) if last.seen_images == seen_images => last,
            Some(last) => Self { seen_images, is_later: last.seen_images / 1000 == seen_images / 1000 },
            None => Self { seen_images, is_later: false },
        }
    }

    /// Describes an output found under this number.
    pub fn found(number: Number, seen_images: u64) -> Self {
        Self { seen_images, is_later: number.beyond.is_some() }
    }

    /// Returns the number.
    pub fn number(self) -> Number {
        Number { kimg: self.seen_images / 1000, beyond: self.is_later.then_some(self.seen_images % 1000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_one_thousand_have_numbers_of_their_own_that_sort_in_order() {
        let (mut last, mut texts, mut numbers) = (None, Vec::new(), Vec::new());
        for seen_images in [104, 204, 999, 1004, 1104, 4032, 8032, 1_000_000, 1_000_500, 999_999_000, 1_000_000_000] {
            let numbered = Numbered::after(last, seen_images);
            assert_eq!(Numbered::after(Some(numbered), seen_images), numbered, "made again it keeps its number");
            texts.push(numbered.number().to_string());
            numbers.push(numbered.number());
            last = Some(numbered);
        }
        let expected = [
            "000000",
            "000000_204",
            "000000_999",
            "000001",
            "000001_104",
            "000004",
            "000008",
            "001000",
            "001000_500",
            "999999",
            "1000000",
        ];
        assert_eq!(texts, expected);
        assert!(numbers.is_sorted(), "{numbers:?}");
        // Names up to six digits sort as text too, with what follows the number in them.
        let names: Vec<String> = texts[..10].iter().map(|text| format!("fakes{text}.png")).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn only_what_is_written_here_is_read() {
        for text in ["000000", "000020_512", "000020_007", "1000000", "1000000_000"] {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), text);
        }
        for text in ["", "20", "0000020", "+00020", "000020_", "000020_12", "000020_1000", "000020_1_2", "_123", "init"]
        {
            assert_eq!(text.parse::<Number>(), Err(NoNumber), "{text}");
        }
    }
}
