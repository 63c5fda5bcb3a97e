// Heads of keys and values as e4m3 codes with a scale, for each vector target: see KvLayer.
// Included once per target, see Highway's foreach_target.h.
#if defined(ENGRAM_ENGINE_OPS_CPU_KV_FP8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_ENGINE_OPS_CPU_KV_FP8_INL_H_
#undef ENGRAM_ENGINE_OPS_CPU_KV_FP8_INL_H_
#else
#define ENGRAM_ENGINE_OPS_CPU_KV_FP8_INL_H_
#endif

#include <bit>
#include <cstdint>
#include <cstring>

#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/ops.h"
#include "memory/base/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

constexpr uint8_t kNanScale = 255;
constexpr uint8_t kNanCode = 0x7f;

// A head of `width` elements to codes and their scale. REQUIRES: behind the head there are zeros up
// to whole vectors.
HWY_INLINE void quantise_head(const float* head, int64_t width, uint8_t* codes, uint8_t* scale) {
  namespace simd = memory::HWY_NAMESPACE;
  const simd::FloatTag d;
  simd::FloatVec most = hn::Zero(d);
  bool finite = true;
  for (int64_t c = 0; c < width; c += simd::kFloatLanes) {
    const simd::FloatVec v = hn::LoadU(d, head + c);
    finite &= hn::AllTrue(d, hn::IsFinite(v));
    most = hn::Max(most, hn::Abs(v));
  }
  if (!finite) {
    *scale = kNanScale;
    std::memset(codes, kNanCode, static_cast<size_t>(width));
    return;
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  const uint32_t code = memory::e8m0_scale_of(std::bit_cast<uint32_t>(largest));
  *scale = static_cast<uint8_t>(code);
  // 2^(127 - code); no finite number has a scale above 2^120.
  const simd::FloatVec inverse = hn::Set(d, std::bit_cast<float>((254u - code) << 23));
  const hn::Rebind<uint8_t, simd::FloatTag> bytes;
  alignas(64) uint8_t buffer[kMaxHeadDim];
  for (int64_t c = 0; c < width; c += simd::kFloatLanes) {
    const auto rounded = simd::round_to_e4m3(hn::Mul(hn::LoadU(d, head + c), inverse));
    hn::StoreU(hn::TruncateTo(bytes, rounded), bytes, buffer + c);
  }
  std::memcpy(codes, buffer, static_cast<size_t>(width));
}

// Byte kByte of each lane, which is no NaN code unless the scale is NaN, times the lane's scale.
// A subnormal code is made out of the normal number of exponent -7: no step touches a subnormal
// float, which would be slow.
template <int kByte, typename V>
HWY_INLINE VF widen_code(V codes, VF scale) {
  const Words d;
  const Floats df;
  V low = codes;  // the code's sign at bit 31, its magnitude below
  if constexpr (kByte < 3) low = hn::ShiftLeft<24 - 8 * kByte>(codes);
  const V magnitude = hn::And(hn::ShiftRight<4>(low), hn::Set(d, 0x07f00000u));
  const VF shifted = hn::BitCast(df, hn::Add(magnitude, hn::Set(d, 120u << 23)));
  const auto subnormal = hn::Lt(magnitude, hn::Set(d, 1u << 23));
  const VF less = hn::Sub(hn::Add(shifted, shifted), hn::Set(df, 0x1p-6f));
  const VF value = hn::IfThenElse(hn::RebindMask(df, subnormal), less, shifted);
  return hn::Mul(hn::CopySign(value, hn::BitCast(df, low)), scale);
}

// `width` codes of one row, and zeros up to a whole vector.
HWY_INLINE void widen_codes(const uint8_t* codes, float scale, int64_t width, float* to) {
  const Words d;
  const hn::Rebind<uint8_t, Words> bytes;
  const VF factor = hn::Set(Floats(), scale);
  int64_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    const auto lanes = hn::PromoteTo(d, hn::LoadU(bytes, codes + c));
    hn::Store(widen_code<0>(lanes, factor), Floats(), to + c);
  }
  if (kLanes == 1 || c == width) return;
  uint8_t rest[kLanes] = {};
  std::memcpy(rest, codes + c, static_cast<size_t>(width - c));
  const auto lanes = hn::PromoteTo(d, hn::LoadU(bytes, rest));
  hn::Store(widen_code<0>(lanes, factor), Floats(), to + c);
}

// Scale bytes to numbers. REQUIRES: `count` fills whole vectors; `to` is aligned.
HWY_INLINE void widen_scales(const uint8_t* codes, int64_t count, float* to) {
  const Words d;
  const hn::Rebind<uint8_t, Words> bytes;
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto code = hn::PromoteTo(d, hn::LoadU(bytes, codes + i));
    const auto least = hn::Eq(code, hn::Zero(d));
    const auto nan = hn::Eq(code, hn::Set(d, uint32_t{kNanScale}));
    auto bits = hn::IfThenElse(least, hn::Set(d, 0x00400000u), hn::ShiftLeft<23>(code));
    bits = hn::IfThenElse(nan, hn::Set(d, 0x7fc00000u), bits);
    hn::Store(hn::BitCast(Floats(), bits), Floats(), to + i);
  }
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
