// One table whose rows are in several stores, each with a range of them: what a placement over
// several tiers becomes. Exact: which store a row comes from changes no bit of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/row_store.h"

namespace engram::memory {

// The rows [first, end) of a table as a table of one column: what the store of a part serves, its
// row 0 being the table's row `first`.
TableGeometry part_geometry(const TableGeometry& whole, int64_t first, int64_t end);

struct RowPart {
  int64_t first = 0;
  std::unique_ptr<RowStore> store;
};

// The parts are in ascending order and cover the table. A gather asks the parts in turn, each for
// all the rows it has, and is slower than its slowest part by the compare per row; calls with more
// than `max_rows` rows are done in pieces. Nothing allocates after make. FAILED_PRECONDITION when
// the parts are of different versions. gather() needs rows of `out` whose stride is a multiple of
// the row width, as staging memory has.
Result<std::unique_ptr<RowStore>> make_split_row_store(
    TableGeometry geometry, std::vector<RowPart> parts, int64_t max_rows);

}  // namespace engram::memory
