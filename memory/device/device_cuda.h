// The CUDA device behind memory::Device. Free of CUDA headers.
#pragma once

#include <memory>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// FAILED_PRECONDITION says what is missing and what to do about it: a driver, a driver that is new
// enough for this toolkit, a GPU, one that nobody else holds, code for it in this build.
// Buffers are device memory. With `time_waits`, Stream::wait() measures its time, which takes the
// stream some microseconds each time.
Result<std::unique_ptr<Device>> make_cuda_device(int index, bool time_waits = false);

}  // namespace engram::memory
