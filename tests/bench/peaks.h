// Limits of the machine beside those of tools/bench, as loops that do nothing else.
// Highway, best target.
#pragma once

#include <cstdint>

#include "memory/table/row_place.h"
#include "tools/bench/compute_peak.h"
#include "tools/bench/peaks.h"

namespace engram::bench {

using tools::bench::multiply_add;
using tools::bench::multiply_add_flops;
using tools::bench::read_all;

// Rows copied one after the other in the order of `ids`, values then scales, the row `ahead` places
// further prefetched: the gather one would write by hand. `to` is a ring of ring_rows rows, each at
// a multiple of 64 bytes, that the copies of 64 bytes may overrun by as much.
struct RowCopy {
  memory::RowPlace place;
  int64_t value_bytes = 0;
  int64_t scale_bytes = 0;
  const int64_t* ids = nullptr;
  int64_t count = 0;
  int64_t ahead = 0;
  bool second_level = false;  // of the caches, for the prefetch; else the first
  uint8_t* to = nullptr;
  int64_t ring_rows = 0;
  // Written per row: as much as decoding the row writes. The row, and behind it its beginning over
  // and over; 0: the row alone.
  int64_t out_bytes = 0;
};
void copy_rows(const RowCopy& copy);

// The first 8 bytes of rows in the order of `ids`, which are the same in all rows: what reaching a
// row costs when nothing is done with it. Returns their sum.
struct RowReads {
  const uint8_t* rows = nullptr;
  int64_t stride = 0;
  const int64_t* ids = nullptr;
  int64_t count = 0;
  bool one_by_one = false;  // each address waits for the row before; else requested ahead
};
uint64_t read_rows(const RowReads& reads);

}  // namespace engram::bench
