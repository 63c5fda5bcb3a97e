// Vectors of f32 lanes loaded from and stored to activations, for each SIMD target.
//
// Included once per target by the kernel files (Highway's foreach_target), hence no #pragma once.
// A vector that hangs over the end of a row is padded with zeros, so every element of a row goes
// through the same instructions wherever the row lies. The lowest target has one lane.
#if defined(ENGRAM_ENGINE_OPS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_ENGINE_OPS_CPU_LANES_INL_H_
#undef ENGRAM_ENGINE_OPS_CPU_LANES_INL_H_
#else
#define ENGRAM_ENGINE_OPS_CPU_LANES_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "memory/base/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using memory::Bf16;

using Floats = hn::ScalableTag<float>;
using VF = hn::Vec<Floats>;
using Words = hn::RebindToUnsigned<Floats>;  // u32 lanes
using Halves = hn::Rebind<uint16_t, Floats>;
constexpr int64_t kLanes = hn::MaxLanes(Floats());

HWY_INLINE VF load(const float* p) {
  return hn::LoadU(Floats(), p);
}

HWY_INLINE VF load(const Bf16* p) {
  const auto halves = hn::LoadU(Halves(), reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), halves)));
}

HWY_INLINE void store(VF v, float* p) {
  hn::StoreU(v, Floats(), p);
}

// Rounds like Bf16(float): to nearest, ties to even, NaN stays NaN.
HWY_INLINE void store(VF v, Bf16* p) {
  const Words words;
  const auto u = hn::BitCast(words, v);
  const auto high = hn::ShiftRight<16>(u);
  const auto odd = hn::And(high, hn::Set(words, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(u, hn::Set(words, 0x7fffu)), odd));
  const auto nan = hn::RebindMask(words, hn::IsNaN(v));
  const auto bits = hn::IfThenElse(nan, hn::Or(high, hn::Set(words, 0x40u)), rounded);
  const hn::RebindToSigned<Words> ints;
  hn::StoreU(
      hn::DemoteTo(Halves(), hn::BitCast(ints, bits)), Halves(), reinterpret_cast<uint16_t*>(p));
}

// The first min(left, kLanes) elements at p, then zeros. REQUIRES: left > 0.
template <typename T>
HWY_INLINE VF load_part(const T* p, int64_t left) {
  if (kLanes == 1 || HWY_LIKELY(left >= kLanes)) return load(p);
  alignas(64) T buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(left) * sizeof(T));
  return load(buffer);
}

template <typename T>
HWY_INLINE void store_part(VF v, T* p, int64_t left) {
  if (kLanes == 1 || HWY_LIKELY(left >= kLanes)) {
    store(v, p);
    return;
  }
  alignas(64) T buffer[kLanes];
  store(v, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(left) * sizeof(T));
}

HWY_INLINE float sum_lanes(VF v) {
  return hn::GetLane(hn::SumOfLanes(Floats(), v));
}

HWY_INLINE float max_lanes(VF v) {
  return hn::GetLane(hn::MaxOfLanes(Floats(), v));
}

// e^x for x <= 104; NaN stays NaN.
HWY_INLINE VF exp_lanes(VF x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(Floats(), x));
}

// x * sigmoid(x). A NaN comes through the factor x. The quotient is an estimate refined by Newton's
// rule, as a division takes longer than all the rest; it is exact for divisors near 1.
HWY_INLINE VF silu_lanes(VF x) {
  constexpr int kSteps = kLanes >= 16 ? 1 : 2;  // estimates of 14 bits, of 12 below
  const VF most = hn::Set(Floats(), 87.f);      // keeps the quotient normal
  const VF one = hn::Set(Floats(), 1.f);
  const VF divisor = hn::Add(one, hn::Exp(Floats(), hn::Min(hn::Neg(x), most)));
  VF quotient = hn::ApproximateReciprocal(divisor);
  for (int i = 0; i < kSteps; ++i) {
    quotient = hn::MulAdd(quotient, hn::NegMulAdd(divisor, quotient, one), quotient);
  }
  return hn::Mul(x, quotient);
}

template <typename T>
HWY_INLINE float square_sum(const T* x, int64_t cols) {
  VF sum = hn::Zero(Floats());
  for (int64_t c = 0; c < cols; c += kLanes) {
    const VF v = load_part(x + c, cols - c);
    sum = hn::MulAdd(v, v, sum);
  }
  return sum_lanes(sum);
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
