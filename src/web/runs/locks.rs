//! Which run folders are locked by a process, as the system lists it: asking for the lock itself could turn away a
//! training that begins at that moment. Weak for trainings on other machines or in other containers, which are not listed.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// The locked files of this machine.
#[derive(Clone, Debug, Default)]
pub struct Locks(BTreeSet<(u32, u32, u64)>);

impl Locks {
    /// Reads the system's list; it is empty where there is none.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/locks").unwrap_or_default())
    }

    /// Whether a process holds the lock of this file.
    pub fn hold(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|metadata| {
            let device = metadata.dev();
            self.0.contains(&(libc::major(device), libc::minor(device), metadata.ino()))
        })
    }

    /// Reads lines such as `1: FLOCK  ADVISORY  WRITE 28174 fe:00:10141873 0 EOF`; one with `->` waits for a lock.
    fn parse(text: &str) -> Self {
        let place = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.get(1) == Some(&"->") {
                return None;
            }
            let mut parts = words.get(5)?.split(':');
            let mut hex = || u32::from_str_radix(parts.next()?, 16).ok();
            let (major, minor) = (hex()?, hex()?);
            Some((major, minor, parts.next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(place).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_lines_are_read_and_those_that_wait_left_out() {
        let text =
            "1: FLOCK  ADVISORY  WRITE 28174 fe:00:10141873 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 3 fe:00:7 0 EOF\nx\n";
        assert_eq!(Locks::parse(text).0.into_iter().collect::<Vec<_>>(), [(0xfe, 0, 10_141_873)]);
    }

    #[test]
    fn a_lock_of_a_run_folder_is_seen_while_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let lock = crate::run::folder::lock(folder.path()).unwrap();
        let file = File::open(folder.path().join(".lock")).unwrap();
        assert!(Locks::read().hold(&file));
        drop(lock);
        assert!(!Locks::read().hold(&file));
    }
}
