// Where the rows of a table lie in memory. Plain data; owns nothing.
#pragma once

#include <cstdint>

namespace engram::memory {

// Row i: geometry.value_bytes() bytes from values + i * value_stride, and geometry.scale_bytes()
// from scales + i * scale_stride. Strides are in bytes. Interleaved rows have equal strides.
struct RowPlace {
  const uint8_t* values = nullptr;
  const uint8_t* scales = nullptr;  // null without scales
  int64_t value_stride = 0;
  int64_t scale_stride = 0;
};

// The rows of a table from `first` on, up to those of the next part: row first + i is row i of
// `place`.
struct PlacedRows {
  int64_t first = 0;
  RowPlace place;
  bool in_device = false;  // memory of the device, which the host does not read
};

}  // namespace engram::memory
