//! Chooses between two ways to compute second derivatives of convolutions: libtorch's, or by convolutions of the same
//! size, which is faster (`native/convolution_backward.cpp` has the mathematics).

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

/// Chooses the way for the whole process. Call it while no tensors are being computed.
///
/// Returns whether libtorch accepted the choice; where it did not, its own derivatives stay.
pub fn use_convolution_derivatives(which: ConvolutionDerivatives) -> bool {
    // SAFETY: the function takes no pointers and throws nothing; it changes libtorch's table of operators under its
    // lock.
    unsafe { rootgan_set_convolution_backward(which == ConvolutionDerivatives::SameSize) }
}
