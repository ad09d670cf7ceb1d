//! Scalars for TensorBoard: an event file of TFRecords.
//!
//! The crates for it are unmaintained; the format is two messages (`event.proto`, `summary.proto` of
//! TensorFlow) in frames of length, masked CRC-32C, data, masked CRC-32C.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

use crate::files::opening::new_to_append;

/// An open event file.
pub struct EventFile {
    file: File,
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<EventSummary>,
}

#[derive(Clone, PartialEq, Message)]
struct EventSummary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<EventValue>,
}

#[derive(Clone, PartialEq, Message)]
struct EventValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

impl EventFile {
    /// Creates `events.out.tfevents.<seconds>.rootgan` in `folder`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let name = format!("events.out.tfevents.{:010}.rootgan", now() as u64);
        let path = folder.join(&name);
        let file = new_to_append(&path).with_context(|| format!("cannot write '{}'", path.display()))?;
        let mut events = Self { file, name };
        events.begin()?;
        Ok(events)
    }

    /// Goes on with a file that is open at its end; an empty one is begun.
    ///
    /// # Errors
    /// The file's length cannot be read, or the file cannot be written.
    pub fn from_open(file: File, name: String) -> Result<Self> {
        let is_empty = file.metadata()?.len() == 0;
        let mut events = Self { file, name };
        if is_empty {
            events.begin()?;
        }
        Ok(events)
    }

    /// Cuts off what is beyond `bytes`.
    ///
    /// # Errors
    /// The file cannot be changed.
    pub fn cut(&self, bytes: u64) -> Result<()> {
        let attempt = || -> std::io::Result<()> {
            if self.file.metadata()?.len() > bytes { self.file.set_len(bytes) } else { Ok(()) }
        };
        attempt().with_context(|| format!("cannot go on with '{}'", self.name))
    }

    fn begin(&mut self) -> Result<()> {
        self.write(Event { wall_time: now(), file_version: Some("brain.Event:2".to_owned()), ..Event::default() })
    }

    /// Returns the name of the file, and its length in bytes.
    ///
    /// # Errors
    /// The length of the file cannot be read.
    pub fn place(&self) -> Result<(String, u64)> {
        Ok((self.name.clone(), self.file.metadata()?.len()))
    }

    /// Adds scalars at `step`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars<'a>(&mut self, step: i64, scalars: impl Iterator<Item = (&'a str, f64)>) -> Result<()> {
        let value = scalars.map(|(tag, value)| EventValue { tag: tag.to_owned(), simple_value: Some(value as f32) });
        let summary = Some(EventSummary { value: value.collect() });
        self.write(Event { wall_time: now(), step, summary, ..Event::default() })
    }

    fn write(&mut self, event: Event) -> Result<()> {
        self.file.write_all(&frame(&event.encode_to_vec())).context("cannot write the TensorBoard events")
    }
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (head, tail) = (masked_crc(&length).to_le_bytes(), masked_crc(data).to_le_bytes());
    [length.as_slice(), head.as_slice(), data, tail.as_slice()].concat()
}

/// Computes the masked CRC; the mask keeps the CRC of data that contains CRCs from being trivial.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CRC-32C of RFC 3720, appendix B.4: 32 bytes of zeros give 0x8a9136aa.
    #[test]
    fn the_checksum_is_the_masked_castagnoli() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // 0x8a9136aa rotated right by 15 is 0x6d551522.
        assert_eq!(masked_crc(&[0; 32]), 0x6d55_1522u32.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_frame_holds_the_message_between_its_checksums() {
        let folder = tempfile::tempdir().unwrap();
        EventFile::create(folder.path()).unwrap().scalars(7, [("Loss/G/loss", 2.5)].into_iter()).unwrap();
        let entry = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let first = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        // Every file that TensorFlow writes begins with these bytes: its first message has 24 of them.
        assert_eq!(frame(&[0; 24])[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        let rest = &bytes[first + 16..];
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(rest.len(), length + 16);
        let (head, message, tail) = (&rest[8..12], &rest[12..12 + length], &rest[12 + length..]);
        assert_eq!((head, tail), (&masked_crc(&rest[..8]).to_le_bytes()[..], &masked_crc(message).to_le_bytes()[..]));
        let event = Event::decode(message).unwrap();
        assert_eq!(event.step, 7);
        assert_eq!(event.summary.unwrap().value[0].simple_value, Some(2.5));
    }
}
