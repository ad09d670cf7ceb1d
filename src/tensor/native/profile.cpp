// libtorch's own profiler, which its Python interface is known for: operators on the host, kernels on a GPU.

#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

namespace {

using torch::profiler::impl::ActivityType;

std::set<ActivityType> activities(bool on_gpu) {
    return on_gpu ? std::set<ActivityType>{ActivityType::CPU, ActivityType::CUDA} : std::set<ActivityType>{ActivityType::CPU};
}

}  // namespace

// Begins to record. Returns false where libtorch refuses.
extern "C" bool rootgan_profile_begin(bool on_gpu) noexcept {
    try {
        const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
        torch::autograd::profiler::prepareProfiler(config, activities(on_gpu));
        torch::autograd::profiler::enableProfiler(config, activities(on_gpu));
        return true;
    } catch (...) {
        return false;
    }
}

// Ends the recording and writes it to a file as a trace in Chrome's format. Returns false where libtorch refuses.
extern "C" bool rootgan_profile_end(const char* path) noexcept {
    try {
        const auto result = torch::autograd::profiler::disableProfiler();
        result->save(path);
        return true;
    } catch (...) {
        return false;
    }
}
