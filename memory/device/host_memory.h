// Host memory for buffers and tables: 64-byte aligned, zeroed, and really there. Large blocks lie
// on 2 MiB boundaries in huge pages where the system grants them. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// Pages are touched here, so that neither a page fault nor the out-of-memory killer comes later.
// RESOURCE_EXHAUSTED names `what`, the bytes asked for and the bytes there are.
Result<Buffer> allocate_host(const std::string& what, int64_t bytes);

// Which share of a block is backed by huge pages now, 0..1, by /proc/self/smaps.
double huge_page_share(const void* data, int64_t bytes);

}  // namespace engram::memory
