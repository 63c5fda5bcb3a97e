#include "engine/ops/cpu/logit_scan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/logit_scan.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <limits>

#include "engine/ops/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// The tail is padded with `filler`, which no result may depend on.
HWY_INLINE VF load_padded(const float* row, int64_t left, float filler) {
  if (HWY_LIKELY(left >= kLanes)) return load(row);
  alignas(64) float buffer[kLanes];
  std::fill_n(buffer, kLanes, filler);
  std::copy_n(row, left, buffer);
  return load(buffer);
}

RowTop find_top_in(const float* row, int64_t count) {
  using Ints = hn::RebindToSigned<Floats>;
  const Ints ints;
  VF best = hn::Set(Floats(), kNone);
  auto best_index = hn::Zero(ints);  // of the vector, in vectors
  VF spoiled = hn::Zero(Floats());   // NaN once a NaN was seen
  for (int64_t i = 0; i < count; i += kLanes) {
    const VF v = load_padded(row + i, count - i, kNone);
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

double masses_of(const float* row, int64_t count, float top, float temperature, double* blocks) {
  const VF base = hn::Set(Floats(), top);
  const VF divisor = hn::Set(Floats(), temperature);
  double total = 0.0;
  for (int64_t first = 0; first < count; first += kMassBlock) {
    const int64_t end = std::min(count, first + kMassBlock);
    VF sum = hn::Zero(Floats());
    for (int64_t i = first; i < end; i += kLanes) {
      const VF v = load_padded(row + i, end - i, kNone);
      sum = hn::Add(sum, hn::Exp(Floats(), hn::Div(hn::Sub(v, base), divisor)));
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
    const VF v = load_padded(row + i, count - i, kNone);
    above += static_cast<int64_t>(hn::CountTrue(Floats(), hn::Gt(v, limit)));
  }
  return above;
}

int64_t collect_from(const float* row, int64_t count, float logit, Candidate* to) {
  const VF limit = hn::Set(Floats(), logit);
  int64_t found = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const VF v = load_padded(row + i, count - i, kNone);
    if (hn::AllFalse(Floats(), hn::Ge(v, limit))) continue;
    const int64_t end = std::min(count, i + kLanes);
    for (int64_t id = i; id < end; ++id) {
      if (row[id] >= logit) to[found++] = {row[id], static_cast<int32_t>(id), 0.0};
    }
  }
  return found;
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

}  // namespace

RowTop find_top(const float* row, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(find_top_in)(row, count);
}

double masses(const float* row, int64_t count, float top, float temperature, double* blocks) {
  return HWY_DYNAMIC_DISPATCH(masses_of)(row, count, top, temperature, blocks);
}

int64_t count_above(const float* row, int64_t count, float logit) {
  return HWY_DYNAMIC_DISPATCH(count_above_in)(row, count, logit);
}

int64_t collect(const float* row, int64_t count, float limit, Candidate* to) {
  return HWY_DYNAMIC_DISPATCH(collect_from)(row, count, limit, to);
}

}  // namespace engram::engine::cpu
#endif
