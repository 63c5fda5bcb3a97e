// Weights as the GPU keeps them: the checkpoint's rows, one after the other.
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

// Blocks (column part, token). An id outside the table stops the grid, as a bug does elsewhere.
template <typename T, typename Act>
__global__ void embed_kernel(const T* table, int64_t rows, const int32_t* ids, const View out) {
  wait_for_turn();
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t t = blockIdx.y; t < out.rows; t += gridDim.y) {
    const int64_t id = ids[t];
    if (id < 0 || id >= rows) stop_kernel();
    if (c < out.cols) out.row<Act>(t)[c] = narrow<Act>(widen(table[id * out.cols + c]));
  }
}

}  // namespace

int64_t CudaOps::matrix_bytes(DType dtype, int64_t rows, int64_t cols) const {
  return rows * cols * memory::dtype_bytes(dtype);
}

void CudaOps::do_load_rows(const Matrix& matrix, int64_t first, View source) {
  const int64_t bytes = memory::dtype_bytes(matrix.dtype);
  char* to = static_cast<char*>(matrix.data) + first * matrix.cols * bytes;
  const int64_t rows_at_once = source.contiguous() ? source.rows : 1;
  for (int64_t row = 0; row < source.rows; row += rows_at_once) {
    device_.copy(
        *load_stream_, to + row * matrix.cols * bytes,
        source.as<char>() + row * source.stride * bytes, rows_at_once * matrix.cols * bytes);
  }
  load_stream_->synchronize();
}

void CudaOps::do_embed(Stream& stream, const Matrix& table, const Batch& batch, View out) {
  constexpr int kThreads = 128;
  with_weight_type(table.dtype, [&]<typename T>(Type<T>) {
    memory::with_activation_type(out.dtype, [&]<typename Act>(Type<Act>) {
      launch(
          embed_kernel<T, Act>,
          {.blocks = dim3(
               static_cast<unsigned>((out.cols + kThreads - 1) / kThreads), grid_rows(out.rows)),
           .threads = kThreads,
           .stream = memory::native_stream(stream)},
          static_cast<const T*>(table.data), table.rows, batch.ids, out);
    });
  });
}

}  // namespace engram::engine::cuda
