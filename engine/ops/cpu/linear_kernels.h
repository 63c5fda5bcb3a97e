// The inner loops of the linear layers, for the best vector instructions at hand.
//
// One result is y = fma over k = 0..K-1 in that order, from zero, then the bias; in every kernel,
// for every number of rows and every split over threads. So a row's bits depend on that row and
// its weights alone, and are the same on all machines whose multiply-add is fused (AVX2, AVX-512,
// NEON). The scalar code of older x86 rounds twice per step: it keeps the first property, not the
// second.
//
// Rows are packed in blocks of at most block_rows(), as f32: [K/kInputs][block][rows][kInputs], K
// padded with zeros. The inner loop then steps from row to row by a constant, and the block that is
// next in line is next in memory.
#pragma once

#include <cstdint>

#include "engine/ops/cpu/panels.h"
#include "engine/ops/ops.h"

namespace engram::engine::cpu {

constexpr int64_t kInputs = 256;     // inputs of a packed block
constexpr int64_t kChunkRows = 516;  // rows of x that are packed at a time
constexpr int64_t kGroupPanels = 4;  // panels that share one pass over packed rows

// Bytes of scratch memory for linear calls of up to so many rows and inputs.
struct LinearScratch {
  int64_t packed_x = 0;
  int64_t workers = 0;          // all
  static int64_t per_worker();  // bytes
};
LinearScratch linear_scratch(int64_t max_tokens, int64_t max_cols, int threads);

// Rows of x split evenly into blocks; offsets into the packed array in floats.
class RowBlocks {
 public:
  RowBlocks(int64_t rows, int64_t cols);

  int64_t count() const { return count_; }
  int64_t first(int64_t block) const { return block * rows_ / count_; }
  int64_t size(int64_t block) const { return first(block + 1) - first(block); }
  // Where the inputs [k, k + kInputs) of a block begin; k a multiple of kInputs.
  int64_t offset(int64_t block, int64_t k) const { return k * rows_ + first(block) * kInputs; }
  int64_t padded_cols() const { return padded_cols_; }

 private:
  int64_t rows_;
  int64_t count_;
  int64_t padded_cols_;
};

// Rows of a block that the registers hold.
int64_t block_rows();

// Packs one block of the rows of x.
void pack_block(View x, const RowBlocks& blocks, int64_t block, float* packed);

// y[:, 32 panel ...] = the packed rows times the panels [first, last) of w, plus bias.
struct PanelWork {
  const Matrix& w;
  int64_t first = 0;
  int64_t last = 0;
  const float* packed = nullptr;
  const RowBlocks& blocks;
  View bias;
  View y;
};

// Of a few rows: reads the panels as stored, once from memory.
void multiply_streaming(const PanelWork& work);

// Of many rows: the panels are widened block by block and used for all rows. `scratch` is this
// worker's piece. last - first <= kGroupPanels.
void multiply_blocked(const PanelWork& work, float* scratch);

}  // namespace engram::engine::cpu
