//! Chooses how libtorch computes on GPUs: the float32 arithmetic, the algorithms, and whether the same bits come out
//! every time. None of it matters on the CPU, where numbers are the same from run to run anyway.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::Cuda;

/// Whether libtorch was told to use deterministic algorithms.
static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn rootgan_allow_tf32(allowed: bool) -> bool;
    fn rootgan_use_deterministic_algorithms(wanted: bool) -> bool;
}

/// The arithmetic of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arithmetic {
    /// Whether factors of float32 products are rounded to 10 bits (TF32), which NVIDIA's matrix units are fast in.
    pub tf32: bool,
    /// Whether the same numbers always give the same bits, by slower algorithms.
    pub deterministic: bool,
}

impl Arithmetic {
    /// Applies the choice to the whole process. Call it while no tensors are computed.
    pub fn apply(self) {
        DETERMINISTIC.store(self.deterministic, Ordering::Relaxed);
        // SAFETY: the functions take no pointers and throw nothing; they set switches of libtorch's.
        unsafe {
            rootgan_allow_tf32(self.tf32);
            rootgan_use_deterministic_algorithms(self.deterministic);
        }
        tune_convolutions(false);
    }
}

/// Whether the same bits have to come out every time.
pub fn is_deterministic() -> bool {
    DETERMINISTIC.load(Ordering::Relaxed)
}

/// Has cuDNN try its algorithms out on every new shape of a convolution and keep the fastest, instead of choosing by rules.
/// For measurements: on an H100 training at 256x256 became 4 % faster and began 20 s later (benches/NOTES.md).
pub fn tune_convolutions(wanted: bool) {
    Cuda::cudnn_set_benchmark(wanted && !is_deterministic());
}
