// Weights in f8_e4m3 as the library of matrix products takes them.
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/linear.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

constexpr int kThreads = 128;

// Blocks (part of K, row). A thread takes kCount codes, which share a scale.
template <typename T, int kCount>
__global__ void dequantize_kernel(const Matrix w, int64_t first, int64_t rows, T* to) {
  wait_for_turn();
  const int64_t k = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCount;
  if (k >= w.cols) return;
  const uint8_t* codes = static_cast<const uint8_t*>(w.data);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const float scale = scales_of(w, first + row)[k / kScaleCols];
    const uint8_t* from = codes + (first + row) * w.cols + k;
    T* out = to + row * w.cols + k;
    if constexpr (kCount == 4) {
      const Pack<float, 4> four = widen_codes(*reinterpret_cast<const uint32_t*>(from));
      Pack<T, 4> scaled;
#pragma unroll
      for (int i = 0; i < 4; ++i) scaled.v[i] = narrow<T>(four.v[i] * scale);
      store_pack(scaled, out);
    } else {
      *out = narrow<T>(widen_codes(*from).v[0] * scale);
    }
  }
}

}  // namespace

void dequantize(
    Stream& stream, const Matrix& w, int64_t first, int64_t rows, DType dtype, void* to) {
  const bool wide = w.cols % 4 == 0 && reinterpret_cast<uintptr_t>(w.data) % 4 == 0;
  const int64_t threads = wide ? w.cols / 4 : w.cols;
  memory::with_activation_type(dtype, [&]<typename T>(Type<T>) {
    launch(
        wide ? dequantize_kernel<T, 4> : dequantize_kernel<T, 1>,
        {.blocks =
             dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads), grid_rows(rows)),
         .threads = kThreads,
         .stream = memory::native_stream(stream)},
        w, first, rows, static_cast<T*>(to));
  });
}

}  // namespace engram::engine::cuda
