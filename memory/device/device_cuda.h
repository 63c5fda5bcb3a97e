// The CUDA device behind memory::Device. Free of CUDA headers.
#pragma once

#include <memory>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// FAILED_PRECONDITION says what is missing and what to do about it: a driver, a driver that is new
// enough for this toolkit, a GPU, one that nobody else holds, code for it in this build.
// Buffers are device memory. Stream::wait() does not measure its time.
Result<std::unique_ptr<Device>> make_cuda_device(int index);

}  // namespace engram::memory
