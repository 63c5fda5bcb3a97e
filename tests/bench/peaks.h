// The machine's own limits, as loops that do nothing else. Highway, best target.
#pragma once

#include <cstdint>

#include "memory/table/row_place.h"

namespace engram::bench {

// Reads [0, bytes) forward; some function of all of it. `ahead`: distance of the software prefetch
// in bytes, 0: none. REQUIRES: bytes is a multiple of 1024.
uint64_t read_all(const void* data, int64_t bytes, int64_t ahead);

// `count` times 24 independent multiply-adds on whole vectors.
float multiply_add(int64_t count);
// Floating-point operations of one count.
int64_t multiply_add_flops();

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
};
void copy_rows(const RowCopy& copy);

}  // namespace engram::bench
