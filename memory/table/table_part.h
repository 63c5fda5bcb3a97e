// A range of a table file's rows in host memory: what a placement over several tiers keeps there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/host_arena.h"
#include "memory/table/row_place.h"
#include "memory/table/table_file.h"

namespace engram::memory {

struct TablePart {
  std::shared_ptr<TableMemory> memory;  // shared with the store that reads it
  RowPlace place;                       // of the rows [first, end), from 0 on
};

// Loads the extents that hold the rows [first, end), directly where the file system allows it,
// each checked. Errors as of TableLoad and allocate_table_memory().
//   on_bytes  told how many more bytes are there, by one thread at a time; may be empty
Result<TablePart> load_table_part(
    const TableFile& file,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Device* device,
    const std::function<void(int64_t)>& on_bytes);

}  // namespace engram::memory
