// Copies to shared memory that run beside the thread that started them, by the names the ops use.
#pragma once

#include "memory/device/async_copy.cuh"

namespace engram::engine::cuda {

using memory::cuda::commit_copies;
using memory::cuda::copy_16_async;
using memory::cuda::wait_for_copies;

}  // namespace engram::engine::cuda
