// The group of processes that sums tensors of GPUs, apart from world.cpp because it needs the headers of CUDA and NCCL.

#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

namespace rootgan {

// Makes the group; the connections are made at the first sum. A sum that takes longer than `timeout` ends the process.
c10::intrusive_ptr<c10d::Backend> nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             std::chrono::milliseconds timeout);

}  // namespace rootgan
