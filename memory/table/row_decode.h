// The inner loop of a gather: reads stored rows by id, far apart in memory, and writes them as
// activations. Runs on the calling thread, with the best vector instructions at hand.
#pragma once

#include <cstdint>

#include "memory/base/tensor.h"
#include "memory/table/geometry.h"

namespace engram::memory {

// Row ids[t * columns + h] goes to out[slots[t]], elements [h * width, (h + 1) * width).
struct RowGather {
  RowCodec codec = RowCodec::kBf16;
  int64_t rows = 0;         // of the table; an id outside is a bug
  int64_t width = 0;        // elements of a row; a multiple of 32 with scales
  int64_t value_bytes = 0;  // of a row
  int64_t scale_bytes = 0;
  const uint8_t* values = nullptr;  // [rows, value_bytes]
  const uint8_t* scales = nullptr;  // [rows, scale_bytes]
  const int64_t* ids = nullptr;     // [tokens * columns]
  const int32_t* slots = nullptr;   // [tokens]
  int64_t tokens = 0;
  int64_t columns = 0;
  View out;  // f32 or bf16
};

void decode_rows(const RowGather& gather);

}  // namespace engram::memory
