// What a hashed n-gram table looks like: columns, moduli, offsets, and how a row is stored.
// Plain data, made by the model's configuration, read by hash, store and prefetch.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base/tensor.h"

namespace engram::memory {

// Row encodings. kF8Ue8m0: e4m3 values with one ue8m0 scale byte per 32 values, kept apart.
enum class RowCodec : uint8_t { kBf16, kF16, kF32, kF8Ue8m0 };

const char* row_codec_name(RowCodec codec);

// H columns, order-major then head; column c owns the rows [offset[c], offset[c] + modulus[c]).
struct TableGeometry {
  int layer = 0;                     // block index in the model
  std::vector<int64_t> multipliers;  // [N], by look-back distance
  std::vector<int64_t> moduli;       // [H]
  std::vector<int64_t> offsets;      // [H]
  int heads = 0;                     // per order; H = (N-1) * heads
  int64_t rows = 0;                  // R, the sum of the moduli
  int64_t row_width = 0;             // r, elements
  RowCodec codec = RowCodec::kBf16;

  int columns() const { return static_cast<int>(moduli.size()); }  // H
  int64_t vector_width() const { return columns() * row_width; }   // E = H*r
  int64_t value_bytes() const;                                     // of one row, without scales
  int64_t scale_bytes() const;                                     // of one row; 0 without scales
};

}  // namespace engram::memory
