// Tables, or parts of them, in the device's own memory: the tier `hbm`. Kernels read the rows
// there; the host cannot, so such a store gathers nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/host_arena.h"
#include "memory/table/row_store.h"
#include "memory/table/table_source.h"

namespace engram::memory {

// Copies the rows [first, end) of `source` to memory of the device, values without gaps, then
// scales without gaps, and makes a store of them whose row 0 is `first`. A table file passes
// through host memory (as `arena` says, but not pinned) a slice at a time; other sources are loaded
// whole and let go. Errors: those of load_table_part(), TableSource::load(),
// allocate_table_memory() and Device::allocate().
//   geometry  of the store: end - first rows
//   on_bytes  told how many more bytes of rows are there, by the calling thread; may be empty
// REQUIRES: a device whose buffers the host does not read, not sealed.
Result<std::unique_ptr<RowStore>> load_device_row_store(
    TableGeometry geometry,
    const TableSource& source,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Device& device,
    const std::function<void(int64_t)>& on_bytes);

}  // namespace engram::memory
