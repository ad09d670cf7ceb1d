//! Asks NVIDIA's driver about a GPU: its name, its memory and what is used of it, and whether kernels run. What
//! libtorch knows of this is not within reach, and the driver also knows what other programs do.

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;

/// A GPU as the driver knows it. Every method returns None where the driver gives no answer.
pub struct Gpu {
    nvml: Nvml,
    place: DriverName,
}

/// The name of a GPU for the driver.
#[derive(Debug, PartialEq, Eq)]
enum DriverName {
    /// Its number in the order of the slots.
    Index(u32),
    /// Its identifier: `GPU-` and the beginning of a number, or `MIG-` (a slice of a GPU) and a whole one.
    Uuid(String),
}

impl Gpu {
    /// Finds the GPU that CUDA calls `index`; None without the driver's library, or where it cannot be told which one
    /// that is, as with a slice of a GPU (MIG) that is not named in `CUDA_VISIBLE_DEVICES`.
    pub fn with_index(index: usize) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        let named = place(index, std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())?;
        let by_slot = std::env::var("CUDA_DEVICE_ORDER").is_ok_and(|order| order == "PCI_BUS_ID");
        let known = matches!(named, DriverName::Uuid(_)) || by_slot || all_alike(&nvml);
        let place = whole_gpu(&nvml, &named).map_or(named, DriverName::Index);
        let gpu = Self { nvml, place };
        let device = gpu.device()?;
        // A GPU that knows no slices answers with an error.
        let has_slices = device.mig_mode().is_ok_and(|mode| mode.current == 1);
        let is_slice = device.mig_is_mig_device_handle().unwrap_or(false);
        (known && (is_slice || !has_slices)).then_some(gpu)
    }

    /// Returns the name of the model, as in `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> Option<String> {
        self.device()?.name().ok()
    }

    /// Describes the GPU, as in `NVIDIA H100 80GB HBM3 (compute capability 9.0)`.
    pub fn description(&self) -> Option<String> {
        let device = self.device()?;
        let capability = device.cuda_compute_capability().ok()?;
        Some(format!("{} (compute capability {}.{})", device.name().ok()?, capability.major, capability.minor))
    }

    /// Returns the size of its memory.
    pub fn bytes(&self) -> Option<u64> {
        Some(self.device()?.memory_info().ok()?.total)
    }

    /// Returns how many bytes of its memory this process holds now, what libtorch keeps for later and CUDA's own
    /// included.
    pub fn used_bytes(&self) -> Option<u64> {
        let processes = self.device()?.running_compute_processes().ok()?;
        // In a container the driver may number processes differently; a process that is alone is taken for this one.
        let own = match &processes[..] {
            [one] => one,
            several => several.iter().find(|process| process.pid == std::process::id())?,
        };
        match own.used_gpu_memory {
            UsedGpuMemory::Used(bytes) if bytes > 0 => Some(bytes),
            _ => None,
        }
    }

    /// Returns the share of the last moments, a second at most, in which a kernel ran, 0 to 1.
    pub fn busy(&self) -> Option<f64> {
        Some(f64::from(self.device()?.utilization_rates().ok()?.gpu) / 100.0)
    }

    fn device(&self) -> Option<nvml_wrapper::Device<'_>> {
        match &self.place {
            DriverName::Index(index) => self.nvml.device_by_index(*index).ok(),
            DriverName::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()).ok(),
        }
    }
}

/// Returns the slot of a whole GPU that is named by the beginning of its identifier.
fn whole_gpu(nvml: &Nvml, named: &DriverName) -> Option<u32> {
    let DriverName::Uuid(beginning) = named else {
        return None;
    };
    let begins_so = |index: &u32| {
        let uuid = nvml.device_by_index(*index).and_then(|gpu| gpu.uuid());
        uuid.is_ok_and(|uuid| uuid.starts_with(beginning))
    };
    (0..nvml.device_count().ok()?).find(begins_so)
}

/// Whether all GPUs are of the same model, so that CUDA's order (the fastest first) is that of the slots.
fn all_alike(nvml: &Nvml) -> bool {
    let count = nvml.device_count().unwrap_or(0);
    let names: Vec<_> = (0..count).map(|index| nvml.device_by_index(index).and_then(|gpu| gpu.name()).ok()).collect();
    names.windows(2).all(|pair| pair[0] == pair[1])
}

/// Returns the driver's name of CUDA's device `index`, where `CUDA_VISIBLE_DEVICES` is `visible`.
fn place(index: usize, visible: Option<&str>) -> Option<DriverName> {
    let Some(visible) = visible else {
        return u32::try_from(index).ok().map(DriverName::Index);
    };
    let name = visible.split(',').nth(index)?.trim();
    match name.parse() {
        Ok(index) => Some(DriverName::Index(index)),
        Err(_) => (!name.is_empty()).then(|| DriverName::Uuid(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_among_the_visible_ones() {
        assert_eq!(place(1, None), Some(DriverName::Index(1)));
        assert_eq!(place(0, Some("3, 1")), Some(DriverName::Index(3)));
        assert_eq!(place(1, Some("3, 1")), Some(DriverName::Index(1)));
        assert_eq!(place(0, Some("GPU-8932f937")), Some(DriverName::Uuid("GPU-8932f937".to_owned())));
        assert_eq!((place(2, Some("3,1")), place(0, Some(""))), (None, None));
    }
}
