//! A file in memory, for writers that only take names of files and end the program where a disk is full.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// A file in memory that is gone when it is dropped.
pub struct MemoryFile(File);

impl MemoryFile {
    /// Makes an empty file, into which `bytes` may be written.
    ///
    /// # Errors
    /// The system gives no such file, or a limit on the size of files (`ulimit -f`) is lower than `bytes`: writing into
    /// memory falls under it too.
    pub fn new(bytes: u64) -> Result<Self> {
        // SAFETY: all zeros are a valid value, which the call fills in.
        let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
        // SAFETY: `limit` outlives the call.
        let status = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
        ensure!(status == 0, std::io::Error::last_os_error());
        ensure!(
            limit.rlim_cur >= bytes,
            "up to {} KiB are written, files may have {} here; raise the limit (ulimit -f)",
            bytes >> 10,
            limit.rlim_cur >> 10
        );
        // SAFETY: the name ends in a zero byte.
        let descriptor = unsafe { libc::memfd_create(c"rootgan".as_ptr(), libc::MFD_CLOEXEC) };
        ensure!(descriptor >= 0, std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self(unsafe { File::from_raw_fd(descriptor) }))
    }

    /// Returns a name under which the file can be opened as long as this lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Returns the file, to be read from its beginning.
    ///
    /// # Errors
    /// The system refuses to move to the beginning.
    pub fn from_start(&mut self) -> Result<&mut File> {
        self.0.seek(SeekFrom::Start(0)).context("cannot read a file in memory")?;
        Ok(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_written_by_name_is_read_back() {
        let mut file = MemoryFile::new(10).unwrap();
        std::fs::write(file.path(), "0123456789").unwrap();
        let mut text = String::new();
        file.from_start().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123456789");
    }
}
