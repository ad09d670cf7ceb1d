//! Tensors as every layer above needs them: devices, seeds, images and labels as tensors, values that are not finite,
//! the run-time settings of libtorch, and its errors and panics as one line of text. Nothing here knows a network.

pub mod arithmetic;
mod c10d;
pub mod derivatives;
pub mod device;
pub mod finite;
pub mod images;
pub mod labels;
pub mod profile;
pub mod seed;
pub mod waiting;
pub mod world;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use tch::TchError;

use crate::system::panics::{PanicPlace, panic_text, take_place};

/// Returns a libtorch error as one line, without the C++ backtrace and the TorchScript listing.
pub fn one_line(error: &TchError) -> String {
    let text = error.to_string();
    let text = without_backtrace(&text);
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(text);
    let listing = "The following operation failed in the TorchScript interpreter.";
    let text = if text.contains(listing) { raised(text) } else { text };
    without_advice(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns what a script raised, which ends its error after a listing. An error of CUDA has several lines.
fn raised(text: &str) -> &str {
    let starts_of_lines = text.lines().map(|line| line.as_ptr() as usize - text.as_ptr() as usize);
    let mut exceptions =
        starts_of_lines.filter_map(|at| SCRIPT_EXCEPTIONS.iter().find_map(|name| text[at..].strip_prefix(name)));
    let last_line = || text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text);
    exceptions.next_back().unwrap_or_else(last_line)
}

/// Cuts from an error of CUDA what libtorch adds for those who write kernels.
fn without_advice(text: &str) -> &str {
    const ADVICE: [&str; 3] = ["Search for `", "CUDA kernel errors might be", "Compile with `TORCH_USE_CUDA_DSA`"];
    let end = ADVICE.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    &text[..end]
}

/// Runs `work` without recording gradients. A panic in it switches recording on again, where `tch::no_grad` would leave
/// it off for whatever is tried next.
pub fn no_grad<T>(work: impl FnOnce() -> T) -> T {
    let _guard = tch::no_grad_guard();
    work()
}

/// Runs `work` and turns a panic into an error. Plain tensor operators panic where libtorch refuses, for lack of memory
/// above all.
///
/// # Errors
/// The errors of `work`, or the message of its panic.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Panicked { line: panic_line(&*panic), place: take_place() }.into()))
}

/// A panic that became an error, which shows the panic's message on one line.
#[derive(Debug)]
pub struct Panicked {
    line: String,
    /// The place of the panic, for the log, if it was kept.
    pub place: Option<PanicPlace>,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Panicked {}

/// Returns where the panic behind an error happened, if there was one and its place was kept.
pub fn panic_place(error: &anyhow::Error) -> Option<&PanicPlace> {
    error.chain().find_map(|cause| cause.downcast_ref::<Panicked>())?.place.as_ref()
}

/// Returns a panic's message on one line, without libtorch's backtrace.
pub fn panic_line(panic: &(dyn Any + Send)) -> String {
    let text = panic_text(panic);
    // An operator that failed was unwrapped, so libtorch's words are quoted and escaped as `Debug` shows them.
    let text = text.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"").unwrap_or(text);
    let text = without_backtrace(text).replace("\\n", " ").replace("\\\"", "\"");
    let text = without_advice(text.strip_suffix("\")").unwrap_or(&text));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cuts a message of libtorch where its list of C++ functions begins, and drops the failed assertion before an
/// allocator's words.
fn without_backtrace(text: &str) -> &str {
    let ends = ["Exception raised from", "frame #0:"];
    let end = ends.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let text = &text[..end];
    let allocator = "DefaultCPUAllocator: ";
    text.find(allocator).map_or(text, |at| &text[at + allocator.len()..])
}

/// Names of the raised exception at the beginning of a script error, which are cut: the sentence after them is enough.
const SCRIPT_EXCEPTIONS: [&str; 3] = ["builtins.ValueError: ", "RuntimeError: ", "torch.jit.Error: "];

#[cfg(test)]
mod tests {
    use super::{caught, no_grad, one_line, panic_line};
    use tch::{TchError, Tensor};

    #[test]
    fn after_a_panic_gradients_are_recorded_as_before() {
        caught(|| no_grad(|| -> anyhow::Result<()> { panic!("lack of memory") })).unwrap_err();
        let leaf = Tensor::from_slice(&[1f32]).set_requires_grad(true);
        assert!((&leaf * 2.0).requires_grad());
        assert!(!no_grad(|| &leaf * 2.0).requires_grad());
    }

    #[test]
    fn a_cpp_backtrace_is_cut() {
        let error = TchError::Torch("bad shape\nException raised from f at x.cpp:1\nframe #0".into());
        assert_eq!(one_line(&error), "bad shape");
    }

    #[test]
    fn a_lack_of_memory_is_said_without_the_assertion_and_the_backtrace() {
        let said = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried \
                    to allocate 88974432 bytes. Error code 12 (Cannot allocate memory)\nframe #0: c10::Thr";
        let short =
            "can't allocate memory: you tried to allocate 88974432 bytes. Error code 12 (Cannot allocate memory)";
        let error = TchError::Torch(said.into());
        assert_eq!(one_line(&error), short);
        let failed = |said: &str| -> Result<(), TchError> { Err(TchError::Torch(said.into())) };
        let panicked = std::panic::catch_unwind(|| failed(said).unwrap());
        assert_eq!(panic_line(&*panicked.unwrap_err()), short);
        let panicked = std::panic::catch_unwind(|| failed("std::bad_alloc").unwrap());
        assert_eq!(panic_line(&*panicked.unwrap_err()), "std::bad_alloc");
    }

    #[test]
    fn an_error_of_cuda_keeps_its_cause() {
        let said = "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in the docs\n\
                    CUDA kernel errors might be asynchronously reported at some other API call.\n\
                    For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n\
                    Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n";
        let cause = "CUDA error: an illegal memory access was encountered";
        assert_eq!(one_line(&TchError::Torch(said.into())), cause);
        let listed = format!(
            "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n  File \"x\"\n\
             RuntimeError: {said}"
        );
        assert_eq!(one_line(&TchError::Torch(listed)), cause);
        let failed = || -> Result<(), TchError> { Err(TchError::Torch(said.into())) };
        let panicked = std::panic::catch_unwind(|| failed().unwrap());
        assert_eq!(panic_line(&*panicked.unwrap_err()), cause);
    }

    #[test]
    fn a_script_error_keeps_only_the_raised_message() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of \
                    TorchScript (most recent call last):\n  File \"x\"\nRuntimeError: z must be [N, z_dim]\n";
        let error = TchError::Torch(text.into());
        assert_eq!(one_line(&error), "z must be [N, z_dim]");
    }
}
