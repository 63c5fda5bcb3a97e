// Reads a whole table file past the page cache and compares every extent with its checksum, on
// several threads that hold one extent each.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/table_file.h"

namespace engram::memory {

struct TableCheckOptions {
  int threads = 4;
  const std::atomic<bool>* stop = nullptr;  // becomes true: end early with CANCELLED
  std::function<void(int64_t bytes)>
      on_progress;  // read so far; some times a second, on the caller
};

// The extents that are corrupt or cannot be read, in the order of the file; empty when all is well.
// An error is one of the check itself: CANCELLED, or the file cannot be opened any more.
Result<std::vector<Status>> check_table(const TableFile& file, const TableCheckOptions& options);

}  // namespace engram::memory
