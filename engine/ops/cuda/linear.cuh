// The kernels of linear layers, one file each; linear.cu chooses. All compute y = x W^T + bias with
// sums in f32, each row of y in an order that does not depend on the others.
#pragma once

#include "engine/ops/cuda/values.cuh"
#include "engine/ops/ops.h"

namespace engram::engine::cuda {

struct Linear {
  View x;                       // [T, K] f32 or bf16
  Matrix w;                     // [N, K]
  const float* bias = nullptr;  // [N]; null: none
  View y;                       // [T, N] f32 or bf16
};

// Whether rows of the view, and its columns in groups of 16 bytes, begin at multiples of 16 bytes.
// A single row is not treated more kindly than many: its bits shall not depend on their number.
inline bool rows_aligned(View view) {
  const int64_t bytes = memory::dtype_bytes(view.dtype);
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.stride * bytes % 16 == 0 &&
         view.cols * bytes % 16 == 0;
}

// Up to kFewTokens rows of x: W is read once, at the speed of memory.
constexpr int64_t kFewTokens = 8;
// On tensor cores, for bf16 W and x with aligned rows.
bool skinny_fits(const Linear& l);
void multiply_skinny(Stream& stream, const Linear& l);
// For all dtypes and addresses, f8_e4m3 included.
void multiply_few(Stream& stream, const Linear& l);

// On tensor cores up to kSkinnyFp8Tokens rows of x, for f8_e4m3 W and bf16 x with aligned rows.
constexpr int64_t kSkinnyFp8Tokens = 32;
bool skinny_fp8_fits(const Linear& l);
void multiply_skinny_fp8(Stream& stream, const Linear& l);

// The rows [first, first + rows) of an f8_e4m3 W in f32 or bf16, to nearest: to[rows, K].
void dequantize(
    Stream& stream, const Matrix& w, int64_t first, int64_t rows, DType dtype, void* to);

// Any number of rows of x, any dtypes but f8_e4m3, any addresses, at the speed of plain f32
// arithmetic.
void multiply_tiles(Stream& stream, const Linear& l);

// The smaller of both.
__device__ inline int64_t at_most(int64_t index, int64_t last) {
  return index < last ? index : last;
}

// The scales of output n of an f8_e4m3 W, one per kScaleCols inputs.
__device__ inline const float* scales_of(const Matrix& w, int64_t n) {
  return w.scales + n / w.scale_rows * ((w.cols + kScaleCols - 1) / kScaleCols);
}

__device__ inline void store_result(const Linear& l, int64_t token, int64_t n, float sum) {
  const float value = l.bias == nullptr ? sum : sum + l.bias[n];
  if (l.y.dtype == memory::DType::kF32) {
    l.y.row<float>(token)[n] = value;
  } else {
    l.y.row<Bf16>(token)[n] = narrow<Bf16>(value);
  }
}

}  // namespace engram::engine::cuda
