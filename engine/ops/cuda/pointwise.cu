// Ops that treat each element or each row alone: norms, sums, gating, row copies.
#include <algorithm>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/row_access.cuh"
#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

struct Norm {
  View h;  // normalised, after x is added to it
  View x;  // empty: nothing is added
  const float* weight = nullptr;
  float eps = 0.f;
  View y;
};

// A block per row. What a thread read first it keeps for the second pass, up to kKept accesses.
constexpr int kKept = 4;

template <typename T, int N, bool kAdd>
__global__ void norm_kernel(const Norm a) {
  wait_for_turn();
  const int64_t row = blockIdx.x;
  const int64_t cols = a.h.cols;
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * N;
  T* h = a.h.row<T>(row);
  const T* x = a.x.row<T>(row);
  T* y = a.y.row<T>(row);
  const auto sum_of = [&](int64_t c, float* squares) {
    Pack<T, N> values = load_pack<T, N>(h + c);
    if constexpr (kAdd) {
      const Pack<T, N> more = load_pack<T, N>(x + c);
      for (int i = 0; i < N; ++i) values.v[i] = narrow<T>(widen(values.v[i]) + widen(more.v[i]));
      store_pack<T, N>(values, h + c);
    }
    for (int i = 0; i < N; ++i) *squares += widen(values.v[i]) * widen(values.v[i]);
    return values;
  };
  Pack<T, N> kept[kKept];
  float squares = 0.f;
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int64_t c = first + k * step;
    if (c < cols) kept[k] = sum_of(c, &squares);
  }
  for (int64_t c = first + kKept * step; c < cols; c += step) sum_of(c, &squares);
  const float mean = block_sum<struct NormSum>(squares) / static_cast<float>(cols);
  const float scale = 1.f / sqrtf(mean + a.eps);
  const auto write = [&](int64_t c, Pack<T, N> values) {
    for (int i = 0; i < N; ++i) {
      values.v[i] = narrow<T>(widen(values.v[i]) * scale * a.weight[c + i]);
    }
    store_pack<T, N>(values, y + c);
  };
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int64_t c = first + k * step;
    if (c < cols) write(c, kept[k]);
  }
  for (int64_t c = first + kKept * step; c < cols; c += step) write(c, load_pack<T, N>(h + c));
}

template <bool kAdd>
void launch_norm(Stream& stream, const Norm& a) {
  const View second = kAdd ? a.x : a.h;
  const int width = pack_width(a.h.cols, {a.h, second, a.y});
  with_pack(a.h.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    launch(
        norm_kernel<T, N, kAdd>,
        {.blocks = dim3(static_cast<unsigned>(a.h.rows)),
         .threads = threads_of_row(a.h.cols, N),
         .stream = memory::native_stream(stream)},
        a);
  });
}

// Blocks (column part, row).
template <typename T, int N>
__global__ void add_kernel(const View h, const View x) {
  wait_for_turn();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (c >= h.cols) return;
  for (int64_t row = blockIdx.y; row < h.rows; row += gridDim.y) {
    Pack<T, N> sum = load_pack<T, N>(h.row<T>(row) + c);
    const Pack<T, N> more = load_pack<T, N>(x.row<T>(row) + c);
    for (int i = 0; i < N; ++i) sum.v[i] = narrow<T>(widen(sum.v[i]) + widen(more.v[i]));
    store_pack<T, N>(sum, h.row<T>(row) + c);
  }
}

template <typename T, int N>
__global__ void silu_mul_kernel(const View gate_up, const View y) {
  wait_for_turn();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (c >= y.cols) return;
  for (int64_t row = blockIdx.y; row < y.rows; row += gridDim.y) {
    const T* from = gate_up.row<T>(row);
    const Pack<T, N> gate = load_pack<T, N>(from + c);
    const Pack<T, N> up = load_pack<T, N>(from + y.cols + c);
    Pack<T, N> out;
    for (int i = 0; i < N; ++i) {
      const float g = widen(gate.v[i]);
      out.v[i] = narrow<T>(g / (1.f + expf(-g)) * widen(up.v[i]));
    }
    store_pack<T, N>(out, y.row<T>(row) + c);
  }
}

template <typename T, int N>
__global__ void gather_rows_kernel(const View x, const int32_t* rows, const View out) {
  wait_for_turn();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (c >= out.cols) return;
  for (int64_t i = blockIdx.y; i < out.rows; i += gridDim.y) {
    store_pack<T, N>(load_pack<T, N>(x.row<T>(rows[i]) + c), out.row<T>(i) + c);
  }
}

// A grid of (column part, row) for elements of `view` in accesses of `width`.
LaunchConfig grid_of(Stream& stream, View view, int width) {
  const int threads = std::min(threads_of_row(view.cols, width), 256);
  const int64_t parts = (view.cols + int64_t{threads} * width - 1) / (int64_t{threads} * width);
  return {
      .blocks = dim3(static_cast<unsigned>(parts), grid_rows(view.rows)),
      .threads = threads,
      .stream = memory::native_stream(stream)};
}

}  // namespace

void CudaOps::do_rms_norm(Stream& stream, View x, View weight, float eps, View y) {
  launch_norm<false>(stream, {.h = x, .x = {}, .weight = weight.as<float>(), .eps = eps, .y = y});
}

void CudaOps::do_add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y) {
  launch_norm<true>(stream, {.h = h, .x = x, .weight = weight.as<float>(), .eps = eps, .y = y});
}

void CudaOps::do_add(Stream& stream, View h, View x) {
  const int width = pack_width(h.cols, {h, x});
  with_pack(h.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    launch(add_kernel<T, N>, grid_of(stream, h, N), h, x);
  });
}

void CudaOps::do_silu_mul(Stream& stream, View gate_up, View y) {
  const int width = pack_width(y.cols, {y, gate_up});
  with_pack(y.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    launch(silu_mul_kernel<T, N>, grid_of(stream, y, N), gate_up, y);
  });
}

void CudaOps::do_gather_rows(Stream& stream, View x, const int32_t* rows, View out) {
  const int width = pack_width(out.cols, {out, x});
  with_pack(out.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    launch(gather_rows_kernel<T, N>, grid_of(stream, out, N), x, rows, out);
  });
}

}  // namespace engram::engine::cuda
