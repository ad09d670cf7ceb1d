//! Devices, seeds, latents and the run-time settings of libtorch: what every layer above needs to
//! know about tensors, and nothing of networks.

pub mod device;
pub mod images;
pub mod labels;
pub mod latents;
pub mod memory;
pub mod seed;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};
use tch::TchError;

/// A libtorch error as one line: the C++ backtrace and the TorchScript listing are cut away.
pub fn one_line(error: &TchError) -> String {
    let text = error.to_string();
    let text = text.split("\nException raised from").next().unwrap_or_default();
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(text);
    // A script error ends with the Python exception that was raised; a listing precedes it.
    let listing = "The following operation failed in the TorchScript interpreter.";
    let text = match text.find(listing) {
        Some(_) => text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text),
        None => text,
    };
    let text = SCRIPT_EXCEPTIONS.iter().find_map(|name| text.trim().strip_prefix(name)).unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs `work`; a panic becomes an error. Plain tensor operators panic where libtorch refuses, for lack of memory above
/// all.
///
/// # Errors
/// Those of `work`, or what the panic said.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(anyhow!("{}", panic_line(&*panic))))
}

/// What a panic said, on one line, without libtorch's backtrace.
pub fn panic_line(panic: &(dyn Any + Send)) -> String {
    let fixed = panic.downcast_ref::<&str>().copied();
    let text = fixed.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let text = text.split("Exception raised from").next().unwrap_or_default().replace("\\n", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How a script error names the exception that was raised; its sentence is enough.
const SCRIPT_EXCEPTIONS: [&str; 3] = ["builtins.ValueError: ", "RuntimeError: ", "torch.jit.Error: "];

#[cfg(test)]
mod tests {
    use super::one_line;
    use tch::TchError;

    #[test]
    fn a_cpp_backtrace_is_cut() {
        let error = TchError::Torch("bad shape\nException raised from f at x.cpp:1\nframe #0".into());
        assert_eq!(one_line(&error), "bad shape");
    }

    #[test]
    fn a_script_error_keeps_only_the_raised_message() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of \
                    TorchScript (most recent call last):\n  File \"x\"\nRuntimeError: z must be [N, z_dim]\n";
        let error = TchError::Torch(text.into());
        assert_eq!(one_line(&error), "z must be [N, z_dim]");
    }
}
