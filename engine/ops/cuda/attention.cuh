// What the attention kernels share: their arguments, the split of a token's keys over blocks, and
// the putting together of the parts. Included by the attention .cu files only.
//
// A row is a token's query head; it sees the positions 0 .. positions[t]. The keys that a block's
// rows see are cut into at most `splits` pieces of whole key tiles, by their context, which only
// the GPU knows; blocks of more splits than that return at once. A block leaves for each of its
// rows the weighted values, the largest score and the sum of the weights, and the block that
// arrives last puts these together in the order of the splits: no result depends on which it is.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/shared_memory.cuh"
#include "engine/ops/cuda/values.cuh"
#include "engine/ops/ops.h"

namespace engram::engine::cuda {

constexpr int kKeyTile = 64;           // keys worked on between two barriers
constexpr int kMaxSplits = 64;         // of the keys of a row
constexpr float kLog2E = 1.44269504f;  // softmax is computed in powers of two

// Which sequences of the batch a call is about: how many tokens they have in it.
enum class Tokens : uint8_t { kAny, kOne, kSeveral };

struct Attention {
  Batch batch;
  View q;  // [T, Nq * Dh]
  KvLayer kv;
  float scale = 0.f;
  View out;
  Tokens tokens = Tokens::kAny;
  int splits = 1;
  // With more than one split, [rows, splits, Dh + 2]: the weighted values of a row, its largest
  // score and the sum of its weights. Which row is where is the kernel's choice.
  float* partials = nullptr;
  // With more than one split: how many of the blocks that share rows are done; zero before and
  // after each call.
  unsigned* arrived = nullptr;
};

// How a kernel cuts a call into blocks: tiles of query rows, times kv heads or groups of heads.
struct AttentionGrid {
  int64_t tiles = 0;
  int64_t heads = 0;
  int64_t rows = 0;  // of one such block, at most
};

// On CUDA cores, all that has no faster kernel: any dtypes, head width, page size and number of
// heads; Tokens::kAny only.
AttentionGrid general_attention_grid(const Attention& a);
void launch_general_attention(const Attention& a, cudaStream_t stream);

// On tensor cores: bf16 over a cache of bf16 or e4m3, Dh 64 or 128, views whose pairs of elements
// are 4-byte aligned. `kRows` is 64, or 16 for short rows and long contexts: then the warps of a
// block share the keys.
bool has_tensor_attention(const Attention& a);
template <int kRows>
AttentionGrid tensor_attention_grid(const Attention& a);
template <int kRows>
void launch_tensor_attention(const Attention& a, cudaStream_t stream);

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

// Row [Dh] of a position's key (or value) in the cache.
__device__ inline int64_t cache_row(
    const KvLayer& kv, const int32_t* pages, int kv_head, int position) {
  const int page = position / kv.page_tokens;
  const int offset = position - page * kv.page_tokens;
  return (static_cast<int64_t>(pages[page]) * kv.kv_heads + kv_head) * kv.page_tokens + offset;
}

// What a split leaves of row `row`: the weighted values, the largest score, the sum of the weights.
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

// Puts the parts of a row together and writes it. By a warp.
template <typename T>
__device__ void combine_row(const Attention& a, int64_t row, int splits_used, T* out) {
  constexpr int kColumns = kMaxHeadDim / 32;  // of a lane
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int width = a.kv.head_dim;
  float top = -INFINITY;
  for (int s = lane; s < splits_used; s += 32) top = fmaxf(top, partial_of(a, row, s)[width]);
  top = warp_max(top);
  float sum = 0.f;
  float values[kColumns] = {};
  for (int s = 0; s < splits_used; ++s) {
    const float* part = partial_of(a, row, s);
    const float weight = exp2f(part[width] - top);
    sum += weight * part[width + 1];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      if (lane + 32 * i < width) values[i] += weight * part[lane + 32 * i];
    }
  }
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    if (lane + 32 * i < width) out[lane + 32 * i] = narrow<T>(values[i] / sum);
  }
}

}  // namespace engram::engine::cuda
