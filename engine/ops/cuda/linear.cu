// Which kernel computes a linear layer.
#include <algorithm>
#include <utility>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/gemm.h"
#include "engine/ops/cuda/linear.cuh"

namespace engram::engine::cuda {

namespace {

// Room for the weights of a matrix product that are dequantised at a time: enough rows of common
// models to keep all multiprocessors busy. What is beyond the second cache goes to memory and back.
constexpr int64_t kDequantizedBytes = int64_t{64} << 20;
constexpr int64_t kLeastRows = 128;

}  // namespace

memory::Status CudaOps::allocate_linear_scratch() {
  memory::Result<std::unique_ptr<Gemm>> gemm = Gemm::make(device_, limits_);
  ENGRAM_RETURN_IF_ERROR(gemm.status());
  gemm_ = std::move(gemm).value();
  if (!limits_.fp8_weights) return {};
  const int64_t row_bytes = limits_.max_cols * static_cast<int64_t>(sizeof(float));
  memory::Result<memory::Buffer> dequantized = device_.allocate(
      "dequantised weights",
      std::min(std::max(kDequantizedBytes, kLeastRows * row_bytes), limits_.max_rows * row_bytes));
  ENGRAM_RETURN_IF_ERROR(dequantized.status());
  dequantized_ = std::move(dequantized).value();
  return {};
}

// Part by part in the dtype of x. The library's own products of f8_e4m3 would want x in f8_e4m3
// too, which is another result; this one rounds weights to bf16 where x is bf16, and nothing else.
void CudaOps::multiply_dequantized(Stream& stream, const Linear& l) {
  ENGRAM_CHECK(limits_.fp8_weights);
  const int64_t row_bytes = l.w.cols * memory::dtype_bytes(l.x.dtype);
  int64_t step = std::min(dequantized_.bytes() / row_bytes, l.w.rows);
  if (step > kLeastRows) step -= step % kLeastRows;
  for (int64_t first = 0; first < l.w.rows; first += step) {
    const int64_t rows = std::min(step, l.w.rows - first);
    dequantize(stream, l.w, first, rows, l.x.dtype, dequantized_.data());
    Linear part = l;
    part.w = {dequantized_.data(), rows, l.w.cols, l.x.dtype};
    part.bias = l.bias == nullptr ? nullptr : l.bias + first;
    part.y = l.y.col_range(first, rows);
    if (!gemm_->multiply(stream, part)) multiply_tiles(stream, part);
  }
}

void CudaOps::do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) {
  ENGRAM_CHECK(x.rows <= limits_.max_tokens);
  ENGRAM_CHECK(x.cols <= limits_.max_cols);
  ENGRAM_CHECK(w.rows <= limits_.max_rows);
  const Linear l{x, w, bias.as<float>(), y};
  if (w.dtype == DType::kF8E4m3) {
    if (x.rows <= kSkinnyFp8Tokens && skinny_fp8_fits(l)) return multiply_skinny_fp8(stream, l);
    if (x.rows <= kFewTokens) return multiply_few(stream, l);
    return multiply_dequantized(stream, l);
  }
  if (x.rows > kFewTokens) {
    // Weights of another dtype than x could be converted for the library, part by part; models
    // meant for a GPU have both in bf16, so these take the slower and simpler way.
    if (!gemm_->multiply(stream, l)) multiply_tiles(stream, l);
    return;
  }
  if (skinny_fits(l)) return multiply_skinny(stream, l);
  multiply_few(stream, l);
}

}  // namespace engram::engine::cuda
