//! Lists the devices, says why one is not usable, copies numbers to them, and sets libtorch up for the process.

use anyhow::{Result, bail};
use tch::{Cuda, Device, Tensor};

use super::arithmetic::Arithmetic;
use super::derivatives::ConvolutionDerivatives;
use crate::system::gpu::Gpu;

/// A device and whether it is usable, or CUDA as a whole where it is not.
pub struct DeviceReport {
    /// `cpu`, `cuda:0`, ..., or plain `cuda` where CUDA cannot be used.
    pub name: String,
    /// Whether networks can run on it now.
    pub usable: bool,
    /// A description of the device, or why it cannot be used and what to do.
    pub detail: String,
}

/// Lists the CPU and every CUDA device, or why there is none.
pub fn report() -> Vec<DeviceReport> {
    let cpu = DeviceReport { name: "cpu".into(), usable: true, detail: format!("{} threads", tch::get_num_threads()) };
    let cuda = match cuda_obstacle() {
        Some(reason) => vec![DeviceReport { name: "cuda".into(), usable: false, detail: reason }],
        None => (0..Cuda::device_count())
            .map(|i| DeviceReport { name: format!("cuda:{i}"), usable: true, detail: gpu_text(i as usize) })
            .collect(),
    };
    std::iter::once(cpu).chain(cuda).collect()
}

/// Describes a GPU as in `NVIDIA H100 80GB HBM3, 79.6 GiB, cuDNN available`, leaving out what the driver does not tell.
fn gpu_text(index: usize) -> String {
    let gpu = Gpu::with_index(index);
    let name = gpu.as_ref().and_then(Gpu::name);
    let memory = gpu.and_then(|gpu| gpu.bytes()).map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let cudnn = format!("cuDNN {}", if Cuda::cudnn_is_available() { "available" } else { "missing" });
    [name, memory, Some(cudnn)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Returns why CUDA cannot be used, or None when it can.
fn cuda_obstacle() -> Option<String> {
    if !tch::utils::has_cuda() {
        return match tch::utils::has_cudart() {
            false => Some("this libtorch was built without CUDA; scripts/setup installs one that has it".into()),
            true if !std::path::Path::new("/proc/driver/nvidia/version").exists() => {
                Some("libtorch has CUDA, but no NVIDIA driver is loaded (nvidia-smi should answer)".into())
            }
            true => Some("libtorch has CUDA and a driver is loaded, but no device answers; is CUDA_VISIBLE_DEVICES empty, or the driver older than CUDA 13?".into()),
        };
    }
    (Cuda::device_count() == 0).then(|| "no CUDA device is visible; look at CUDA_VISIBLE_DEVICES".into())
}

/// Parses the name of a device: `auto` (CUDA if usable, else CPU), `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// The name is another word, or the CUDA device is not there; the message says why.
pub fn parse(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if cuda_obstacle().is_none() { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => 0,
        _ => match name.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok()) {
            Some(index) => index,
            None => bail!("unknown device '{name}'; allowed are auto, cpu, cuda and cuda:N"),
        },
    };
    if let Some(reason) = cuda_obstacle() {
        bail!("cannot use device '{name}': {reason}; or pass --device cpu");
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        bail!("cannot use device '{name}': there are {count} CUDA devices, cuda:0 to cuda:{}", count - 1);
    }
    Ok(Device::Cuda(index))
}

/// Returns what the driver says of a CUDA device; None for the CPU, and where [`Gpu::with_index`] gives None.
pub fn gpu(device: Device) -> Option<Gpu> {
    match device {
        Device::Cuda(index) => Gpu::with_index(index),
        _ => None,
    }
}

unsafe extern "C" {
    fn rootgan_peak_gpu_bytes(index: i32) -> i64;
}

/// Returns the most memory that tensors took at one time on a CUDA device; None on the CPU, or where libtorch does not
/// say. The driver counts more: what libtorch keeps for later, its libraries' working memory, and CUDA itself.
pub fn peak_tensor_bytes(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    // SAFETY: the function takes a number and throws nothing.
    u64::try_from(unsafe { rootgan_peak_gpu_bytes(index as i32) }).ok()
}

/// Returns the name of a device as `parse` takes it: `cpu` or `cuda:N`.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

/// Copies numbers of the host to a device without waiting for what the device is doing. libtorch's own copy would wait,
/// which leaves a GPU idle while the host prepares what comes next.
pub fn upload(values: &Tensor, device: Device) -> Tensor {
    if device == Device::Cpu {
        return values.shallow_clone();
    }
    // The copy reads page-locked memory, which libtorch keeps until the copy is done. Where there is none left, the
    // driver copies by itself, and may wait.
    let locked = values.f_internal_pin_memory(device);
    let source = locked.as_ref().unwrap_or(values);
    let (non_blocking, copy) = (true, false);
    source.to_device_(device, source.kind(), non_blocking, copy)
}

/// Waits until the device has done all its work; on the CPU there is nothing to wait for.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// Sets libtorch up for the whole process; call it first, and once.
///
/// The profiling executor specialises a script for the shapes it sees and costs 40 % more memory for no speed here;
/// plain interpretation is as fast as eager mode.
pub fn configure_runtime() {
    crate::system::memory::keep_freed_memory();
    tch::jit::set_profiling_mode(false);
    configure_thread();
    super::derivatives::use_convolution_derivatives(ConvolutionDerivatives::SameSize);
    super::waiting::adapt_to_load(usize::try_from(tch::get_num_threads()).unwrap_or(1));
    Arithmetic::default().apply();
}

/// Gives cuBLAS working memory of a fixed layout, without which its results may differ from run to run and libtorch refuses
/// to be deterministic. It has the size that libtorch takes on recent GPUs anyway. A user's own setting stands.
///
/// For the program only, as its first act: it sets an environment variable, which must not happen beside other threads.
pub fn fix_cublas_workspace() {
    const SETTING: &str = "CUBLAS_WORKSPACE_CONFIG";
    if std::env::var_os(SETTING).is_none() {
        // SAFETY: no other thread runs yet that could read the environment; see above.
        unsafe { std::env::set_var(SETTING, ":4096:8") };
    }
}

/// Applies the settings of `configure_runtime` that hold for one thread: call it in each thread that runs scripts.
pub fn configure_thread() {
    tch::jit::set_graph_executor_optimize(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_names_what_is_allowed() {
        let message = parse("tpu").unwrap_err().to_string();
        assert!(message.contains("'tpu'") && message.contains("cuda:N"), "{message}");
    }

    #[test]
    fn names_and_devices_are_inverse() {
        assert_eq!(parse("cpu").unwrap(), Device::Cpu);
        assert_eq!(name(Device::Cuda(3)), "cuda:3");
    }
}
