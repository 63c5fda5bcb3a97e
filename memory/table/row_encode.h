// Rows of f32 to stored rows, for converters. Any thread; uses the best vector instructions at
// hand.
#pragma once

#include <cstdint>

#include "memory/table/geometry.h"

namespace engram::memory {

// Where encoded rows go: a RowPlace that can be written. Bytes between rows are left alone.
struct RowTarget {
  uint8_t* values = nullptr;
  uint8_t* scales = nullptr;  // null without scales
  int64_t value_stride = 0;
  int64_t scale_stride = 0;
};

// rows [count, r], one after the other, to the first `count` rows of `to`. REQUIRES check_codec().
//   f32                 as it is
//   bf16, f16, fp8      to nearest, ties to even; f16 and fp8 saturate at the largest finite number
//   fp8 with ue8m0      scale 2^ceil(log2(amax / 448)) of each block; 1 for a block of zeros
//   fp8, tensor scale   by geometry.tensor_scale, see e4m3_tensor_scale()
//   int8, int4          integers in [-127, 127] and [-8, 7]; the f16 scale (int4: of either sign)
//   is
//                       the one with the least squared error among amax over several divisors and
//                       the least-squares fit to the best of those
// NaN stays NaN in floating point and becomes 0 in integers.
void encode_rows(
    const TableGeometry& geometry, const float* rows, int64_t count, const RowTarget& to);

// The largest magnitude; NaN is passed over.
float max_magnitude(const float* values, int64_t count);

// The scale that puts a table's largest magnitude on the largest fp8 number; 1 for zeros.
float e4m3_tensor_scale(float table_max_magnitude);

}  // namespace engram::memory
