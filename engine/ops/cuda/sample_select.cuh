// Where the best of a row end, without a sort: candidates are ordered by integer keys, and a search
// over the keys' digits finds the one at which a running sum of counts or weights reaches a bound.
// All sums are of integers, so the result depends on no order of threads.
//
// For whole blocks: all threads call with the same arguments and get the same result.
#pragma once

#include "engine/ops/cuda/sample_groups.cuh"

namespace engram::engine::cuda {

// Keys ascend with the logit and, among equal ones, with falling ids: no two are equal, and the
// best is the largest. Both zeros are one number.
__device__ inline uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x == 0.f ? 0.f : x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t key_of(float logit, int32_t id) {
  return static_cast<uint64_t>(ordered(logit)) << 32 | ~static_cast<uint32_t>(id);
}
__device__ inline float logit_of(uint64_t key) {
  return __uint_as_float(logit_bits_of(key));
}
// The keys of a logit: least and most.
__device__ inline uint64_t least_key(float logit) {
  return static_cast<uint64_t>(ordered(logit)) << 32;
}
__device__ inline uint64_t most_key(float logit) {
  return least_key(logit) | 0xffffffffu;
}

// For every thread. Name: as for block_sum().
template <typename Name>
__device__ uint64_t block_total(uint64_t value) {
  uint64_t(&sums)[32] = shared<uint64_t[32], Name>();
  value = warp_sum(value);
  __syncthreads();  // of an earlier call, the sums are read
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  uint64_t total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
  return total;
}

// The keys of a row at or above a limit: in shared memory if they fit, else read again and again
// from the groups that hold them.
constexpr int32_t kListed = 4096;

struct Candidates {
  GroupedRow row;
  float limit = 0.f;
  const uint64_t* list = nullptr;  // null: too many
  int32_t count = 0;               // of the list

  // Calls visit(key) for those of this thread: together all, each once.
  template <typename Visit>
  __device__ void each(const Visit& visit) const {
    if (list == nullptr) return each_of_groups(visit);
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < count;
         i += static_cast<int32_t>(blockDim.x)) {
      visit(list[i]);
    }
  }
  template <typename Visit>
  __device__ void each_of_groups(const Visit& visit) const {
    const int32_t warps = static_cast<int32_t>(blockDim.x / 32);
    for (int32_t g = static_cast<int32_t>(threadIdx.x / 32); g < row.groups; g += warps) {
      if (row.tops[g] < limit) continue;
#pragma unroll 1
      for (int32_t i = 0; i < kPacks; ++i) {
        const int32_t id = pack_id(g, i);
        const Pack<float, 4> four = load_four(row.logits, row.vocab, id);
#pragma unroll
        for (int32_t k = 0; k < 4; ++k) {
          if (four.v[k] >= limit && id + k < row.vocab) visit(key_of(four.v[k], id + k));
        }
      }
    }
  }
};

__device__ inline Candidates collect(const GroupedRow& row, float limit) {
  uint64_t(&list)[kListed] = shared<uint64_t[kListed], struct CandidateList>();
  int32_t& count = shared<int32_t, struct CandidateCount>();
  __syncthreads();  // the list before this one is not needed any more
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  Candidates candidates{row, limit, nullptr, 0};
  candidates.each_of_groups([&](uint64_t key) {
    // Once it is full, nobody wants the list or its count.
    if (*static_cast<volatile int32_t*>(&count) >= kListed + 1) return;
    const int32_t place = atomicAdd(&count, 1);
    if (place < kListed) list[place] = key;
  });
  __syncthreads();
  if (count <= kListed) {
    candidates.list = list;
    candidates.count = count;
  }
  return candidates;
}

constexpr int32_t kBins = 256;
// Names of shared memory, the same in every kind of search.
struct SelectBins;
struct SelectRange;

// Sums of measures by a digit of the key. 64 bits in two halves: shared memory adds 32 at once.
struct Bins {
  uint32_t count[kBins];
  uint32_t low[kBins];
  uint32_t high[kBins];
  uint64_t key[kBins];  // one that is in it

  __device__ void add(int32_t bin, uint64_t of_key, uint64_t measure) {
    const uint32_t part = static_cast<uint32_t>(measure);
    const uint32_t before = atomicAdd(&low[bin], part);
    const uint32_t upper = static_cast<uint32_t>(measure >> 32) + (before + part < part ? 1u : 0u);
    if (upper != 0) atomicAdd(&high[bin], upper);
    atomicAdd(&count[bin], 1u);
    key[bin] = of_key;
  }
  __device__ uint64_t sum(int32_t bin) const {
    return static_cast<uint64_t>(high[bin]) << 32 | low[bin];
  }
};

// The keys in which the search goes on, and what is left to reach there.
struct KeyRange {
  uint64_t low = 0;
  uint64_t high = 0;
  uint64_t wanted = 0;
};

// By one warp: from the sums of the digit at `shift` to the bin where the running sum from the top
// reaches what is wanted; the bins are empty afterwards. Out of reach: the range ends at `lowest`.
__device__ inline void narrow_range(Bins& bins, KeyRange& range, int shift, uint64_t lowest) {
  constexpr int32_t kRun = kBins / 32;
  const int32_t first = kBins - 1 - static_cast<int32_t>(threadIdx.x % 32) * kRun;
  uint64_t sum = 0;
  for (int32_t i = 0; i < kRun; ++i) sum += bins.sum(first - i);
  uint64_t left = range.wanted - (warp_running_sum(sum) - sum);  // wraps round where it was reached
  const bool here = left != 0 && left <= range.wanted && left <= sum;
  const bool reached = __any_sync(kAllLanes, here ? 1 : 0) != 0;
  const uint64_t low = range.low;
  const uint64_t high = range.high;
  __syncwarp();
  if (here) {
    int32_t bin = first;
    for (; left > bins.sum(bin); --bin) left -= bins.sum(bin);
    range.low = low + (static_cast<uint64_t>(bin) << shift);
    range.high = range.low + ((uint64_t{1} << shift) - 1);
    if (range.high > high) range.high = high;
    range.wanted = left;
    if (bins.count[bin] == 1) range.low = range.high = bins.key[bin];
  }
  if (!reached && threadIdx.x % 32 == 0) range.low = range.high = lowest;
  for (int32_t i = 0; i < kRun; ++i) {
    bins.count[first - i] = bins.low[first - i] = bins.high[first - i] = 0;
  }
}

// The key at which the running sum of measures, from the highest key down, reaches `wanted`;
// `range.low` if all do not.  each(visit) calls visit(key, measure), keys in the range.
// REQUIRES: wanted >= 1, and sums below 2^63.
template <typename Each>
__device__ uint64_t select_key(const KeyRange& whole_range, const Each& each) {
  Bins& bins = shared<Bins, SelectBins>();
  KeyRange& range = shared<KeyRange, SelectRange>();
  __syncthreads();  // an earlier search has been read
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < kBins;
       i += static_cast<int32_t>(blockDim.x)) {
    bins.count[i] = bins.low[i] = bins.high[i] = 0;
  }
  if (threadIdx.x == 0) range = whole_range;
  __syncthreads();
  while (true) {
    const uint64_t low = range.low;
    const uint64_t high = range.high;
    if (low == high) return low;
    const int bits = 64 - __clzll(static_cast<int64_t>(high - low));
    const int shift = bits > 8 ? bits - 8 : 0;
    each([&](uint64_t key, uint64_t measure) {
      if (measure == 0 || key < low || key > high) return;
      bins.add(static_cast<int32_t>((key - low) >> shift), key, measure);
    });
    __syncthreads();
    if (threadIdx.x < 32) narrow_range(bins, range, shift, whole_range.low);
    __syncthreads();
  }
}

// A limit that the `count` best reach, as near as the groups' largest logits show it.
// REQUIRES: count <= row.groups.
__device__ inline float limit_of_count(const GroupedRow& row, float top, int32_t count) {
  float least = top;
  for (int32_t g = static_cast<int32_t>(threadIdx.x % 32); g < row.groups; g += 32) {
    least = fminf(least, row.tops[g]);
  }
  const KeyRange range{least_key(-warp_max(-least)), most_key(top), static_cast<uint64_t>(count)};
  return logit_of(select_key(range, [&](const auto& visit) {
    for (int32_t g = static_cast<int32_t>(threadIdx.x); g < row.groups;
         g += static_cast<int32_t>(blockDim.x)) {
      visit(key_of(row.tops[g], g), 1);
    }
  }));
}

// Candidates that the `count` best of those at or above `lowest` are among. More than there are
// groups are sought so many temperatures below the top, then everywhere.
__device__ inline Candidates collect_best(
    const GroupedRow& row, float top, float sharpness, float lowest, int32_t count) {
  constexpr float kReach = 12.f;
  float limit = top - kReach / sharpness;
  if (count <= row.groups) limit = limit_of_count(row, top, count);
  if (limit > lowest) {
    const Candidates candidates = collect(row, limit);
    const int32_t found = candidates.list != nullptr ? candidates.count : kListed;
    if (found >= count) return candidates;
  }
  return collect(row, lowest);
}

// The least key of the `count` best candidates; all of them if there are fewer.
__device__ inline uint64_t cut_at_count(const Candidates& candidates, float top, int32_t count) {
  const KeyRange range{least_key(candidates.limit), most_key(top), static_cast<uint64_t>(count)};
  return select_key(
      range, [&](const auto& visit) { candidates.each([&](uint64_t key) { visit(key, 1); }); });
}

}  // namespace engram::engine::cuda
