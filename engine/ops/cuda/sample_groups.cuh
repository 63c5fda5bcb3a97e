// A row of logits in groups of neighbouring ids: of each group its largest logit and its mass, so
// that a row is read once and afterwards only where it matters.
//
// Masses are sums of exp((logit - largest) * sharpness). Where they are added up across groups, or
// compared with a drawn number, they are integers: their sums depend on no order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/sample_rows.cuh"
#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {

// Ids of a group: what a warp reads by four accesses of each lane.
constexpr int32_t kGroup = 512;
constexpr int32_t kPacks = 4;
// As many as a config may have. Sums of their integer weights stay within 2^63.
constexpr int64_t kMaxVocab = int64_t{1} << 22;

// A row with what is known of its groups.
struct GroupedRow {
  const float* logits = nullptr;
  const float* tops = nullptr;
  const float* masses = nullptr;
  int32_t vocab = 0;
  int32_t groups = 0;
};

// A weight as an integer, and back. REQUIRES: weight <= kGroup.
__device__ inline uint64_t whole(float weight) {
  return static_cast<uint64_t>(weight * 0x1p41f);
}
__host__ __device__ inline double fraction(uint64_t weight) {
  return static_cast<double>(weight) * 0x1p-41;
}

__device__ inline float weight_of(float logit, float top, float sharpness) {
  return expf((logit - top) * sharpness);
}

__device__ inline bool is_finite(float x) {
  return x - x == 0.f;
}

// For every lane.
__device__ inline uint64_t warp_sum(uint64_t value) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}
// Of this lane and all before it.
__device__ inline uint64_t warp_running_sum(uint64_t value) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const uint64_t before = __shfl_up_sync(kAllLanes, value, static_cast<unsigned>(lanes));
    if (lane >= lanes) value += before;
  }
  return value;
}

// Four neighbours from id `first` on, -inf behind the vocabulary.
__device__ inline Pack<float, 4> load_four(const float* logits, int32_t vocab, int32_t first) {
  const float* from = logits + first;
  if (first + 4 <= vocab && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    return load_pack<float, 4>(from);
  }
  Pack<float, 4> four;
  for (int i = 0; i < 4; ++i) four.v[i] = first + i < vocab ? from[i] : -INFINITY;
  return four;
}
// The first id of the pack that this lane reads of a group.
__device__ inline int32_t pack_id(int32_t group, int32_t pack) {
  return group * kGroup + (pack * 32 + static_cast<int32_t>(threadIdx.x % 32)) * 4;
}

// What one warp finds out about a group. A NaN counts as +inf: neither is a usable row.
// sharpness, second: of which a mass is wanted; 0: not.
struct GroupSums {
  float top = 0.f;
  float mass = 0.f;
  float second = 0.f;
};
__device__ inline GroupSums scan_group(
    const float* logits, int32_t vocab, int32_t group, float sharpness, float second) {
  Pack<float, 4> packs[kPacks];
#pragma unroll
  for (int32_t i = 0; i < kPacks; ++i) packs[i] = load_four(logits, vocab, pack_id(group, i));
  GroupSums sums;
  float top = -INFINITY;
#pragma unroll
  for (int32_t i = 0; i < kPacks; ++i) {
    for (const float x : packs[i].v) top = fmaxf(top, x == x ? x : INFINITY);
  }
  sums.top = warp_max(top);
  if (!is_finite(sums.top)) return sums;
  const auto mass_of = [&](float factor) {
    float mass = 0.f;
#pragma unroll
    for (int32_t i = 0; i < kPacks; ++i) {
      for (const float x : packs[i].v) mass += weight_of(x, sums.top, factor);
    }
    return warp_sum(mass);
  };
  if (sharpness > 0.f) sums.mass = mass_of(sharpness);
  if (second > 0.f) sums.second = mass_of(second);
  return sums;
}

// What follows is for whole warps; every lane gets the result.

__device__ inline float top_of_groups(const float* tops, int32_t groups) {
  float top = -INFINITY;
  for (int32_t g = static_cast<int32_t>(threadIdx.x % 32); g < groups; g += 32) {
    top = fmaxf(top, tops[g]);
  }
  return warp_max(top);
}

// A group's mass in weights of the row's largest logit.
__device__ inline uint64_t group_mass(
    const GroupedRow& row, int32_t group, float top, float sharpness) {
  return whole(row.masses[group] * weight_of(row.tops[group], top, sharpness));
}
__device__ inline uint64_t mass_of_groups(const GroupedRow& row, float top, float sharpness) {
  uint64_t mass = 0;
  for (int32_t g = static_cast<int32_t>(threadIdx.x % 32); g < row.groups; g += 32) {
    mass += group_mass(row, g, top, sharpness);
  }
  return warp_sum(mass);
}

// The first index at which the running sum of weight(0), weight(1)... exceeds `target`, and what
// is left of the target before it.  REQUIRES: the sum of all `count` does.
struct Picked {
  int32_t index = 0;
  uint64_t rest = 0;
};
template <typename Weight>
__device__ Picked pick(int32_t count, uint64_t target, const Weight& weight) {
  const int32_t run = (count + 31) / 32;
  const int32_t first = min(static_cast<int32_t>(threadIdx.x % 32) * run, count);
  const int32_t end = min(first + run, count);
  uint64_t sum = 0;
  for (int32_t i = first; i < end; ++i) sum += weight(i);
  const uint64_t before = warp_running_sum(sum) - sum;
  const bool here = target >= before && target - before < sum;
  Picked picked{first, target - before};
  if (here) {
    for (; picked.index + 1 < end; ++picked.index) {
      const uint64_t next = weight(picked.index);
      if (picked.rest < next) break;
      picked.rest -= next;
    }
  }
  const int owner = __ffs(static_cast<int>(__ballot_sync(kAllLanes, here))) - 1;
  picked.index = __shfl_sync(kAllLanes, picked.index, owner);
  picked.rest = __shfl_sync(kAllLanes, picked.rest, owner);
  return picked;
}

// The lowest id that has the largest logit.
__device__ inline int32_t first_best(const GroupedRow& row, float top) {
  const int32_t group =
      pick(row.groups, 0, [&](int32_t g) { return uint64_t{row.tops[g] == top}; }).index;
  const int32_t first = group * kGroup;
  const float* logits = row.logits + first;
  const int32_t count = min(kGroup, row.vocab - first);
  return first + pick(count, 0, [&](int32_t i) { return uint64_t{logits[i] == top}; }).index;
}

}  // namespace engram::engine::cuda
