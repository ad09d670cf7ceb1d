//! The `rootgan` program: parse, run, say what went wrong on one line.

use std::process::ExitCode;

use rootgan::cli::{Cli, usage_error};
use rootgan::system::signals::Stopped;

/// Runs before libtorch is initialised: MKL in it ends a process whose working directory was deleted, with words of its own.
extern "C" fn refuse_a_deleted_working_directory() {
    const MESSAGE: &[u8] =
        b"error: cannot work in this folder: it does not exist any more; cd to one that does, then call this again\n";
    let mut path = [0; libc::PATH_MAX as usize];
    // SAFETY: the buffer has the length that is said, and the message too; only calls of the system are made.
    unsafe {
        if libc::getcwd(path.as_mut_ptr(), path.len()).is_null() && *libc::__errno_location() == libc::ENOENT {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(1);
        }
    }
}

/// Functions in this section are called before those of shared libraries.
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: extern "C" fn() = refuse_a_deleted_working_directory;

fn main() -> ExitCode {
    // A file beyond `ulimit -f` is an error like a full disk, not the end of the program.
    rootgan::system::signals::survive_file_limits();
    let outcome = match Cli::of_process() {
        Ok(cli) => rootgan::run(cli),
        Err(error) => usage_error(&error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                // Of several processes the first one has told everything.
                if !stopped.message.is_empty() {
                    rootgan::system::ui::complain(stopped);
                }
                return stopped.signal.exit_code().into();
            }
            let line = rootgan::system::ui::on_one_line(&format!("{error:#}"));
            rootgan::system::ui::complain(format!("error: {}", rootgan::system::ui::shortened(&line)));
            ExitCode::FAILURE
        }
    }
}
