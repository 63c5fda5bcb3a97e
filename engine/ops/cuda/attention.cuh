// What the attention kernels share: their arguments, the split of a token's keys over blocks, and
// the putting together of the parts. Included by the attention .cu files only.
//
// A token sees the positions 0 .. positions[t]. These keys are cut into at most `splits` pieces of
// whole key tiles, by the token's own context, so that blocks beyond it return at once. A block
// leaves for each of its rows the largest score, the sum of the weights and the weighted values,
// and the last block of a token puts them together, in the order of the splits: no result depends
// on which block is last.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/ops/cuda/shared_memory.cuh"
#include "engine/ops/cuda/values.cuh"
#include "engine/ops/ops.h"

namespace engram::engine::cuda {

constexpr int kKeyTile = 64;           // keys worked on between two barriers
constexpr int kMaxSplits = kKeyTile;   // of a token's keys
constexpr float kLog2E = 1.44269504f;  // softmax is computed in powers of two

struct Attention {
  Batch batch;
  View q;  // [T, Nq * Dh]
  KvLayer kv;
  float scale = 0.f;
  View out;
  int splits = 1;
  // With more than one split: [T * Nq, splits, Dh + 2], the weighted values, the largest score and
  // the sum of the weights.
  float* partials = nullptr;
  // With more than one split: how many blocks of a token and head group are done; zero before and
  // after each call.
  unsigned* arrived = nullptr;
};

// Decode, and all that has no faster kernel: any dtype, head width, page size and number of heads.
void launch_attention_general(const Attention& a, cudaStream_t stream);
// Query heads that one block of that kernel works on; those of a kv head fill whole blocks.
int64_t general_attention_heads(int64_t heads_per_kv_head);

__device__ inline int at_most(int limit, int value) {
  return value < limit ? value : limit;
}

// Keys [begin, end) of one split. Empty beyond the context.
struct KeyRange {
  int begin;
  int end;
};

__device__ inline int keys_per_split(int context, int splits) {
  const int tiles = (context + kKeyTile - 1) / kKeyTile;
  return (tiles + splits - 1) / splits * kKeyTile;
}

// Splits that have a key, of those there are.
__device__ inline int splits_in_use(int context, int splits) {
  const int keys = keys_per_split(context, splits);
  return (context + keys - 1) / keys;
}

__device__ inline KeyRange keys_of_split(int context, int splits, int split) {
  const int keys = keys_per_split(context, splits);
  const int begin = split * keys;
  return {begin, at_most(context, begin + keys)};
}

// First element of a position's key (or value) in the cache.
__device__ inline int64_t cache_offset(
    const KvLayer& kv, const int32_t* pages, int kv_head, int position) {
  const int page = position / kv.page_tokens;
  const int offset = position - page * kv.page_tokens;
  return ((static_cast<int64_t>(pages[page]) * kv.kv_heads + kv_head) * kv.page_tokens + offset) *
         kv.head_dim;
}

__device__ inline float* partial_of(const Attention& a, int64_t row, int split) {
  return a.partials + (row * a.splits + split) * (a.kv.head_dim + 2);
}

// True in every thread of the block that is the last of the `blocks` that share *arrived: what the
// others wrote before is then visible. REQUIRES: all threads of the block call it.
__device__ inline bool last_to_arrive(unsigned* arrived, unsigned blocks) {
  unsigned& before = shared<unsigned, struct ArrivedBefore>();
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    before = atomicAdd(arrived, 1u);
    if (before == blocks - 1) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return before == blocks - 1;
}

// Writes the finished row from its parts. `row` is token * Nq + head. By the threads of a block;
// weights: shared memory for kMaxSplits values that no thread needs any more.
template <typename T>
__device__ void combine_row(
    const Attention& a, int64_t row, int splits_used, float* weights, T* out) {
  const int width = a.kv.head_dim;
  float top = -INFINITY;
  for (int s = 0; s < splits_used; ++s) top = fmaxf(top, partial_of(a, row, s)[width]);
  __syncthreads();
  for (int s = static_cast<int>(threadIdx.x); s < splits_used; s += static_cast<int>(blockDim.x)) {
    weights[s] = exp2f(partial_of(a, row, s)[width] - top);
  }
  __syncthreads();
  float sum = 0.f;
  for (int s = 0; s < splits_used; ++s) sum += weights[s] * partial_of(a, row, s)[width + 1];
  for (int c = static_cast<int>(threadIdx.x); c < width; c += static_cast<int>(blockDim.x)) {
    float value = 0.f;
    for (int s = 0; s < splits_used; ++s) value += weights[s] * partial_of(a, row, s)[c];
    out[c] = narrow<T>(value / sum);
  }
}

}  // namespace engram::engine::cuda
