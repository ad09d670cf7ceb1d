//! Small text files, read whole: whatever is at the path, memory stays bounded.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// More than any record, manifest or configuration has.
const MAX_TEXT_BYTES: u64 = 32 << 20;

/// A text file in UTF-8, without the byte-order mark that some editors put before it.
///
/// # Errors
/// The file cannot be read, is too large, or holds something else; what to do instead is the caller's to say.
pub fn read_text(path: &Path) -> Result<String> {
    let shown = path.display();
    let cannot = || format!("cannot read '{shown}'");
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)).with_context(cannot)?;
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
    fn a_file_without_end_is_refused() {
        assert!(read_text(Path::new("/dev/zero")).unwrap_err().to_string().contains("more than 32 MiB"));
    }
}
