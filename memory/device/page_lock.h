// Keeps pages of host memory from being swapped out. Any thread.
#pragma once

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// Explicit huge pages are never swapped, so they count as locked and use up no limit.
// RESOURCE_EXHAUSTED names the bytes, the limit, and how it is raised.
Status lock_pages(const HostRange& range);
void unlock_pages(const HostRange& range);

}  // namespace engram::memory
