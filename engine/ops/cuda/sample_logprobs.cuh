// Log-probabilities: what a row's raw logits say of an id, and its best. For whole blocks.
#pragma once

#include "engine/ops/cuda/sample_select.cuh"

namespace engram::engine::cuda {

// 1 + how many logits are strictly larger.
__device__ inline int32_t rank_of(const GroupedRow& row, float logit) {
  uint64_t above = 0;
  const Candidates candidates{row, logit, nullptr, 0};
  candidates.each_of_groups([&](uint64_t key) { above += key > most_key(logit) ? 1 : 0; });
  return static_cast<int32_t>(1 + block_total<struct Above>(above));
}

// Writes the keys of the `wanted` best, best first unless the candidates are too many for a list.
// REQUIRES: 1 <= wanted <= vocab.
__device__ inline void write_best(
    const GroupedRow& row, float top, int32_t wanted, uint64_t* best) {
  const Candidates candidates = collect_best(row, top, 1.f, -INFINITY, wanted);
  const uint64_t cut = cut_at_count(candidates, top, wanted);
  int32_t& written = shared<int32_t, struct WrittenBest>();
  if (threadIdx.x == 0) written = 0;
  __syncthreads();
  candidates.each([&](uint64_t key) {
    if (key < cut) return;
    int32_t place = 0;
    if (candidates.list == nullptr) {
      place = atomicAdd(&written, 1);
    } else {
      for (int32_t i = 0; i < candidates.count; ++i) place += candidates.list[i] > key ? 1 : 0;
    }
    best[place] = key;
  });
}

// `top` is the row's largest logit and finite, `masses` are those of temperature 1.
__device__ inline void find_logprobs(
    const GroupedRow& row, float top, const RowParams& p, uint64_t* best, RowResult* result) {
  result->top = top;
  result->mass = mass_of_groups(row, top, 1.f);
  const int32_t id = p.sample != 0 ? result->id : p.target;
  if (id >= 0 && id < row.vocab) {
    result->logit = row.logits[id];
    result->rank = rank_of(row, result->logit);
  }
  result->best = p.logprobs;
  if (p.logprobs > 0) write_best(row, top, p.logprobs, best + p.first_best);
}

}  // namespace engram::engine::cuda
