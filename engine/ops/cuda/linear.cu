// Which kernel computes a linear layer.
#include <utility>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/gemm.h"
#include "engine/ops/cuda/linear.cuh"

namespace engram::engine::cuda {

memory::Status CudaOps::allocate_linear_scratch() {
  memory::Result<std::unique_ptr<Gemm>> gemm = Gemm::make(device_, limits_);
  ENGRAM_RETURN_IF_ERROR(gemm.status());
  gemm_ = std::move(gemm).value();
  return {};
}

void CudaOps::do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) {
  ENGRAM_CHECK(x.rows <= limits_.max_tokens);
  ENGRAM_CHECK(x.cols <= limits_.max_cols);
  ENGRAM_CHECK(w.rows <= limits_.max_rows);
  const Linear l{x, w, bias.as<float>(), y};
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
