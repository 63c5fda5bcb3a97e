// Sampling as host and kernels see it: the rows of one batch with their lists packed into words,
// what is kept in device memory meanwhile, and what comes back.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace engram::engine::cuda {

// One row of a SampleRow batch. Its lists are words one after the other from `first_word` on: ids
// of the bias, banned ids, prompt ids, generated ids, then the bias of each. Lists that have no
// effect are left out.
struct RowParams {
  uint64_t seed = 0;
  uint64_t draw_index = 0;
  double min_p_depth = 0.0;  // log(min_p) / sharpness: how far below the top min_p reaches
  float sharpness = 0.f;     // 1 / temperature; 0: the largest logit is taken
  float top_p = 1.f;
  float min_p = 0.f;
  int32_t top_k = 0;
  float repetition_penalty = 1.f;
  float presence_penalty = 0.f;
  float frequency_penalty = 0.f;
  int32_t sample = 0;
  int32_t logprobs = -1;  // -1: none; else so many best ones, at most the vocabulary
  int32_t target = -1;
  int32_t first_best = 0;  // where the best ones go in SampleArgs::best
  int32_t first_word = 0;
  int32_t bias = 0;
  int32_t banned = 0;
  int32_t prompt = 0;
  int32_t generated = 0;
  int32_t newest_on_device = 0;  // the last of `generated` is SampleArgs::before's
};

struct RowResult {
  uint64_t mass = 0;  // sum of exp(logit - top) as an integer, raw; see sample_groups.cuh
  float top = 0.f;    // the largest raw logit
  float logit = 0.f;  // of the id or target, raw
  int32_t id = -1;
  int32_t rank = 0;  // 0: nothing to rank
  int32_t best = 0;  // how many keys of the best were written
  int32_t finite = 0;
};

// Of one batch of n rows. Groups: see sample_groups.cuh.
struct SampleArgs {
  float* logits = nullptr;  // changed by penalties, and changed back
  int64_t stride = 0;
  int32_t rows = 0;                   // n
  int32_t vocab = 0;                  // V
  int32_t groups = 0;                 // of a row
  const RowParams* params = nullptr;  // [n]
  int32_t* words = nullptr;           // one of each row that is newest_on_device is written here
  const int32_t* before = nullptr;    // [n] as SampledIds
  int32_t* now = nullptr;             // [n] as SampledIds
  // The ids' logits before any change, and room to change them in; indexed like the words.
  uint32_t* saved = nullptr;
  uint32_t* pending = nullptr;
  // Largest logit of each group, and the sum of exp(logit - largest) of temperature 1: raw.
  float* raw_tops = nullptr;    // [n, groups]
  float* raw_masses = nullptr;  // [n, groups]
  // The same of the row's temperature. Tops: of rows with changes only, after these.
  float* tops = nullptr;    // [n, groups]
  float* masses = nullptr;  // [n, groups]
  // Host memory.
  RowResult* results = nullptr;  // [n]
  uint64_t* best = nullptr;
};

// The order of logits as integers, and an id below it: keys ascend with the logit and, among equal
// logits, with falling ids. See sample_select.cuh.
inline __device__ __host__ uint32_t logit_bits_of(uint64_t key) {
  const uint32_t order = static_cast<uint32_t>(key >> 32);
  return (order & 0x80000000u) != 0 ? order & 0x7fffffffu : ~order;
}
inline __device__ __host__ int32_t id_of(uint64_t key) {
  return static_cast<int32_t>(~static_cast<uint32_t>(key));
}

}  // namespace engram::engine::cuda
