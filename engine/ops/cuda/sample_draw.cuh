// From logits to an id: what min_p, top_k and top_p keep, and the draw among it. For whole blocks.
#pragma once

#include "engine/ops/cuda/sample_select.cuh"

namespace engram::engine::cuda {

// 53 random bits of a seed and of how many numbers were drawn before: Philox4x32-10, the numbers
// of engine/ops/cpu/philox.h.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
__device__ inline uint64_t random_bits(uint64_t seed, uint64_t draw_index) {
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  uint32_t c[4] = {
      static_cast<uint32_t>(draw_index), static_cast<uint32_t>(draw_index >> 32), 0, 0};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0];
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1];
    c[3] = static_cast<uint32_t>(a);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return (static_cast<uint64_t>(c[1]) << 32 | c[0]) >> 11;
}

// The whole number below that share of the mass; `bits` are those of random_bits().
__device__ inline uint64_t share_of(uint64_t mass, uint64_t bits) {
  return __umul64hi(bits << 11, mass);
}

// One warp. Unfiltered: first a group by its mass, then an id of the group.
__device__ inline int32_t draw_from_all(
    const GroupedRow& row, float top, float sharpness, uint64_t bits) {
  const auto mass = [&](int32_t g) { return group_mass(row, g, top, sharpness); };
  const uint64_t all = mass_of_groups(row, top, sharpness);
  const Picked group = pick(row.groups, share_of(all, bits), mass);
  const int32_t first = group.index * kGroup;
  const int32_t count = min(kGroup, row.vocab - first);
  const float* logits = row.logits + first;
  const float best = row.tops[group.index];
  const auto weight = [&](int32_t i) { return whole(weight_of(logits[i], best, sharpness)); };
  uint64_t inside = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x % 32); i < count; i += 32) inside += weight(i);
  inside = warp_sum(inside);
  // The group's mass, a float, and its weights, integers, may differ in the last bits.
  const double share = static_cast<double>(group.rest) / static_cast<double>(mass(group.index));
  const uint64_t target = static_cast<uint64_t>(share * static_cast<double>(inside));
  return first + pick(count, target < inside ? target : inside - 1, weight).index;
}

// No logit below it has a chance of min_p's.
__device__ inline float limit_of_min_p(float top, const RowParams& p) {
  return fminf(static_cast<float>(top + p.min_p_depth), top);
}

// The best that have a share of top_p lie above it: all others together, each as heavy as the
// limit, weigh less than the rest. A hundredth to be safe from rounding.
__device__ inline float limit_of_top_p(
    const GroupedRow& row, float top, uint64_t all, const RowParams& p) {
  const float mean = static_cast<float>(fraction(all)) / static_cast<float>(row.vocab);
  const float depth = logf((1.f - p.top_p) * mean) - 0.01f;
  return fminf(top + depth / p.sharpness, top);
}

__device__ inline bool limits_count(const RowParams& p, int32_t vocab) {
  return p.top_k > 0 && p.top_k < vocab;
}
__device__ inline bool is_filtered(const RowParams& p, int32_t vocab) {
  return p.min_p > 0.f || p.top_p < 1.f || limits_count(p, vocab);
}

__device__ inline int32_t draw_filtered(const GroupedRow& row, float top, const RowParams& p) {
  const bool top_k = limits_count(p, row.vocab);
  const bool top_p_alone = !top_k && p.min_p <= 0.f;
  uint64_t mass = top_p_alone ? mass_of_groups(row, top, p.sharpness) : 0;
  float limit = -INFINITY;
  if (p.min_p > 0.f) limit = limit_of_min_p(top, p);
  if (top_p_alone) limit = limit_of_top_p(row, top, mass, p);

  const Candidates candidates =
      top_k ? collect_best(row, top, p.sharpness, limit, p.top_k) : collect(row, limit);
  const auto weight = [&](uint64_t key) {
    return whole(weight_of(logit_of(key), top, p.sharpness));
  };
  const auto mass_from = [&](uint64_t cut) {
    uint64_t sum = 0;
    candidates.each([&](uint64_t key) { sum += key >= cut ? weight(key) : 0; });
    return block_total<struct KeptMass>(sum);
  };
  uint64_t cut = least_key(candidates.limit);
  if (top_k) cut = cut_at_count(candidates, top, p.top_k);
  if (p.top_p < 1.f) {
    if (!top_p_alone) mass = mass_from(cut);
    const double wanted = ceil(static_cast<double>(p.top_p) * static_cast<double>(mass));
    const KeyRange range{cut, most_key(top), wanted < 1.0 ? 1 : static_cast<uint64_t>(wanted)};
    cut = select_key(range, [&](const auto& visit) {
      candidates.each([&](uint64_t key) { visit(key, key >= cut ? weight(key) : 0); });
    });
  }
  // Ascending ids, as the lower halves of keys fall with them.
  const uint64_t bits = random_bits(p.seed, p.draw_index);
  const KeyRange ids{
      ~static_cast<uint32_t>(row.vocab - 1), 0xffffffffu, share_of(mass_from(cut), bits) + 1};
  const uint64_t drawn = select_key(ids, [&](const auto& visit) {
    candidates.each([&](uint64_t key) { visit(key & 0xffffffffu, key >= cut ? weight(key) : 0); });
  });
  return id_of(drawn);
}

// The id a row becomes. `top` is its largest logit and finite.
__device__ inline int32_t draw(const GroupedRow& row, float top, const RowParams& p) {
  const bool random = p.sharpness > 0.f;
  if (random && is_filtered(p, row.vocab)) return draw_filtered(row, top, p);
  int32_t& id = shared<int32_t, struct DrawnId>();
  if (threadIdx.x < 32) {
    const int32_t found =
        random ? draw_from_all(row, top, p.sharpness, random_bits(p.seed, p.draw_index))
               : first_best(row, top);
    if (threadIdx.x == 0) id = found;
  }
  __syncthreads();
  return id;
}

}  // namespace engram::engine::cuda
