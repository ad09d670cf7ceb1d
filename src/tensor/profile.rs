//! Records what libtorch does, operator by operator and kernel by kernel, as a trace for a viewer.

use std::ffi::CString;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tch::Device;

unsafe extern "C" {
    fn rootgan_profile_begin(on_gpu: bool) -> bool;
    fn rootgan_profile_end(path: *const std::ffi::c_char) -> bool;
}

/// Does `work` and writes what libtorch did meanwhile to `path`, in the format that chrome://tracing and
/// <https://ui.perfetto.dev> show. Recording takes some microseconds an operator.
///
/// # Errors
/// The errors of `work`; libtorch cannot record, or cannot write the file.
pub fn traced<T>(path: &Path, device: Device, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).context("the trace's path has a zero byte in it")?;
    // SAFETY: the functions throw nothing; the name lives on.
    ensure!(unsafe { rootgan_profile_begin(device.is_cuda()) }, "libtorch cannot record what it does");
    let done = work();
    crate::tensor::device::synchronize(device);
    // SAFETY: as above.
    let written = unsafe { rootgan_profile_end(name.as_ptr()) };
    let done = done?;
    ensure!(written && path.is_file(), "cannot write the trace to '{}'", path.display());
    Ok(done)
}
