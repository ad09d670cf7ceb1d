//! Bounds what a process may write from now on, enforced by the kernel (Landlock). It is the last bound around the code
//! of TorchScript files, should the check before loading have missed something. Reading stays free, and a kernel
//! without Landlock enforces nothing.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};

/// The folder of devices and shared memory, where drivers and libtorch write whatever a program does.
const OF_LIBRARIES: &str = "/dev";
/// Caches of kernels that CUDA and libtorch compile, below the user's home.
const OF_LIBRARIES_AT_HOME: [&str; 2] = [".nv", ".cache/torch"];

/// Lets this thread, and every thread that it starts later, change files only below `places`, or below the nearest
/// folder that exists where one is still to be made. Reading is not bounded. Calls add up: what one forbids stays
/// forbidden.
///
/// Returns whether the kernel enforces it: one older than 5.13, or built without Landlock, does not.
pub fn confine_writes(places: &[&Path], on_gpu: bool) -> bool {
    let home = std::env::var_os("HOME").filter(|_| on_gpu).map(PathBuf::from);
    let at_home = home.into_iter().flat_map(|home| OF_LIBRARIES_AT_HOME.map(|folder| home.join(folder)));
    let allowed =
        places.iter().filter_map(|place| nearest_folder(place)).chain([PathBuf::from(OF_LIBRARIES)]).chain(at_home);
    enforce(allowed).unwrap_or(false)
}

/// The version of Landlock that is used: version 3 knows truncation; later ones bound ioctl and sockets, which drivers
/// need.
const VERSION: ABI = ABI::V3;

fn enforce(folders: impl Iterator<Item = PathBuf>) -> Result<bool, landlock::RulesetError> {
    let writing = AccessFs::from_write(VERSION);
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing)?.create()?;
    for folder in folders {
        // A folder that is not there cannot be written to either.
        if let Ok(opened) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(opened, writing))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Returns the folder itself, or the nearest one above it that exists.
fn nearest_folder(place: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(place).ok()?;
    absolute.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Runs `work` in a thread of its own, since a thread stays confined for ever.
    fn confined<T: Send + 'static>(places: Vec<PathBuf>, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(move || {
            let places: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
            confine_writes(&places, false).then(work)
        });
        thread.join().expect("it does not panic")
    }

    /// Asks the kernel itself, past the library: the call with this flag returns the version of Landlock, or fails.
    fn kernel_has_landlock() -> bool {
        const VERSION_ONLY: libc::c_uint = 1;
        // SAFETY: with this flag the kernel reads no attributes, and wants no pointer to any.
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION_ONLY)
        };
        version >= 1
    }

    /// Makes a folder outside of `/dev/shm`, which stays writable and where the folder of temporary files may lie.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("the sources lie on a disk that can be written")
    }

    #[test]
    fn files_change_below_the_places_alone() {
        let (folder, other) = (folder(), folder());
        let (inside, outside) = (folder.path().to_owned(), other.path().to_owned());
        fs::write(outside.join("kept"), "kept").unwrap();
        let results = confined(vec![inside.join("to be made/file")], {
            let outside = outside.clone();
            move || {
                let made = fs::create_dir(inside.join("to be made"));
                let written = fs::write(inside.join("to be made/file"), "new");
                let renamed = fs::rename(inside.join("to be made/file"), inside.join("file"));
                let refused = [
                    fs::write(outside.join("new"), "new"),
                    fs::write(outside.join("kept"), "replaced"),
                    fs::remove_file(outside.join("kept")),
                    fs::rename(inside.join("file"), outside.join("moved")),
                    fs::create_dir(outside.join("folder")),
                    // Threads started later are bound as well.
                    std::thread::spawn(move || fs::write(outside.join("new"), "new")).join().unwrap(),
                ];
                ([made, written, renamed], refused)
            }
        });
        let Some((allowed, refused)) = results else {
            assert!(!kernel_has_landlock(), "the kernel has Landlock, and nothing is enforced");
            eprintln!("this kernel has no Landlock: nothing is enforced, and nothing can be tested");
            return;
        };
        assert!(allowed.iter().all(Result::is_ok), "{allowed:?}");
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(fs::read_to_string(other.path().join("kept")).unwrap(), "kept");
    }

    #[test]
    fn files_in_memory_and_reading_are_left_alone() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        let read = confined(Vec::new(), move || {
            let memory = crate::files::memory_file::MemoryFile::new(7).unwrap();
            fs::write(memory.path(), "written").unwrap();
            fs::read_to_string(file).unwrap()
        });
        assert_eq!(read.as_deref(), kernel_has_landlock().then_some("text"));
    }
}
