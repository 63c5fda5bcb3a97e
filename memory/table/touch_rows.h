// Rows that lie in this process's memory may still be far away: the host of a virtual machine takes
// memory that seems idle from it, and brings it back page by page when it is read.
#pragma once

#include <cstdint>

#include "memory/table/row_store.h"

namespace engram::memory {

// Reads one byte of each 4 KiB of host memory that the store's rows lie in, so that all of them are
// there afterwards. Returns how many; 0 for stores whose rows are not in memory. Any thread.
int64_t touch_rows(const RowStore& store);

}  // namespace engram::memory
