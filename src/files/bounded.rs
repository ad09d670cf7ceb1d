//! Reads whole files, but only those that memory has room for, whatever is at the path.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::opening::to_read;
use crate::system::available::available_memory;

/// The divisor that turns free memory into what a file may take of it: the file is unpacked, or copied, afterwards.
const SHARE: u64 = 3;

/// Reads the bytes of a file that fits into memory several times.
///
/// # Errors
/// The file cannot be read, is no regular file, or is too large for this machine.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read '{}'", path.display());
    let file = to_read(path).with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    let room = available_memory().unwrap_or(u64::MAX);
    ensure!(
        length.saturating_mul(SHARE) <= room,
        "cannot read '{}': it has {} MiB, and this machine {} MiB of free memory, of which a third may be used; is it the right file?",
        path.display(),
        length >> 20,
        room >> 20
    );
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

/// Reads a text in UTF-8 that grows with a run, such as its statistics.
///
/// # Errors
/// The errors of [`read_bytes`], or the file is no text in UTF-8.
pub fn read_long_text(path: &Path) -> Result<String> {
    String::from_utf8(read_bytes(path)?)
        .ok()
        .with_context(|| format!("cannot read '{}': it is no text in UTF-8", path.display()))
}

/// The longest text that is read: more than any record, manifest or configuration has.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// Reads a text file in UTF-8, without the byte-order mark that some editors put before it.
///
/// # Errors
/// The file cannot be read, is too large, or is no text in UTF-8. The message has no remedy: what to do instead is the
/// caller's to say.
pub fn read_text(path: &Path) -> Result<String> {
    let shown = path.display();
    let cannot = || format!("cannot read '{shown}'");
    let mut bytes = Vec::new();
    to_read(path).and_then(|file| file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)).with_context(cannot)?;
    ensure!(
        bytes.len() as u64 <= MAX_TEXT_BYTES,
        "cannot read '{shown}': it has more than {} MiB, which no such file has",
        MAX_TEXT_BYTES >> 20
    );
    let text =
        String::from_utf8(bytes).ok().with_context(|| format!("cannot read '{shown}': it is no text in UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_left_out_and_other_encodings_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        std::fs::write(&path, "\u{feff}{}").unwrap();
        assert_eq!(read_text(&path).unwrap(), "{}");
        std::fs::write(&path, b"\xff\xfe{\0}\0").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("c.json': it is no text in UTF-8"));
    }

    #[test]
    fn files_without_end_and_larger_than_memory_are_refused() {
        assert!(format!("{:#}", read_text(Path::new("/dev/zero")).unwrap_err()).contains("a pipe or a device"));
        let folder = tempfile::tempdir().unwrap();
        let sparse = folder.path().join("sparse");
        std::fs::File::create(&sparse).unwrap().set_len(1 << 42).unwrap();
        assert!(read_bytes(&sparse).unwrap_err().to_string().contains("is it the right file?"));
        assert!(read_text(&sparse).unwrap_err().to_string().contains("more than 32 MiB"));
    }
}
