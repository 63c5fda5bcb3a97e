// Shared memory of a block, by the names the ops use.
#pragma once

#include "memory/device/shared_memory.cuh"

namespace engram::engine::cuda {

using memory::cuda::dynamic_shared;
using memory::cuda::shared;

}  // namespace engram::engine::cuda
