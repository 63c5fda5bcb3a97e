// Rotary position embedding and the writing of keys and values to their pages.
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/values.cuh"
#include "engine/ops/op_args.h"

namespace engram::engine::cuda {
namespace {

using memory::Type;

__global__ void rope_angles_kernel(
    const int32_t* positions, const View frequencies, double scale, const View angles) {
  wait_for_turn();
  const int64_t half = frequencies.cols;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= angles.rows * half) return;
  const int64_t token = index / half;
  const int64_t i = index % half;
  const double angle = positions[token] * frequencies.as<double>()[i];
  float* row = angles.row<float>(token);
  row[i] = static_cast<float>(scale * cos(angle));
  row[half + i] = static_cast<float>(scale * sin(angle));
}

constexpr int kWarps = 4;  // of a block, a head each

// A lane's elements lane + 32 i of each half of a head; zeros behind them.
constexpr int kPairs = kMaxHeadDim / 64;
struct HeadPart {
  float low[kPairs];
  float high[kPairs];
};

template <typename T>
__device__ HeadPart load_head(const T* from, int half) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  HeadPart head;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int c = lane + 32 * i;
    head.low[i] = c < half ? widen(from[c]) : 0.f;
    head.high[i] = c < half ? widen(from[half + c]) : 0.f;
  }
  return head;
}

// A head, by one warp: normalised if weight is not null, its halves rotated against each other.
__device__ inline void rotate(
    const float* weight, float eps, const float* angles, int half, HeadPart& head) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float scale = 1.f;
  if (weight != nullptr) {
    float squares = 0.f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      squares += head.low[i] * head.low[i] + head.high[i] * head.high[i];
    }
    scale = 1.f / sqrtf(warp_sum(squares) / static_cast<float>(2 * half) + eps);
  }
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int c = lane + 32 * i;
    if (c >= half) continue;
    float a = head.low[i];
    float b = head.high[i];
    if (weight != nullptr) {
      a = a * scale * weight[c];
      b = b * scale * weight[half + c];
    }
    head.low[i] = a * angles[c] - b * angles[half + c];
    head.high[i] = a * angles[half + c] + b * angles[c];
  }
}

// Rounded once. A lane writes what it holds, so `to` may be where the head came from.
template <typename To>
__device__ void store_head(const HeadPart& head, float factor, int half, To* to) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int c = lane + 32 * i;
    if (c >= half) continue;
    to[c] = narrow<To>(head.low[i] * factor);
    to[half + c] = narrow<To>(head.high[i] * factor);
  }
}

// To codes and their scale, see KvLayer; by one warp.
__device__ inline void store_codes(const HeadPart& head, int half, E4m3* to, uint8_t* scale) {
  float most = 0.f;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const float one = fabsf(head.low[i]) < INFINITY ? fabsf(head.low[i]) : INFINITY;
    const float other = fabsf(head.high[i]) < INFINITY ? fabsf(head.high[i]) : INFINITY;
    most = fmaxf(most, fmaxf(one, other));
  }
  most = warp_max(most);
  const bool finite = most < INFINITY;
  const uint32_t code = finite ? memory::e8m0_scale_of(__float_as_uint(most)) : 255u;
  if (threadIdx.x % 32 == 0) *scale = static_cast<uint8_t>(code);
  // 2^(127 - code); no finite number has a scale above 2^120.
  store_head(head, finite ? __uint_as_float((254u - code) << 23) : NAN, half, to);
}

// Row `row` of the keys or values.
template <typename C>
__device__ void append_head(
    const HeadPart& head, int half, int64_t row, void* to, [[maybe_unused]] uint8_t* scales) {
  C* const at = static_cast<C*>(to) + row * 2 * half;
  if constexpr (sizeof(C) == 1) {
    store_codes(head, half, at, scales + row);
  } else {
    store_head(head, 1.f, half, at);
  }
}

// Blocks (heads / kWarps, token): query heads, key heads, value heads.
template <typename T, typename C>
__global__ void rope_append_kernel(const RopeAppend a) {
  wait_for_turn();
  const int half = a.kv.head_dim / 2;
  const int64_t kv_heads = a.kv.kv_heads;
  const int64_t heads = a.qkv.cols / a.kv.head_dim;
  const int64_t q_heads = heads - 2 * kv_heads;
  const int64_t head = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (head >= heads) return;
  for (int64_t t = blockIdx.y; t < a.qkv.rows; t += gridDim.y) {
    T* const from = a.qkv.row<T>(t) + head * a.kv.head_dim;
    const float* angles = a.angles.row<float>(t);
    HeadPart part = load_head(from, half);
    if (head < q_heads) {
      rotate(a.q_norm.as<float>(), a.eps, angles, half, part);
      store_head(part, 1.f, half, from);
      continue;
    }
    const int64_t page = a.slots[t] / a.kv.page_tokens;
    const int64_t offset = a.slots[t] % a.kv.page_tokens;
    const int64_t kv_head = (head - q_heads) % kv_heads;
    const int64_t row = (page * kv_heads + kv_head) * a.kv.page_tokens + offset;
    if (head < q_heads + kv_heads) {
      rotate(a.k_norm.as<float>(), a.eps, angles, half, part);
      append_head<C>(part, half, row, a.kv.keys, a.kv.key_scales);
    } else {
      append_head<C>(part, half, row, a.kv.values, a.kv.value_scales);
    }
  }
}

}  // namespace

void CudaOps::do_rope_angles(
    Stream& stream, const Batch& batch, View frequencies, double scale, View angles) {
  constexpr int kThreads = 128;
  const int64_t count = angles.rows * frequencies.cols;
  launch(
      rope_angles_kernel,
      {.blocks = dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)),
       .threads = kThreads,
       .stream = memory::native_stream(stream)},
      batch.positions, frequencies, scale, angles);
}

void CudaOps::do_rope_append(
    Stream& stream,
    const Batch& batch,
    View qkv,
    View q_norm,
    View k_norm,
    float eps,
    View angles,
    const KvLayer& kv) {
  const RopeAppend args{batch.slots, qkv, q_norm, k_norm, eps, angles, kv};
  const int64_t heads = qkv.cols / kv.head_dim;
  with_cache_types(qkv.dtype, kv.dtype, [&]<typename T, typename C>(Type<T>, Type<C>) {
    launch(
        rope_append_kernel<T, C>,
        {.blocks = dim3(static_cast<unsigned>((heads + kWarps - 1) / kWarps), grid_rows(qkv.rows)),
         .threads = 32 * kWarps,
         .stream = memory::native_stream(stream)},
        args);
  });
}

}  // namespace engram::engine::cuda
