// Host memory for buffers: 64-byte aligned, zeroed, and really there. Large blocks lie on 2 MiB
// boundaries in transparent huge pages where the system grants them. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// What must stay free beside a block: other processes, page tables, the heap.
inline constexpr int64_t kMemoryReserve = int64_t{64} << 20;

// Pages are touched here, so that neither a page fault nor the out-of-memory killer comes later.
// RESOURCE_EXHAUSTED names `what`, the bytes asked for and the bytes there are.
Result<Buffer> allocate_host(const std::string& what, int64_t bytes);

}  // namespace engram::memory
