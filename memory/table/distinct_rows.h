// Rows that a gather wants more than once, read once: which rows they are, found on the GPU, nearly
// in the order of their addresses. Prompts repeat n-grams, and each row that comes over the link
// costs a share of it and a translation.
//
// Each wanted row takes a seat in a table of twice as many seats as rows are wanted. The seat that
// suits a row is its id's place between the first row and the last, so that seats in their order
// are rows in theirs, but for those that found their seat taken: ids are hashes, hence spread
// evenly. Equal ids share a seat. Whoever reads the seats in order has them sorted and counted.
#pragma once

#include <cstdint>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// Where a row goes: element column * row_width of row `slot` of the output.
struct RowSpot {
  int32_t slot = 0;
  int32_t column = 0;
};

struct ListedRow {
  int64_t id = 0;
  RowSpot spot;
};

// Memory of the device for that; owned by one stream at a time.
class DistinctRows {
 public:
  DistinctRows() = default;  // for no rows
  // For gathers of so many rows, repeats included. RESOURCE_EXHAUSTED. REQUIRES: below 2^30.
  static Result<DistinctRows> make(Device& device, int64_t most_rows);

  static constexpr int64_t kSeatsPerRow = 2;

  int64_t most_rows() const { return most_rows_; }
  int64_t bytes() const { return memory_.bytes(); }

  // All in device memory.
  struct Arrays {
    unsigned long long* seats;  // [2 * most_rows] id + 1 of who sits there; 0: nobody  NOLINT
    RowSpot* spots;             // [2 * most_rows] where the row goes that is read
    int32_t* seat_of;           // [most_rows] by index among the wanted rows
    int32_t* slot_of;           // [most_rows] likewise
    ListedRow* listed;          // [most_rows]
    int32_t* count;             // of `listed`
  };
  Arrays arrays() const;

 private:
  int64_t most_rows_ = 0;
  Buffer memory_;
};

}  // namespace engram::memory
