// The machine's own limits, as loops that do nothing else. Highway, best target.
#pragma once

#include <cstdint>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::tools::bench {

// Reads [0, bytes) forward; some function of all of it. `ahead`: distance of the software prefetch
// in bytes, 0: none. REQUIRES: bytes is a multiple of 1024.
uint64_t read_all(const void* data, int64_t bytes, int64_t ahead);

struct MemoryPeaks {
  double read_gbps = 0;  // sequential reads by all threads
  double copy_gbps = 0;  // sequential copies by all threads, payload
};

// Medians of a few turns over `bytes` of memory, which should be more than the caches hold.
// RESOURCE_EXHAUSTED when there is not so much. REQUIRES: bytes is a multiple of 2^21.
memory::Result<MemoryPeaks> measure_memory_peaks(int threads, int64_t bytes);

// GB/s of copies of `bytes` from pinned host memory to the device. RESOURCE_EXHAUSTED without
// memory.
memory::Result<double> measure_link(memory::Device& device, int64_t bytes);

}  // namespace engram::tools::bench
