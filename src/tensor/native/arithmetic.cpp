// Switches of libtorch's that tch does not reach: TF32 and deterministic algorithms.

#include <ATen/Context.h>

// Whether NVIDIA's libraries may round float32 factors to 10 bits. Returns false where libtorch refuses.
extern "C" bool rootgan_allow_tf32(bool allowed) noexcept {
    try {
        at::globalContext().setAllowTF32CuDNN(allowed);
        at::globalContext().setAllowTF32CuBLAS(allowed);
        return true;
    } catch (...) {
        return false;
    }
}

// Whether the same numbers always give the same bits; operators that cannot do that are refused then. Returns false where
// libtorch refuses.
extern "C" bool rootgan_use_deterministic_algorithms(bool wanted) noexcept {
    try {
        at::globalContext().setDeterministicAlgorithms(wanted, false);
        at::globalContext().setDeterministicCuDNN(wanted);
        // Filling memory that is written anyway costs time and changes nothing.
        at::globalContext().setDeterministicFillUninitializedMemory(false);
        return true;
    } catch (...) {
        return false;
    }
}
