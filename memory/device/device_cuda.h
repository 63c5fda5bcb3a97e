// The CUDA device behind memory::Device. Free of CUDA headers.
#pragma once

#include <memory>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// FAILED_PRECONDITION says what is missing: driver, device, or a driver too old for this toolkit.
// Buffers are device memory. Stream::wait() does not measure its time.
Result<std::unique_ptr<Device>> make_cuda_device(int index);

}  // namespace engram::memory
