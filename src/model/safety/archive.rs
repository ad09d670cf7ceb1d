//! Reads the zip archive of a TorchScript file in such a way that no other reader can see other entries than these.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use flate2::bufread::DeflateDecoder;

use super::Refusal;

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: usize = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_BYTES: usize = 56;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
const ENCRYPTED: u64 = 1;
const MOST_NAME_BYTES: usize = 512;
const MOST_ENTRIES: usize = 100_000;
/// Most bytes of all entries together, in lengths of the file: code is compressed, weights are not.
const MOST_INFLATION: usize = 16;
const SPARE_BYTES: usize = 1 << 20;

/// The place of an entry in the file, its lengths and its checksum.
struct ArchiveEntry {
    start: usize,
    stored: usize,
    bytes: usize,
    deflated: bool,
    checksum: u32,
}

/// The entries of a TorchScript file by their names below its one folder. All checksums are right.
pub struct Archive<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<String, ArchiveEntry>,
}

impl<'a> Archive<'a> {
    /// Reads the list of entries and compares every checksum; libtorch does not, and loads flipped bytes, or ends the
    /// process over them.
    ///
    /// # Errors
    /// The archive is damaged, or has a form that `torch.jit.save` does not write and that readers understand
    /// differently: two entries of one name, lists that disagree, bytes outside.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let (count, start, end) = list_of(bytes)?;
        if count > MOST_ENTRIES {
            return Err(odd(format!("its archive lists {count} entries")));
        }
        let mut archive = Self { bytes, entries: BTreeMap::new() };
        let (mut root, mut folded) = (None, HashSet::new());
        let mut at = start;
        for _ in 0..count {
            let (name, entry, next) = archive.entry_at(at)?;
            at = next;
            let (folder, rest) = name.split_once('/').unwrap_or(("", &name));
            // The folder of the first entry is the one that libtorch reads.
            if *root.get_or_insert_with(|| folder.to_owned()) != folder {
                return Err(odd(format!("its archive has '{name}' outside of its one folder")));
            }
            // libtorch looks names up without regard to case.
            if !folded.insert(rest.to_ascii_lowercase()) {
                return Err(odd(format!("its archive has two entries of the name '{name}'")));
            }
            if !is_known(rest) {
                return Err(odd(format!("its archive has the entry '{name}'")));
            }
            archive.entries.insert(rest.to_owned(), entry);
        }
        if at != end {
            return Err(odd("the list of its archive is longer than it says".into()));
        }
        archive.check_contents()?;
        Ok(archive)
    }

    /// Returns the content of one entry, inflated where it is compressed.
    ///
    /// # Errors
    /// There is no such entry, or it is damaged.
    pub fn content(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let damaged = || damaged(name);
        let entry = self.entries.get(name).ok_or_else(|| Refusal::damage(format!("it has no '{name}'")))?;
        let stored = &self.bytes[entry.start..entry.start + entry.stored];
        let mut content = Vec::new();
        match entry.deflated {
            true => {
                let mut inflated = DeflateDecoder::new(stored).take(entry.bytes as u64 + 1);
                inflated.read_to_end(&mut content).map_err(|_| damaged())?;
            }
            false => content.extend_from_slice(stored),
        }
        match content.len() == entry.bytes && crc32fast::hash(&content) == entry.checksum {
            true => Ok(content),
            false => Err(damaged()),
        }
    }

    /// Returns the names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the length of an entry in bytes, if there is one of that name.
    pub fn length(&self, name: &str) -> Option<usize> {
        self.entries.get(name).map(|entry| entry.bytes)
    }

    fn check_contents(&self) -> Result<(), Refusal> {
        let most = self.bytes.len().saturating_mul(MOST_INFLATION).saturating_add(SPARE_BYTES);
        let mut total = 0_usize;
        for (name, entry) in &self.entries {
            total = total.saturating_add(entry.bytes);
            if total > most {
                return Err(damaged(name));
            }
            if entry.deflated {
                self.content(name)?;
            } else if crc32fast::hash(&self.bytes[entry.start..entry.start + entry.stored]) != entry.checksum {
                return Err(damaged(name));
            }
        }
        Ok(())
    }

    /// Reads the entry whose record in the list begins at `at`, and returns where the next record begins.
    fn entry_at(&self, at: usize) -> Result<(String, ArchiveEntry, usize), Refusal> {
        let list = || damaged("list");
        let record =
            slice(self.bytes, at, CENTRAL_BYTES).filter(|record| record.starts_with(CENTRAL)).ok_or_else(list)?;
        let (flags, method) = (number(record, 8, 2), number(record, 10, 2));
        let checksum = number(record, 16, 4) as u32;
        let (stored, bytes) = (number(record, 20, 4) as usize, number(record, 24, 4) as usize);
        let lengths = [28, 30, 32].map(|offset| number(record, offset, 2) as usize);
        let header = number(record, 42, 4) as usize;
        let raw = slice(self.bytes, at + CENTRAL_BYTES, lengths[0]).ok_or_else(list)?;
        let name = name_of(raw)?;
        if [stored, bytes, header].contains(&(u32::MAX as usize)) {
            return Err(Refusal::damage(format!("its entry '{name}' is larger than 4 GiB, which is not read")));
        }
        if flags & ENCRYPTED != 0 || !(method == 0 && stored == bytes || method == 8) {
            return Err(odd(format!("its entry '{name}' is encrypted or compressed in an unusual way")));
        }
        let local = slice(self.bytes, header, LOCAL_BYTES).filter(|local| local.starts_with(LOCAL)).ok_or_else(list)?;
        let [name_bytes, extra_bytes] = [26, 28].map(|offset| number(local, offset, 2) as usize);
        let local_name = slice(self.bytes, header + LOCAL_BYTES, name_bytes);
        if local_name != Some(raw) || number(local, 8, 2) != method {
            return Err(odd(format!("its entry '{name}' is another one in the archive's list")));
        }
        let start = header + LOCAL_BYTES + name_bytes + extra_bytes;
        slice(self.bytes, start, stored).ok_or_else(|| damaged(&name))?;
        let next = at + CENTRAL_BYTES + lengths.iter().sum::<usize>();
        Ok((name, ArchiveEntry { start, stored, bytes, deflated: method == 8, checksum }, next))
    }
}

/// Gives the records of source places (`*.debug_pkl`) another name in the bytes of an archive that was read, so that libtorch
/// does not find them: it believes the places in them, and reads memory outside of the text where they are wrong.
pub fn hide_source_places(bytes: &mut [u8]) {
    const NAME: &[u8] = b".debug_pkl";
    const OTHER: &[u8] = b".debug_off";
    let Ok((count, start, _)) = list_of(bytes) else { return };
    let mut at = start;
    for _ in 0..count {
        let Some(record) = slice(bytes, at, CENTRAL_BYTES) else { return };
        let [name, extra, comment] = [28, 30, 32].map(|offset| number(record, offset, 2) as usize);
        let header = number(record, 42, 4) as usize;
        for end in [at + CENTRAL_BYTES + name, header + LOCAL_BYTES + name] {
            let place = end.saturating_sub(NAME.len())..end;
            if bytes.get(place.clone()) == Some(NAME) {
                bytes[place].copy_from_slice(OTHER);
            }
        }
        at += CENTRAL_BYTES + name + extra + comment;
    }
}

/// Finds the list of entries: (number, start, end). Readers look for it in different ways; where the archive ends with
/// its end record, and that of zip64 says the same, all of them find the same one.
fn list_of(bytes: &[u8]) -> Result<(usize, usize, usize), Refusal> {
    let at = bytes.len().checked_sub(END_BYTES).ok_or_else(|| damaged("list"))?;
    let record = &bytes[at..];
    if !record.starts_with(END) || number(record, 20, 2) != 0 {
        return Err(Refusal::damage("it is cut short, or has something after its archive".into()));
    }
    let [disk, list_disk, here] = [4, 6, 8].map(|offset| number(record, offset, 2));
    let found = [number(record, 10, 2), number(record, 12, 4), number(record, 16, 4)];
    let mut end = at;
    let mut told = found;
    let locator = at.checked_sub(LOCATOR_BYTES).map(|start| &bytes[start..at]).filter(|it| it.starts_with(LOCATOR));
    if let Some(locator) = locator {
        end = at.checked_sub(LOCATOR_BYTES + END64_BYTES).ok_or_else(|| damaged("list"))?;
        let record = &bytes[end..end + END64_BYTES];
        if !record.starts_with(END64) || number(locator, 8, 8) != end as u64 {
            return Err(odd("its archive has two ends".into()));
        }
        told = [32, 40, 48].map(|offset| number(record, offset, 8));
        let largest = [u64::from(u16::MAX), u64::from(u32::MAX), u64::from(u32::MAX)];
        if (0..3).any(|index| found[index] != told[index] && found[index] != largest[index]) {
            return Err(odd("its archive has two ends that disagree".into()));
        }
    }
    let [count, length, start] = told;
    let whole = start.checked_add(length) == Some(end as u64);
    if disk != 0 || list_disk != 0 || here != found[0] || !whole {
        return Err(odd("the list of its archive is not where it says".into()));
    }
    Ok((count as usize, start as usize, end))
}

/// Whether an entry has a name that libtorch 1.5 to 2.11 gives.
fn is_known(name: &str) -> bool {
    let numbered = |folder: &str| {
        name.strip_prefix(folder).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_code = name.starts_with("code/") && (name.ends_with(".py") || name.ends_with(".debug_pkl"));
    let fixed = [
        "data.pkl",
        "constants.pkl",
        "traced_inputs.pkl",
        "version",
        "byteorder",
        ".data/serialization_id",
        ".data/version",
        ".format_version",
        ".storage_alignment",
    ];
    is_code
        || fixed.contains(&name)
        || name.starts_with("extra/")
        || ["data/", "constants/", "traced_inputs/"].into_iter().any(numbered)
}

fn name_of(raw: &[u8]) -> Result<String, Refusal> {
    let is_plain = raw.len() <= MOST_NAME_BYTES && raw.iter().all(|byte| (b' '..=b'~').contains(byte));
    match std::str::from_utf8(raw) {
        Ok(name) if is_plain => Ok(name.to_owned()),
        _ => Err(odd("its archive has an entry with an unusual name".into())),
    }
}

fn slice(bytes: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

fn number(bytes: &[u8], offset: usize, width: usize) -> u64 {
    let digits = bytes[offset..offset + width].iter().rev();
    digits.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn damaged(entry: &str) -> Refusal {
    Refusal::damage(format!("its entry '{entry}' is damaged"))
}

fn odd(what: String) -> Refusal {
    Refusal::unusual(what)
}
