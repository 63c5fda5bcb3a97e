// Rotary position embedding and the writing of keys and values to their pages.
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/values.cuh"
#include "engine/ops/op_args.h"

namespace engram::engine::cuda {
namespace {

using memory::Type;
using memory::with_activation_type;

__global__ void rope_angles_kernel(
    const int32_t* positions, const View frequencies, double scale, const View angles) {
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

// A head, by one warp: normalised if weight is not null, its halves rotated against each other,
// rounded once. A lane holds what it rotates, so `to` may be `from`.
template <typename T>
__device__ void rotate_head(
    const T* from, const float* weight, float eps, const float* angles, int64_t half, T* to) {
  const int64_t lane = threadIdx.x % 32;
  float scale = 1.f;
  if (weight != nullptr) {
    float squares = 0.f;
    for (int64_t c = lane; c < 2 * half; c += 32) squares += widen(from[c]) * widen(from[c]);
    scale = 1.f / sqrtf(warp_sum(squares) / static_cast<float>(2 * half) + eps);
  }
  for (int64_t c = lane; c < half; c += 32) {
    float a = widen(from[c]);
    float b = widen(from[half + c]);
    if (weight != nullptr) {
      a = a * scale * weight[c];
      b = b * scale * weight[half + c];
    }
    to[c] = narrow<T>(a * angles[c] - b * angles[half + c]);
    to[half + c] = narrow<T>(a * angles[half + c] + b * angles[c]);
  }
}

// Blocks (heads / kWarps, token): query heads, key heads, value heads.
template <typename T>
__global__ void rope_append_kernel(const RopeAppend a) {
  const int64_t width = a.kv.head_dim;
  const int64_t kv_heads = a.kv.kv_heads;
  const int64_t heads = a.qkv.cols / width;
  const int64_t q_heads = heads - 2 * kv_heads;
  const int64_t head = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (head >= heads) return;
  for (int64_t t = blockIdx.y; t < a.qkv.rows; t += gridDim.y) {
    T* from = a.qkv.row<T>(t) + head * width;
    const float* angles = a.angles.row<float>(t);
    if (head < q_heads) {
      rotate_head(from, a.q_norm.as<float>(), a.eps, angles, width / 2, from);
      continue;
    }
    const int64_t page = a.slots[t] / a.kv.page_tokens;
    const int64_t offset = a.slots[t] % a.kv.page_tokens;
    const int64_t kv_head = (head - q_heads) % kv_heads;
    const int64_t at = ((page * kv_heads + kv_head) * a.kv.page_tokens + offset) * width;
    if (head < q_heads + kv_heads) {
      rotate_head(
          from, a.k_norm.as<float>(), a.eps, angles, width / 2, static_cast<T*>(a.kv.keys) + at);
    } else {
      T* to = static_cast<T*>(a.kv.values) + at;
      for (int64_t c = threadIdx.x % 32; c < width; c += 32) to[c] = from[c];
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
  with_activation_type(qkv.dtype, [&]<typename T>(Type<T>) {
    launch(
        rope_append_kernel<T>,
        {.blocks = dim3(static_cast<unsigned>((heads + kWarps - 1) / kWarps), grid_rows(qkv.rows)),
         .threads = 32 * kWarps,
         .stream = memory::native_stream(stream)},
        args);
  });
}

}  // namespace engram::engine::cuda
