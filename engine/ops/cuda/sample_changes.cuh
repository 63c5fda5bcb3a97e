// Bias, banned ids and penalties, written into a row of logits and taken out again. For whole
// blocks, one per row.
//
// The row itself is the table that counts an id's occurrences and finds the first: while an id's
// logit lies in a list, its place in the row holds a mark. Ids outside the vocabulary have no
// effect.
#pragma once

#include <cuda_runtime.h>

#include "engine/ops/cuda/sample_rows.cuh"

namespace engram::engine::cuda {

constexpr uint32_t kMinusInfinity = 0xff800000u;
constexpr uint32_t kPlainNan = 0x7fc00000u;
constexpr uint32_t kInPrompt = 0x80000000u;
// In `pending`: another entry changes this id. In the row: the id is taken. No logit has these
// bits once it is changed, and no count.
constexpr uint32_t kTaken = 0xffffffffu;

__device__ inline int32_t list_ids(const RowParams& p) {
  return p.bias + p.banned + p.prompt + p.generated;
}
__device__ inline bool has_changes(const RowParams& p) {
  return p.bias + p.banned + p.prompt + p.generated > 0;
}

// What to do with the entries [begin, end) of the lists: f(i, place of the id in the row).
struct RowLists {
  uint32_t* row = nullptr;  // logits as bits
  int32_t vocab = 0;
  const int32_t* ids = nullptr;
  uint32_t* saved = nullptr;
  uint32_t* pending = nullptr;

  template <typename F>
  __device__ void each(int32_t begin, int32_t end, const F& f) const {
    for (int32_t i = begin + static_cast<int32_t>(threadIdx.x); i < end;
         i += static_cast<int32_t>(blockDim.x)) {
      if (ids[i] >= 0 && ids[i] < vocab) f(i, row + ids[i]);
    }
  }
  // As each(), then waits for the whole block.
  template <typename F>
  __device__ void step(int32_t begin, int32_t end, const F& f) const {
    each(begin, end, f);
    __syncthreads();
  }
};

__device__ inline RowLists lists_of(const SampleArgs& a, int32_t row) {
  const int32_t first = a.params[row].first_word;
  return {
      reinterpret_cast<uint32_t*>(a.logits + row * a.stride), a.vocab, a.words + first,
      a.saved + first, a.pending + first};
}

__device__ inline uint32_t logit_bits(float logit) {
  return logit == logit ? __float_as_uint(logit) : kPlainNan;
}

// The first entry of each id adds all of the id, in their order.
__device__ inline void apply_bias(const RowLists& lists, int32_t count, const float* bias) {
  lists.step(0, count, [](int32_t, uint32_t* place) { *place = kTaken; });
  lists.step(
      0, count, [](int32_t i, uint32_t* place) { atomicMin(place, static_cast<uint32_t>(i)); });
  lists.step(0, count, [&](int32_t i, const uint32_t* place) {
    lists.pending[i] = kTaken;
    if (*place != static_cast<uint32_t>(i)) return;
    float logit = __uint_as_float(lists.saved[i]);
    for (int32_t k = i; k < count; ++k) {
      if (lists.ids[k] == lists.ids[i]) logit += bias[k];
    }
    lists.pending[i] = logit_bits(logit);
  });
  lists.step(0, count, [&](int32_t i, uint32_t* place) {
    if (lists.pending[i] != kTaken) *place = lists.pending[i];
  });
}

// `seen`: occurrences in the output, and kInPrompt.
__device__ inline float penalised(float logit, uint32_t seen, const RowParams& p) {
  logit = logit > 0.f ? logit / p.repetition_penalty : logit * p.repetition_penalty;
  const uint32_t generated = seen & ~kInPrompt;
  if (generated == 0) return logit;
  // Each rounded, as the CPU does it.
  const float frequent = __fmul_rn(p.frequency_penalty, static_cast<float>(generated));
  return logit - __fadd_rn(frequent, p.presence_penalty);
}

// Entries [begin, middle) are the prompt's, [middle, end) the output's.
__device__ inline void apply_penalties(
    const RowLists& lists, int32_t begin, int32_t middle, int32_t end, const RowParams& p) {
  lists.step(begin, end, [&](int32_t i, const uint32_t* place) { lists.pending[i] = *place; });
  lists.step(begin, end, [](int32_t, uint32_t* place) { *place = 0; });
  lists.each(begin, middle, [](int32_t, uint32_t* place) { atomicOr(place, kInPrompt); });
  lists.step(middle, end, [](int32_t, uint32_t* place) { atomicAdd(place, 1u); });
  lists.step(begin, end, [&](int32_t i, uint32_t* place) {
    const uint32_t seen = atomicExch(place, kTaken);
    const float logit = __uint_as_float(lists.pending[i]);
    lists.pending[i] = seen == kTaken ? kTaken : logit_bits(penalised(logit, seen, p));
  });
  lists.each(begin, end, [&](int32_t i, uint32_t* place) {
    if (lists.pending[i] != kTaken) *place = lists.pending[i];
  });
}

__device__ inline void apply_changes(const SampleArgs& a, int32_t row) {
  const RowParams& p = a.params[row];
  const RowLists lists = lists_of(a, row);
  const int32_t ids = list_ids(p);
  if (p.newest_on_device != 0) {
    if (threadIdx.x == 0) a.words[p.first_word + ids - 1] = a.before[row];
    __syncthreads();
  }
  lists.step(0, ids, [&](int32_t i, const uint32_t* place) { lists.saved[i] = *place; });
  const float* bias = reinterpret_cast<const float*>(lists.ids + ids);
  if (p.bias > 0) apply_bias(lists, p.bias, bias);
  const int32_t prompt = p.bias + p.banned;
  lists.step(p.bias, prompt, [](int32_t, uint32_t* place) { *place = kMinusInfinity; });
  if (prompt < ids) apply_penalties(lists, prompt, prompt + p.prompt, ids, p);
}

// Equal ids were saved with equal logits.
__device__ inline void undo_changes(const SampleArgs& a, int32_t row) {
  const RowLists lists = lists_of(a, row);
  lists.each(
      0, list_ids(a.params[row]), [&](int32_t i, uint32_t* place) { *place = lists.saved[i]; });
}

}  // namespace engram::engine::cuda
