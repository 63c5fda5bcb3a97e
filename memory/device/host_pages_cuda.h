// Host memory that the CUDA driver allocates (cuMemCreate on a NUMA node), which GPUs map in pages
// of 2 MiB whatever the host's own pages are. Free of CUDA headers; any thread.
#pragma once

#include <cstdint>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// As Device::allocate_host_pages(), for this GPU.
Result<Buffer> allocate_host_pages_of_driver(int gpu, int numa_node, int64_t bytes);

}  // namespace engram::memory
