#include "engine/model/fp8_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

#include "memory/table/row_encode.h"

namespace engram::engine {
namespace {

constexpr int64_t kBlockRows = kMaxScaleRows;
constexpr int64_t kBlockCols = kScaleCols;

// A block in f32.
struct Block {
  int64_t rows = 0;
  int64_t cols = 0;
  alignas(64) std::array<float, kBlockRows * kBlockCols> values;
};

uint32_t bits_of(memory::Bf16 value) {
  return uint32_t{value.bits} << 16;
}
uint32_t bits_of(memory::F16 value) {
  return std::bit_cast<uint32_t>(memory::half_to_float(value));
}
uint32_t bits_of(float value) {
  return std::bit_cast<uint32_t>(value);
}

// False for values that are not finite.
template <typename T>
bool widen(View rows, int64_t first_row, int64_t first_col, Block* block) {
  uint32_t most = 0;  // by their bits, infinity and NaN are larger than all others
  for (int64_t r = 0; r < block->rows; ++r) {
    const T* from = rows.row<T>(first_row + r) + first_col;
    float* to = block->values.data() + r * block->cols;
    for (int64_t c = 0; c < block->cols; ++c) {
      const uint32_t bits = bits_of(from[c]);
      most = std::max(most, bits & 0x7fffffffu);
      to[c] = std::bit_cast<float>(bits);
    }
  }
  return most < 0x7f800000u;
}

bool widen_block(View rows, int64_t first_row, int64_t first_col, Block* block) {
  if (rows.dtype == DType::kBf16) return widen<memory::Bf16>(rows, first_row, first_col, block);
  if (rows.dtype == DType::kF16) return widen<memory::F16>(rows, first_row, first_col, block);
  ENGRAM_CHECK(rows.dtype == DType::kF32);
  return widen<float>(rows, first_row, first_col, block);
}

void add_error(const Block& block, const uint8_t* codes, int64_t stride, float scale, Fp8Error* e) {
  constexpr int64_t kRowStep = 16;
  for (int64_t r = 0; r < block.rows; r += kRowStep) {
    for (int64_t c = 0; c < block.cols; ++c) {
      const float value = block.values[static_cast<size_t>(r * block.cols + c)];
      const float off = memory::e4m3_to_float(codes[r * stride + c]) * scale - value;
      e->squared_error += double{off} * double{off};
      e->squared += double{value} * double{value};
    }
  }
}

}  // namespace

bool quantize_fp8(View rows, uint8_t* codes, float* scales, Fp8Error* error) {
  const auto block = std::make_unique<Block>();
  memory::TableGeometry geometry;
  geometry.codec = memory::RowCodec::kF8Tensor;
  for (int64_t row = 0; row < rows.rows; row += kBlockRows) {
    for (int64_t col = 0; col < rows.cols; col += kBlockCols, ++scales) {
      block->rows = std::min(kBlockRows, rows.rows - row);
      block->cols = std::min(kBlockCols, rows.cols - col);
      if (!widen_block(rows, row, col, block.get())) return false;
      const float* values = block->values.data();
      geometry.row_width = block->cols;
      geometry.tensor_scale =
          memory::e4m3_tensor_scale(memory::max_magnitude(values, block->rows * block->cols));
      uint8_t* to = codes + row * rows.cols + col;
      memory::encode_rows(geometry, values, block->rows, {.values = to, .value_stride = rows.cols});
      *scales = geometry.tensor_scale;
      if (error != nullptr) add_error(*block, to, rows.cols, *scales, error);
    }
  }
  return true;
}

int64_t find_nan_code(const uint8_t* codes, int64_t count) {
  bool found = false;
  for (int64_t i = 0; i < count; ++i) found |= (codes[i] & 0x7f) == 0x7f;
  if (!found) return -1;
  return std::find_if(codes, codes + count, [](uint8_t c) { return (c & 0x7f) == 0x7f; }) - codes;
}

std::vector<float> spread_scales(
    const std::vector<float>& scales, int64_t rows, int64_t scale_cols, int64_t scale_rows) {
  std::vector<float> spread;
  for (int64_t row = 0; row < rows; row += scale_rows) {
    const auto block = scales.begin() + row / kBlockRows * scale_cols;
    spread.insert(spread.end(), block, block + scale_cols);
  }
  return spread;
}

}  // namespace engram::engine
