// What libtorch's allocator of GPU memory counts.

#include <c10/core/CachingDeviceAllocator.h>

#include <cstdint>

// The most bytes that tensors took at one time on a CUDA device since the process began, -1 where that is not known. Called
// before anything was allocated there it may find no allocator yet.
extern "C" int64_t rootgan_peak_gpu_bytes(int index) noexcept {
    try {
        auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        if (allocator == nullptr || !allocator->initialized()) return -1;
        const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
        return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
    } catch (...) {
        return -1;
    }
}
