//! Second derivatives of convolutions by convolutions of the same size, in place of libtorch's
//! (`native/convolution_backward.cpp` has the mathematics).

unsafe extern "C" {
    fn rootgan_set_convolution_backward(own: bool) -> bool;
}

/// Whose second derivatives of convolutions the process uses. The values agree but for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvolutionDerivatives {
    /// By convolutions with kernels of the usual size, and only what is asked for.
    SameSize,
    /// libtorch's own, with kernels as large as images.
    Libtorch,
}

/// Chooses for the whole process. Call it while no tensors are computed.
///
/// Returns whether libtorch agreed; where it does not, its own derivatives stay.
pub fn use_convolution_derivatives(which: ConvolutionDerivatives) -> bool {
    // SAFETY: the function takes no pointers and throws nothing; it changes libtorch's table of operators under its lock.
    unsafe { rootgan_set_convolution_backward(which == ConvolutionDerivatives::SameSize) }
}
