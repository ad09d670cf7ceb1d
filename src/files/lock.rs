//! Gives the right to write a file or folder to one process at a time: an empty hidden file beside it, `.name.lock`, is
//! locked as long as the process lives and removed at the end. One that a kill leaves behind is locked by nobody and is
//! taken over. Where a file system has no locks, nothing is excluded.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::files::atomic::{hidden_beside, remove_leftovers};
use crate::system::signals::StopRequest;

/// Most attempts to take a lock whose file is taken away meanwhile.
const MOST_ATTEMPTS: usize = 100;

/// The time between two looks at a lock that another process has.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// The errors of file systems that have no locks.
const WITHOUT_LOCKS: [i32; 3] = [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK];

/// The outcome of an attempt to lock a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The file is locked as long as it is open.
    Locked,
    /// Another process has locked it.
    Taken,
    /// The file system has no locks, as some network file systems: nobody can be excluded.
    WithoutLocks,
}

/// Tries to lock an open file for this process alone.
///
/// # Errors
/// The system cannot lock it, for another reason than those of [`Attempt`].
pub fn try_lock(file: &File) -> std::io::Result<Attempt> {
    // SAFETY: the descriptor is open as long as `file` is.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(Attempt::Locked);
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        _ if error.kind() == ErrorKind::WouldBlock => Ok(Attempt::Taken),
        Some(number) if WITHOUT_LOCKS.contains(&number) => Ok(Attempt::WithoutLocks),
        _ => Err(error),
    }
}

/// The right to write one path, held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the right to write `path`, and removes what a process that was killed while writing it left behind.
    ///
    /// # Errors
    /// Another process has the right, or the folder cannot be written.
    pub fn on(path: &Path) -> Result<Self> {
        Self::if_free(path)?.with_context(|| {
            format!(
                "cannot write '{}': another process is writing it; wait for it, or pass another name",
                path.display()
            )
        })
    }

    /// Takes the right to write `path` as [`Lock::on`] does, as soon as no other process has it; `waiting` is called once
    /// where it has to wait.
    ///
    /// # Errors
    /// The folder cannot be written, or a signal asks the program to stop.
    pub fn when_free(path: &Path, stop: &StopRequest, waiting: impl FnOnce()) -> Result<Self> {
        let mut waiting = Some(waiting);
        loop {
            if let Some(lock) = Self::if_free(path)? {
                return Ok(lock);
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            stop.check()?;
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Takes the right to write `path` as [`Lock::on`] does; None while another process has it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn if_free(path: &Path) -> Result<Option<Self>> {
        let place = hidden_beside(path, "lock")?;
        let cannot = || format!("cannot write '{}'; is its folder writable?", place.display());
        for _ in 0..MOST_ATTEMPTS {
            // The file is never cut, and no link is followed: whatever is there stays as it is.
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&place)
                .with_context(cannot)?;
            ensure!(file.metadata().with_context(cannot)?.is_file(), "'{}' is no file; remove it", place.display());
            match try_lock(&file).with_context(|| format!("cannot lock '{}'", place.display()))? {
                Attempt::Locked => {}
                Attempt::Taken => return Ok(None),
                // Work goes on as if alone, and what may be another's is not removed.
                Attempt::WithoutLocks => return Ok(Some(Self { _file: file, path: place })),
            }
            // Whoever had the lock before may have removed the file between opening and locking it here: then this
            // locks nothing, and the next attempt makes a new file.
            if is_at(&file, &place)? {
                let lock = Self { _file: file, path: place };
                remove_leftovers(path)?;
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file is removed while it is still locked; closing it afterwards ends the lock.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let held = file.metadata()?;
    Ok(fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        let lock = Lock::on(&path).unwrap();
        let message = Lock::on(&path).unwrap_err().to_string();
        assert!(message.contains("set.zip': another process is writing it"), "{message}");
        drop(Lock::on(&folder.path().join("other.zip")).unwrap());
        drop(lock);
        drop(Lock::on(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_kill_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".set.zip.lock", ".set.zip.partial-AbC123.zip", ".set.zip.backup.zip", ".set.zip.partial-mine.zip"]
        {
            fs::write(at(name), "").unwrap();
        }
        fs::create_dir_all(at(".set.zip.partial-xyzXYZ/00000")).unwrap();
        fs::create_dir(at(".set.partial-xyzXYZ")).unwrap();
        drop(Lock::on(&at("set.zip")).unwrap());
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".set.partial-xyzXYZ", ".set.zip.backup.zip", ".set.zip.partial-mine.zip"]);
    }

    #[test]
    fn a_link_in_its_place_is_refused_and_where_it_leads_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("mine");
        fs::write(&mine, "text").unwrap();
        std::os::unix::fs::symlink(&mine, folder.path().join(".a.lock")).unwrap();
        assert!(Lock::on(&folder.path().join("a")).is_err());
        assert_eq!(fs::read_to_string(mine).unwrap(), "text");
    }
}
