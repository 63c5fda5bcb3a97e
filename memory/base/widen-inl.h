// Vectors of stored elements to f32 and back, for the kernels of every target. Included once per
// target, see Highway's foreach_target.h.
#if defined(ENGRAM_MEMORY_BASE_WIDEN_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_BASE_WIDEN_INL_H
#undef ENGRAM_MEMORY_BASE_WIDEN_INL_H
#else
#define ENGRAM_MEMORY_BASE_WIDEN_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "memory/base/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Up to 16 floats.
using FloatTag = hn::CappedTag<float, 16>;
using WordTag = hn::RebindToUnsigned<FloatTag>;
using HalfWordTag = hn::Rebind<uint16_t, FloatTag>;
using FloatVec = hn::Vec<FloatTag>;
using WordVec = hn::Vec<WordTag>;
using HalfWordVec = hn::Vec<HalfWordTag>;

constexpr int kFloatLanes = static_cast<int>(hn::MaxLanes(FloatTag()));

HWY_INLINE FloatVec widen_bf16(HalfWordVec bits) {
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(WordTag(), bits)));
}

// To nearest, ties to even; NaN stays NaN. As memory::Bf16 does it.
HWY_INLINE HalfWordVec round_to_bf16(FloatVec value) {
  const WordTag du;
  const WordVec u = hn::BitCast(du, value);
  const WordVec upper = hn::ShiftRight<16>(u);
  const WordVec odd = hn::And(upper, hn::Set(du, 1u));
  const WordVec rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu))));
  const hn::Mask<WordTag> nan = hn::RebindMask(du, hn::IsNaN(value));
  const WordVec bits = hn::IfThenElse(nan, hn::Or(upper, hn::Set(du, 0x40u)), rounded);
  return hn::TruncateTo(HalfWordTag(), bits);
}

// Exact for every finite code; infinities stay, NaN stays NaN.
HWY_INLINE FloatVec widen_f16(const uint16_t* from) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  return hn::PromoteTo(FloatTag(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from)));
#else
  // Without an instruction for it: the scalar conversion, which no fast path depends on.
  uint16_t codes[kFloatLanes];
  std::memcpy(codes, from, sizeof(codes));  // a stored row may begin at an odd address
  HWY_ALIGN float values[kFloatLanes];
  for (int i = 0; i < kFloatLanes; ++i) values[i] = half_to_float({codes[i]});
  return hn::Load(FloatTag(), values);
#endif
}

// float8 e4m3, exact. The exponent of a normal code is moved to its place by an addition; a
// subnormal one, m * 2^-9, is 2^-6 * (1 + m/8) - 2^-6. No step touches a subnormal float, which
// would be slow.
HWY_INLINE FloatVec widen_e4m3(const uint8_t* from) {
  const FloatTag d;
  const WordTag du;
  const WordVec code = hn::PromoteTo(du, hn::LoadU(hn::Rebind<uint8_t, FloatTag>(), from));
  const WordVec magnitude = hn::And(code, hn::Set(du, 0x7fu));
  const hn::Mask<WordTag> subnormal = hn::Lt(magnitude, hn::Set(du, 8u));
  const WordVec bias = hn::IfThenElse(subnormal, hn::Set(du, 121u << 23), hn::Set(du, 120u << 23));
  const FloatVec shifted = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(magnitude), bias));
  const FloatVec value =
      hn::Sub(shifted, hn::IfThenElseZero(hn::RebindMask(d, subnormal), hn::Set(d, 0x1p-6f)));
  const hn::Mask<FloatTag> nan = hn::RebindMask(d, hn::Eq(magnitude, hn::Set(du, 0x7fu)));
  const WordVec sign = hn::ShiftLeft<24>(hn::And(code, hn::Set(du, 0x80u)));
  const FloatVec checked = hn::IfThenElse(nan, hn::BitCast(d, hn::Set(du, 0x7fc00000u)), value);
  return hn::Or(checked, hn::BitCast(d, sign));
}

// The codes of e4m3, in 32-bit lanes: to nearest, ties to even; what is larger than 448 saturates,
// NaN stays NaN. A normal number rounds in its bit pattern; a subnormal one, a multiple of 2^-9, in
// the last place of a sum with 2^14. Both meet at 2^-6.
HWY_INLINE WordVec round_to_e4m3(FloatVec value) {
  const FloatTag d;
  const WordTag du;
  const FloatVec magnitude = hn::Min(hn::Abs(value), hn::Set(d, kLargestE4m3));
  const WordVec bits = hn::BitCast(du, magnitude);
  const WordVec odd = hn::And(hn::ShiftRight<20>(bits), hn::Set(du, 1u));
  const WordVec rounded =
      hn::ShiftRight<20>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7ffffu - (120u << 23)))));
  const WordVec small = hn::Sub(
      hn::BitCast(du, hn::Add(magnitude, hn::Set(d, 0x1p14f))),
      hn::BitCast(du, hn::Set(d, 0x1p14f)));
  const WordVec finite =
      hn::IfThenElse(hn::RebindMask(du, hn::Lt(magnitude, hn::Set(d, 0x1p-6f))), small, rounded);
  const WordVec code =
      hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), hn::Set(du, 0x7fu), finite);
  const WordVec sign = hn::And(hn::ShiftRight<24>(hn::BitCast(du, value)), hn::Set(du, 0x80u));
  return hn::Or(code, sign);
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
