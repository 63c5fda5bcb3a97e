// Which kernel computes a linear layer.
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/linear.cuh"

namespace engram::engine::cuda {

void CudaOps::do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) {
  ENGRAM_CHECK(x.rows <= limits_.max_tokens);
  ENGRAM_CHECK(x.cols <= limits_.max_cols);
  ENGRAM_CHECK(w.rows <= limits_.max_rows);
  const Linear l{x, w, bias.as<float>(), y};
  if (x.rows > kFewTokens) return multiply_tiles(stream, l);
  if (skinny_fits(l)) return multiply_skinny(stream, l);
  multiply_few(stream, l);
}

}  // namespace engram::engine::cuda
