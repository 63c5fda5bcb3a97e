// The Engram ops: the gate between memory and stream, and the short causal convolution.
#include <algorithm>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/row_access.cuh"
#include "engine/ops/cuda/values.cuh"
#include "engine/ops/op_args.h"

namespace engram::engine::cuda {
namespace {

using memory::Type;

// sigmoid(sign(s) sqrt(max(|s|, 1e-6))), 0.5 at s = 0. NaN stays NaN.
__device__ float gate_of(double s) {
  if (s == 0.0) return 0.5f;
  const double size = s < 0.0 ? -s : s;
  const double root = sqrt(size < 1e-6 ? 1e-6 : size);
  return static_cast<float>(1.0 / (1.0 + exp(s < 0.0 ? root : -root)));
}

// Blocks (residual stream, token).
template <typename T, int N>
__global__ void engram_gate_kernel(const EngramGate a) {
  wait_for_turn();
  const int64_t cols = a.value.cols;
  const int64_t stream = blockIdx.x;
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * N;
  const float* key_norm = a.key_norm.row<float>(stream);
  const float* query_norm = a.query_norm.row<float>(stream);
  float& gate = shared<float, struct GateOfToken>();
  for (int64_t t = blockIdx.y; t < a.u.rows; t += gridDim.y) {
    const T* key = a.key.row<T>(t) + stream * cols;
    T* h = a.h.row<T>(t) + stream * cols;
    const T* pending = a.pending.data == nullptr ? nullptr : a.pending.row<T>(t) + stream * cols;
    float dot = 0.f;
    float key_squares = 0.f;
    float h_squares = 0.f;
    for (int64_t c = first; c < cols; c += step) {
      const Pack<T, N> keys = load_pack<T, N>(key + c);
      Pack<T, N> queries = load_pack<T, N>(h + c);
      if (pending != nullptr) {
        const Pack<T, N> more = load_pack<T, N>(pending + c);
        for (int i = 0; i < N; ++i) {
          queries.v[i] = narrow<T>(widen(queries.v[i]) + widen(more.v[i]));
        }
        store_pack<T, N>(queries, h + c);
      }
      for (int i = 0; i < N; ++i) {
        const float k = widen(keys.v[i]);
        const float q = widen(queries.v[i]);
        key_squares += k * k;
        h_squares += q * q;
        dot += k * q * (key_norm[c + i] * query_norm[c + i]);
      }
    }
    dot = block_sum<struct GateDot>(dot);
    key_squares = block_sum<struct GateKeySquares>(key_squares);
    h_squares = block_sum<struct GateQuerySquares>(h_squares);
    if (threadIdx.x == 0) {
      const double width = static_cast<double>(cols);
      const double key_mean = key_squares / width + a.eps;
      const double h_mean = h_squares / width + a.eps;
      gate = gate_of(dot / (sqrt(key_mean) * sqrt(h_mean) * sqrt(width)));
      a.gates.row<float>(t)[stream] = gate;
    }
    __syncthreads();
    const float scale = gate;
    const T* value = a.value.row<T>(t);
    T* u = a.u.row<T>(t) + stream * cols;
    for (int64_t c = first; c < cols; c += step) {
      Pack<T, N> out = load_pack<T, N>(value + c);
      for (int i = 0; i < N; ++i) out.v[i] = narrow<T>(widen(out.v[i]) * scale);
      store_pack<T, N>(out, u + c);
    }
  }
}

// The cache row `back` positions before token t, null before position 0.
template <typename T>
__device__ const T* conv_row(const ShortConv& a, int64_t t, int64_t back) {
  const int64_t position = a.batch.positions[t] - back;
  if (position < 0) return nullptr;
  const int32_t* pages = a.batch.page_table + a.batch.sequence_of[t] * a.batch.max_pages;
  const int64_t page = pages[position / a.layer.page_tokens];
  const int64_t slot = page * a.layer.page_tokens + position % a.layer.page_tokens;
  return static_cast<const T*>(a.layer.inputs) + slot * a.layer.width;
}

// y of the taps [0, count) of the columns [c, c + N), in ascending order.
template <typename T, int N>
__device__ Pack<float, N> sum_of_taps(const ShortConv& a, int64_t t, int64_t c, int64_t count) {
  Pack<float, N> y{};
  for (int64_t tap = 0; tap < count; ++tap) {
    const T* row = conv_row<T>(a, t, (a.conv.cols - 1 - tap) * a.dilation);
    if (row == nullptr) continue;
    const Pack<T, N> q = load_pack<T, N>(row + c);
    for (int i = 0; i < N; ++i) y.v[i] += a.conv.row<float>(c + i)[tap] * widen(q.v[i]);
  }
  return y;
}

// h += u + silu(y)
template <typename T, int N>
__device__ void add_convolved(
    const ShortConv& a, int64_t t, int64_t c, const Pack<T, N>& u, const Pack<float, N>& y) {
  Pack<T, N> h = load_pack<T, N>(a.h.row<T>(t) + c);
  for (int i = 0; i < N; ++i) {
    const float silu = y.v[i] / (1.f + expf(-y.v[i]));
    h.v[i] = narrow<T>(widen(h.v[i]) + (widen(u.v[i]) + silu));
  }
  store_pack<T, N>(h, a.h.row<T>(t) + c);
}

// q of every token to its cache slot. Blocks (residual stream, token).
// kAlone: no two tokens are of one sequence, so that a token's taps but the last were written by
// earlier steps, and the convolution is done at once.
template <typename T, int N, bool kAlone>
__global__ void conv_inputs_kernel(const ShortConv a) {
  wait_for_turn();
  const int64_t cols = a.norm.cols;
  const int64_t at = blockIdx.x * cols;
  const int64_t step = static_cast<int64_t>(blockDim.x) * N;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * N;
  const float* weight = a.norm.row<float>(blockIdx.x);
  for (int64_t t = blockIdx.y; t < a.u.rows; t += gridDim.y) {
    const T* u = a.u.row<T>(t) + at;
    float squares = 0.f;
    for (int64_t c = first; c < cols; c += step) {
      const Pack<T, N> in = load_pack<T, N>(u + c);
      for (int i = 0; i < N; ++i) squares += widen(in.v[i]) * widen(in.v[i]);
    }
    const float mean = block_sum<struct ConvSquares>(squares) / static_cast<float>(cols);
    const float scale = 1.f / sqrtf(mean + a.eps);
    T* to = static_cast<T*>(a.layer.inputs) + a.batch.slots[t] * a.layer.width + at;
    for (int64_t c = first; c < cols; c += step) {
      const Pack<T, N> in = load_pack<T, N>(u + c);
      Pack<T, N> q = in;
      for (int i = 0; i < N; ++i) q.v[i] = narrow<T>(widen(q.v[i]) * scale * weight[c + i]);
      store_pack<T, N>(q, to + c);
      if constexpr (kAlone) {
        const int64_t last = a.conv.cols - 1;
        Pack<float, N> y = sum_of_taps<T, N>(a, t, at + c, last);
        for (int i = 0; i < N; ++i) y.v[i] += a.conv.row<float>(at + c + i)[last] * widen(q.v[i]);
        add_convolved<T, N>(a, t, at + c, in, y);
      }
    }
    __syncthreads();  // the next round's sums
  }
}

// The convolution of tokens whose inputs are all in the cache. Blocks (column part, token).
template <typename T, int N>
__global__ void conv_taps_kernel(const ShortConv a) {
  wait_for_turn();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (c >= a.layer.width) return;
  for (int64_t t = blockIdx.y; t < a.u.rows; t += gridDim.y) {
    const Pack<T, N> u = load_pack<T, N>(a.u.row<T>(t) + c);
    add_convolved<T, N>(a, t, c, u, sum_of_taps<T, N>(a, t, c, a.conv.cols));
  }
}

}  // namespace

void CudaOps::do_engram_gate(
    Stream& stream,
    View key,
    View value,
    View h,
    View pending,
    View key_norm,
    View query_norm,
    float eps,
    View gates,
    View u) {
  const EngramGate args{key, value, h, pending, key_norm, query_norm, eps, gates, u};
  const int width = pack_width(value.cols, {key, value, h, pending, u});
  with_pack(u.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    launch(
        engram_gate_kernel<T, N>,
        {.blocks = dim3(static_cast<unsigned>(gates.cols), grid_rows(u.rows)),
         .threads = threads_of_row(value.cols, N),
         .stream = memory::native_stream(stream)},
        args);
  });
}

void CudaOps::do_short_conv(
    Stream& stream,
    const Batch& batch,
    View u,
    View norm,
    float eps,
    View conv,
    int dilation,
    const ConvLayer& layer,
    View h) {
  const ShortConv args{batch, u, norm, eps, conv, dilation, layer, h};
  const View inputs = memory::make_view(layer.inputs, layer.dtype, 2, layer.width);
  const int width = pack_width(norm.cols, {u, h, inputs});
  with_pack(u.dtype, width, [&]<typename T, int N>(Type<T>, std::integral_constant<int, N>) {
    const bool alone = batch.tokens == batch.sequences;
    launch(
        alone ? conv_inputs_kernel<T, N, true> : conv_inputs_kernel<T, N, false>,
        {.blocks = dim3(static_cast<unsigned>(norm.rows), grid_rows(u.rows)),
         .threads = threads_of_row(norm.cols, N),
         .stream = memory::native_stream(stream)},
        args);
    if (alone) return;
    const int threads = std::min(threads_of_row(layer.width, N), 128);
    const int64_t part = int64_t{threads} * N;
    launch(
        conv_taps_kernel<T, N>,
        {.blocks = dim3(static_cast<unsigned>((layer.width + part - 1) / part), grid_rows(u.rows)),
         .threads = threads,
         .stream = memory::native_stream(stream)},
        args);
  });
}

}  // namespace engram::engine::cuda
