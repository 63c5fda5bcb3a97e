// The packed layout of a Matrix on the CPU: panels of 32 outputs, [ceil(N/32)][K][32], rows past N
// zero. A linear layer then reads its weight as one forward stream, 32 results at a time.
//
// In bf16 the columns j and 16 + j share one 32-bit word, low and high half: widening is a shift
// and a mask, at every vector width. f16 and f32 lie in column order. In f8_e4m3 the inputs k and
// k + 1 (k even) of a column share a 16-bit word: [ceil(K/2)][32][2], an odd K padded with zeros.
#pragma once

#include <cstdint>

#include "engine/ops/ops.h"

namespace engram::engine::cpu {

constexpr int64_t kPanelRows = 32;

inline int64_t panel_count(int64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows;
}

// Inputs of a panel, with what pads them.
inline int64_t panel_cols(const Matrix& w) {
  return w.dtype == DType::kF8E4m3 ? (w.cols + 1) / 2 * 2 : w.cols;
}

// Where output `row` of a panel (0..31) stands among the 32 values of one k. Not for f8_e4m3.
inline int64_t panel_slot(DType dtype, int64_t row) {
  if (dtype != DType::kBf16) return row;
  return row < 16 ? 2 * row : 2 * (row - 16) + 1;
}

// First byte of the panel, at input k; of f8_e4m3 an even one.
inline char* panel_at(const Matrix& w, int64_t panel, int64_t k) {
  return static_cast<char*>(w.data) +
         (panel * panel_cols(w) + k) * kPanelRows * memory::dtype_bytes(w.dtype);
}

}  // namespace engram::engine::cpu
