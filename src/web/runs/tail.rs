//! A file of lines that grows: each call reads what was added since the last one, whole lines only.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// The longest line that is kept; a longer one is passed over.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Bytes before the end of what was read by which the file is known again.
const MARK_BYTES: usize = 64;

/// The place up to which a growing file was read.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    inode: u64,
    /// Bytes read, all of them whole lines.
    offset: u64,
    /// The last bytes before `offset`.
    mark: Vec<u8>,
}

/// What a file had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The lines, none or more, go on from those before.
    Continued,
    /// The file was cut or replaced, as by a run that goes back to a checkpoint: the lines are all that it has.
    Restarted,
}

impl Tail {
    /// Gives each new line to `take`, from the beginning again where the file is no longer the same; `take` hears of
    /// that first. Half a line at the end stays for the next call.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self, mut file: File, mut take: impl FnMut(Growth, &[u8])) -> std::io::Result<()> {
        let metadata = file.metadata()?;
        let growth = match self.is_same(&mut file, metadata.ino(), metadata.len())? {
            true => Growth::Continued,
            false => {
                *self = Self { inode: metadata.ino(), ..Self::default() };
                Growth::Restarted
            }
        };
        take(growth, &[]);
        file.seek(SeekFrom::Start(self.offset))?;
        let mut held = Vec::new();
        let mut left = metadata.len().saturating_sub(self.offset);
        while left > 0 {
            let read = file.by_ref().take(left.min(PIECE_BYTES)).read_to_end(&mut held)?;
            if read == 0 {
                break;
            }
            left -= read as u64;
            let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in held[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(growth, line);
            }
            self.advance(&held[..whole]);
            held.drain(..whole);
            if held.len() > MAX_LINE_BYTES {
                self.advance(&held);
                held.clear();
            }
        }
        Ok(())
    }

    fn advance(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        self.mark.extend_from_slice(&bytes[bytes.len().saturating_sub(MARK_BYTES)..]);
        self.mark.drain(..self.mark.len().saturating_sub(MARK_BYTES));
    }

    /// Whether the file still begins with what was read, as far as the mark tells.
    fn is_same(&self, file: &mut File, inode: u64, length: u64) -> std::io::Result<bool> {
        if inode != self.inode || length < self.offset {
            return Ok(false);
        }
        let mut there = vec![0; self.mark.len()];
        file.seek(SeekFrom::Start(self.offset - self.mark.len() as u64))?;
        match file.read_exact(&mut there) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            outcome => outcome.map(|()| there == self.mark),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn lines(tail: &mut Tail, path: &Path) -> (Growth, Vec<String>) {
        let (mut how, mut lines) = (Growth::Continued, Vec::new());
        tail.read(File::open(path).unwrap(), |growth, line| {
            how = growth;
            lines.extend((!line.is_empty()).then(|| String::from_utf8_lossy(line).into_owned()));
        })
        .unwrap();
        (how, lines)
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut tail) = (folder.path().join("stats.jsonl"), Tail::default());
        append(&path, "one\ntw");
        assert_eq!(lines(&mut tail, &path), (Growth::Restarted, vec!["one".to_owned()]));
        assert_eq!(lines(&mut tail, &path), (Growth::Continued, vec![]));
        append(&path, "o\n\nthree\n");
        assert_eq!(lines(&mut tail, &path).1, ["two", "three"]);
    }

    #[test]
    fn a_file_that_was_cut_and_grew_past_the_old_place_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut tail) = (folder.path().join("stats.jsonl"), Tail::default());
        append(&path, "one\ntwo\n");
        lines(&mut tail, &path);
        File::options().write(true).open(&path).unwrap().set_len(4).unwrap();
        append(&path, "TWO\nTHREE\n");
        assert_eq!(lines(&mut tail, &path), (Growth::Restarted, vec!["one".into(), "TWO".into(), "THREE".into()]));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut tail) = (folder.path().join("stats.jsonl"), Tail::default());
        append(&path, &"x".repeat(3 << 20));
        append(&path, "\nafter\n");
        let (_, found) = lines(&mut tail, &path);
        assert_eq!(found.last().map(String::as_str), Some("after"));
        assert!(found.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    }
}
