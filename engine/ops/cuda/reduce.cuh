// Sums over the threads of a warp or a block, and maxima. The order of additions depends on the
// number of threads alone.
#pragma once

#include <cuda_runtime.h>

#include "engine/ops/cuda/shared_memory.cuh"

namespace engram::engine::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// For every lane. REQUIRES: all 32 lanes call it.
__device__ inline float warp_sum(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

// The same; NaN is passed over.
__device__ inline float warp_max(float value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, lanes));
  }
  return value;
}

// For every thread. REQUIRES: all threads call it, whole warps. Name: a type of its own for each
// call of a kernel, whose sums must not meet; where a call is repeated, a barrier lies between.
template <typename Name>
__device__ float block_sum(float value) {
  float(&sums)[32] = shared<float[32], Name>();
  const unsigned warps = blockDim.x / 32;
  value = warp_sum(value);
  if (warps == 1) return value;
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.f;
  for (unsigned warp = 0; warp < warps; ++warp) total += sums[warp];
  return total;
}

}  // namespace engram::engine::cuda
