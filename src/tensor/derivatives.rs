//! Chooses between two ways to compute second derivatives of convolutions: libtorch's, or by convolutions of the same
//! size, which is faster (`native/convolution_backward.cpp` has the mathematics).

use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn rootgan_set_convolution_backward(own: bool) -> bool;
}

/// The way in which the process computes second derivatives of convolutions. In float32 both give the same values but
/// for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvolutionDerivatives {
    /// Convolutions with kernels of the usual size; only what is asked for is computed.
    SameSize,
    /// libtorch's own way, with kernels as large as images.
    Libtorch,
}

/// The way in use. Replacing an operator while another thread calls it is a crash, so what is in use is left alone.
static IN_USE: Mutex<ConvolutionDerivatives> = Mutex::new(ConvolutionDerivatives::Libtorch);

/// Chooses the way for the whole process. Change it only while no tensors are being computed; choosing again what is in
/// use does nothing, so every thread may do that.
///
/// Returns whether libtorch accepted the choice; where it did not, its own derivatives stay.
pub fn use_convolution_derivatives(which: ConvolutionDerivatives) -> bool {
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    if *in_use == which {
        return true;
    }
    // SAFETY: the function takes no pointers and throws nothing; it changes libtorch's table of operators, and the lock
    // keeps two threads from doing so at once.
    let accepted = unsafe { rootgan_set_convolution_backward(which == ConvolutionDerivatives::SameSize) };
    *in_use = if accepted { which } else { ConvolutionDerivatives::Libtorch };
    accepted
}
