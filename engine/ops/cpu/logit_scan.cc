#include "engine/ops/cpu/logit_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/logit_scan.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <bit>
#include <limits>

#include "engine/ops/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

using Ints = hn::RebindToSigned<Floats>;
constexpr float kNone = -std::numeric_limits<float>::infinity();
static_assert(kScanPadding >= kLanes);

// The tail is padded with -inf, which adds nothing to any result.
HWY_INLINE VF load_padded(const float* row, int64_t left) {
  if (kLanes == 1 || HWY_LIKELY(left >= kLanes)) return load(row);
  alignas(64) float buffer[kLanes];
  std::fill_n(buffer, kLanes, kNone);
  std::copy_n(row, left, buffer);
  return load(buffer);
}

RowTop find_top_in(const float* row, int64_t count) {
  const Ints ints;
  VF best = hn::Set(Floats(), kNone);
  auto best_index = hn::Zero(ints);  // of the vector's first lane
  VF spoiled = hn::Zero(Floats());   // NaN once a NaN was seen
  for (int64_t i = 0; i < count; i += kLanes) {
    const VF v = load_padded(row + i, count - i);
    const auto larger = hn::Gt(v, best);
    best = hn::IfThenElse(larger, v, best);
    const auto index = hn::Set(ints, static_cast<int32_t>(i));
    best_index = hn::IfThenElse(hn::RebindMask(ints, larger), index, best_index);
    spoiled = hn::IfThenElse(hn::IsNaN(v), v, spoiled);
  }
  alignas(64) float logits[kLanes];
  alignas(64) int32_t indices[kLanes];
  hn::Store(best, Floats(), logits);
  hn::Store(best_index, ints, indices);
  RowTop top{logits[0], indices[0], !hn::AllFalse(Floats(), hn::IsNaN(spoiled))};
  for (int32_t lane = 1; lane < kLanes; ++lane) {
    const int32_t id = indices[lane] + lane;
    if (logits[lane] > top.logit || (logits[lane] == top.logit && id < top.id)) {
      top.logit = logits[lane];
      top.id = id;
    }
  }
  return top;
}

HWY_INLINE VF weight_lanes(VF logits, VF top, VF sharpness) {
  return hn::Exp(Floats(), hn::Mul(hn::Sub(logits, top), sharpness));
}

double masses_of(const float* row, int64_t count, float top, float sharpness, double* blocks) {
  const VF base = hn::Set(Floats(), top);
  const VF factor = hn::Set(Floats(), sharpness);
  double total = 0.0;
  for (int64_t first = 0; first < count; first += kMassBlock) {
    const int64_t end = std::min(count, first + kMassBlock);
    VF sum = hn::Zero(Floats());
    for (int64_t i = first; i < end; i += kLanes) {
      sum = hn::Add(sum, weight_lanes(load_padded(row + i, end - i), base, factor));
    }
    blocks[first / kMassBlock] = sum_lanes(sum);
    total += blocks[first / kMassBlock];
  }
  return total;
}

int64_t count_above_in(const float* row, int64_t count, float logit) {
  const VF limit = hn::Set(Floats(), logit);
  int64_t above = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const VF v = load_padded(row + i, count - i);
    above += static_cast<int64_t>(hn::CountTrue(Floats(), hn::Gt(v, limit)));
  }
  return above;
}

int64_t collect_from(const float* row, int64_t count, float limit, float* logits, int32_t* ids) {
  const Ints ints;
  const VF lowest = hn::Set(Floats(), limit);
  const int64_t whole = count / kLanes * kLanes;
  int64_t found = 0;
  for (int64_t i = 0; i < whole; i += kLanes) {
    const VF v = load(row + i);
    const auto taken = hn::Ge(v, lowest);
    if (hn::AllFalse(Floats(), taken)) continue;
    const auto index = hn::Iota(ints, static_cast<int32_t>(i));
    hn::CompressStore(index, hn::RebindMask(ints, taken), ints, ids + found);
    found += static_cast<int64_t>(hn::CompressStore(v, taken, Floats(), logits + found));
  }
  for (int64_t i = whole; i < count; ++i) {
    if (row[i] < limit) continue;
    logits[found] = row[i];
    ids[found++] = static_cast<int32_t>(i);
  }
  return found;
}

float weigh_all(const float* logits, int64_t count, float top, float sharpness, float* weights) {
  const VF base = hn::Set(Floats(), top);
  const VF factor = hn::Set(Floats(), sharpness);
  VF sum = hn::Zero(Floats());
  for (int64_t i = 0; i < count; i += kLanes) {
    const VF w = weight_lanes(load_padded(logits + i, count - i), base, factor);
    store(w, weights + i);
    sum = hn::Add(sum, w);
  }
  return sum_lanes(sum);
}

// Sum of the weights of those at or above the limit: never larger for a larger limit, as rounding
// keeps order and the terms are added in one order.
float mass_from(const Candidates& c, float limit) {
  const VF lowest = hn::Set(Floats(), limit);
  VF sum = hn::Zero(Floats());
  for (int64_t i = 0; i < c.count; i += kLanes) {
    const VF v = load_padded(c.logits + i, c.count - i);
    const VF w = load_part(c.weights + i, c.count - i);
    sum = hn::Add(sum, hn::IfThenElseZero(hn::Ge(v, lowest), w));
  }
  return sum_lanes(sum);
}

// What is stored never passes what is still to be read: the vectors of one round are all loaded
// before the first is stored.
int64_t keep_in(const Candidates& c, Cut cut) {
  const Ints ints;
  const VF limit = hn::Set(Floats(), cut.limit);
  int64_t kept = 0;
  int64_t i = 0;
  for (; i + kLanes <= c.count; i += kLanes) {
    const VF v = load(c.logits + i);
    const auto ids = hn::LoadU(ints, c.ids + i);
    const VF weights = load(c.weights + i);
    const int64_t equal = static_cast<int64_t>(hn::CountTrue(Floats(), hn::Eq(v, limit)));
    if (HWY_UNLIKELY(equal > cut.equals)) break;
    cut.equals -= equal;
    const auto taken = hn::Ge(v, limit);
    hn::CompressStore(ids, hn::RebindMask(ints, taken), ints, c.ids + kept);
    hn::CompressStore(weights, taken, Floats(), c.weights + kept);
    kept += static_cast<int64_t>(hn::CompressStore(v, taken, Floats(), c.logits + kept));
  }
  for (; i < c.count; ++i) {
    if (c.logits[i] < cut.limit) continue;
    if (c.logits[i] == cut.limit && cut.equals-- <= 0) continue;
    c.logits[kept] = c.logits[i];
    c.ids[kept] = c.ids[i];
    c.weights[kept++] = c.weights[i];
  }
  return kept;
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {
namespace {

HWY_EXPORT(find_top_in);
HWY_EXPORT(masses_of);
HWY_EXPORT(count_above_in);
HWY_EXPORT(collect_from);
HWY_EXPORT(weigh_all);
HWY_EXPORT(mass_from);
HWY_EXPORT(keep_in);

// Integers in the order of the floats.
int64_t key_of(float x) {
  const int32_t bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
float float_of(int64_t key) {
  const int32_t bits = static_cast<int32_t>(key);
  return std::bit_cast<float>(bits ^ ((bits >> 31) & 0x7fffffff));
}

// The largest float in [lowest, highest] at which a predicate that becomes false and stays so
// holds; lowest if it holds nowhere.
template <typename Predicate>
float last_float(float lowest, float highest, const Predicate& holds) {
  int64_t low = key_of(lowest);
  int64_t high = key_of(highest) + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (holds(float_of(middle)) ? low : high) = middle;
  }
  return float_of(low);
}

}  // namespace

RowTop find_top(const float* row, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(find_top_in)(row, count);
}

double masses(const float* row, int64_t count, float top, float sharpness, double* blocks) {
  return HWY_DYNAMIC_DISPATCH(masses_of)(row, count, top, sharpness, blocks);
}

int64_t count_above(const float* row, int64_t count, float logit) {
  return HWY_DYNAMIC_DISPATCH(count_above_in)(row, count, logit);
}

int64_t collect(const float* row, int64_t count, float limit, float* logits, int32_t* ids) {
  return HWY_DYNAMIC_DISPATCH(collect_from)(row, count, limit, logits, ids);
}

float weigh(const float* logits, int64_t count, float top, float sharpness, float* weights) {
  return HWY_DYNAMIC_DISPATCH(weigh_all)(logits, count, top, sharpness, weights);
}

Cut cut_at_count(const Candidates& c, int64_t wanted) {
  const auto above = [&](float limit) { return count_above(c.logits, c.count, limit); };
  Cut cut;
  // At or above a limit lie as many as above the float before it.
  cut.limit = last_float(
      c.least, c.most, [&](float limit) { return above(float_of(key_of(limit) - 1)) >= wanted; });
  cut.equals = wanted - above(cut.limit);
  return cut;
}

Cut cut_at_mass(const Candidates& c, float mass) {
  const auto mass_at = [&](float limit) { return HWY_DYNAMIC_DISPATCH(mass_from)(c, limit); };
  Cut cut;
  cut.limit = last_float(c.least, c.most, [&](float limit) { return mass_at(limit) >= mass; });
  float sum = mass_at(float_of(key_of(cut.limit) + 1));
  if (sum >= mass && cut.limit < c.most) return cut;
  for (int64_t i = 0; i < c.count; ++i) {
    if (c.logits[i] != cut.limit) continue;
    sum += c.weights[i];
    ++cut.equals;
    if (sum >= mass) break;
  }
  return cut;
}

int64_t keep(const Candidates& candidates, Cut cut) {
  return HWY_DYNAMIC_DISPATCH(keep_in)(candidates, cut);
}

}  // namespace engram::engine::cpu
#endif
