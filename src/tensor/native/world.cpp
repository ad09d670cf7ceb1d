// Processes that speak to each other over libtorch's c10d: a TCPStore to meet at, gloo to send tensors of the host, NCCL
// (nccl.cpp, where its headers were found) to send those of GPUs.

#define USE_C10D_GLOO

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#ifdef ROOTGAN_NCCL
#include "nccl.hpp"
#endif

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace {

// Does `work`; returns null, or the words of what it throws, which rootgan_world_free_text frees.
template <typename Work>
char* text_of_failure(Work work) noexcept {
    const char* text = "an error that is no exception";
    try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        return strdup(error.what());
    } catch (...) {
        return strdup(text);
    }
}

// The longest that a sum over GPUs may take. Before it all have told each other by gloo that they are there, so only a process
// that dies in between makes the others wait; c10d then ends them.
[[maybe_unused]] constexpr std::chrono::milliseconds LONGEST_GPU_SUM{25'000};

struct World {
    c10::intrusive_ptr<c10d::Store> store;
    c10::intrusive_ptr<c10d::ProcessGroupGloo> of_host;
    // Made when the first tensor of a GPU comes.
    c10::intrusive_ptr<c10d::Backend> of_gpu;

    c10d::Backend& group_for(const at::Tensor& tensor) {
#ifdef ROOTGAN_NCCL
        if (tensor.is_cuda()) {
            if (!of_gpu) {
                of_gpu = rootgan::nccl_group(store, of_host->getRank(), of_host->getSize(), LONGEST_GPU_SUM);
            }
            return *of_gpu;
        }
#endif
        return *of_host;
    }
};

}  // namespace

extern "C" void rootgan_world_free_text(char* text) noexcept { std::free(text); }

// Waits until `size` processes have come to the store at host:port, which this process serves if `serves`, then connects to
// all. `interface` is the name of a network interface, or, if empty, `address` is this machine's own address.
extern "C" char* rootgan_world_join(const char* host, uint16_t port, bool serves, int rank, int size, const char* prefix,
                                    const char* interface, const char* address, int64_t join_ms, int64_t wait_ms,
                                    void** out) noexcept {
    return text_of_failure([&] {
        c10d::TCPStoreOptions options;
        options.port = port;
        options.isServer = serves;
        options.waitWorkers = false;
        options.timeout = std::chrono::milliseconds(join_ms);
        c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
        store = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
        auto of_group = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(join_ms));
        const std::string name(interface);
        of_group->devices.push_back(name.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(address)
                                                 : c10d::ProcessGroupGloo::createDeviceForInterface(name));
        auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, of_group);
        group->setTimeout(std::chrono::milliseconds(wait_ms));
        *out = new World{store, group, nullptr};
    });
}

// Whether tensors of GPUs are sent as they are.
extern "C" bool rootgan_world_has_nccl() noexcept {
#ifdef ROOTGAN_NCCL
    return true;
#else
    return false;
#endif
}

extern "C" void rootgan_world_leave(void* world) noexcept {
    try {
        delete static_cast<World*>(world);
    } catch (...) {
    }
}

// Sums a contiguous tensor in place over all processes.
extern "C" char* rootgan_world_sum(void* world, at::Tensor* tensor) noexcept {
    return text_of_failure([&] {
        c10d::AllreduceOptions options;
        options.reduceOp = c10d::ReduceOp::SUM;
        std::vector<at::Tensor> tensors{*tensor};
        static_cast<World*>(world)->group_for(*tensor).allreduce(tensors, options)->wait();
    });
}

// Copies the contiguous tensor of `root` into those of all others.
extern "C" char* rootgan_world_broadcast(void* world, at::Tensor* tensor, int root) noexcept {
    return text_of_failure([&] {
        c10d::BroadcastOptions options;
        options.rootRank = root;
        std::vector<at::Tensor> tensors{*tensor};
        static_cast<World*>(world)->group_for(*tensor).broadcast(tensors, options)->wait();
    });
}
