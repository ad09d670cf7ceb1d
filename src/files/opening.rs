//! Opens files, for the whole program: regular files only, so that a pipe or a device where a file is expected does not
//! wait for ever, and no links where something is written, so that what lies in a folder does not lead out of it.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens for reading; links are followed.
///
/// # Errors
/// There is no file, it cannot be read, or it is no regular file.
pub fn to_read(path: &Path) -> Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?)
}

/// Opens an existing file for writing at its end.
///
/// # Errors
/// There is no file, it cannot be written, or it is a link or no regular file.
pub fn to_append(path: &Path) -> Result<File> {
    regular(without_links(OpenOptions::new().append(true), path)?)
}

/// Opens or makes a file for writing at its end.
///
/// # Errors
/// The file cannot be written, or it is a link or no regular file.
pub fn to_append_or_make(path: &Path) -> Result<File> {
    regular(without_links(OpenOptions::new().append(true).create(true), path)?)
}

/// Opens or makes a file for reading and writing anywhere; it is never cut.
///
/// # Errors
/// The file cannot be written, or it is a link or no regular file.
pub fn to_change_or_make(path: &Path) -> Result<File> {
    regular(without_links(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?)
}

/// Makes a new file for writing at its end.
///
/// # Errors
/// Something has this name, or the file cannot be made.
pub fn new_to_append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create_new(true).open(path)
}

fn without_links(options: &mut OpenOptions, path: &Path) -> Result<File> {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ELOOP) => Error::other("it is a link, which could lead anywhere; put the file itself there"),
            // The path is a pipe that nobody reads.
            Some(libc::ENXIO) => no_file(),
            _ => error,
        }
    })
}

fn regular(file: File) -> Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(no_file()),
    }
}

fn no_file() -> Error {
    Error::other("it is a folder, a pipe or a device; a file is expected")
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn pipes_devices_and_folders_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends in a zero byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for path in [&*pipe, Path::new("/dev/zero"), folder.path()] {
            for open in [to_read, to_append, to_append_or_make, to_change_or_make] {
                assert!(open(path).is_err(), "{}", path.display());
            }
        }
        assert!(to_read(&pipe).unwrap_err().to_string().contains("a pipe or a device"));
    }

    #[test]
    fn links_are_read_and_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, link) = (folder.path().join("outside"), folder.path().join("link"));
        std::fs::write(&outside, "text").unwrap();
        symlink(&outside, &link).unwrap();
        assert!(to_read(&link).is_ok());
        for open in [to_append, to_append_or_make, to_change_or_make, new_to_append] {
            assert!(open(&link).is_err());
        }
        assert!(to_append(&link).unwrap_err().to_string().contains("it is a link"));
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "text");
        assert!(to_append(&outside).is_ok() && to_change_or_make(&folder.path().join("new")).is_ok());
    }
}
