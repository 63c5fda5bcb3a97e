// Rows of integers in groups with a scale each to activations. Included once per vector target, see
// Highway's foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "memory/table/row_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

struct FromInt8 {
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    const hn::Rebind<int8_t, FloatTag> d8;
    const hn::RebindToSigned<FloatTag> d32;
    const int8_t* from = reinterpret_cast<const int8_t*>(row + i);
    return hn::ConvertTo(FloatTag(), hn::PromoteTo(d32, hn::LoadU(d8, from)));
  }
};
struct FromInt4 {
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
#if HWY_TARGET == HWY_SCALAR
    const int32_t nibble = row[i / 2] >> (4 * (i % 2)) & 15;
    return hn::Set(FloatTag(), static_cast<float>((nibble ^ 8) - 8));
#else
    const hn::Rebind<uint8_t, FloatTag> d8;
    const hn::RebindToSigned<decltype(d8)> signed8;
    const hn::RebindToSigned<FloatTag> d32;
    const auto packed = hn::ZeroExtendVector(d8, hn::LoadU(hn::Half<decltype(d8)>(), row + i / 2));
    const auto mask = hn::Set(d8, uint8_t{15});
    const auto low = hn::And(packed, mask);
    const auto high = hn::And(hn::ShiftRight<4>(packed), mask);
    const auto eight = hn::Set(d8, uint8_t{8});
    const auto codes = hn::Sub(hn::Xor(hn::InterleaveLower(d8, low, high), eight), eight);
    return hn::ConvertTo(FloatTag(), hn::PromoteTo(d32, hn::BitCast(signed8, codes)));
#endif
  }
};

// The f16 scales of up to kFactors groups. False when one is infinite or NaN.
HWY_INLINE bool f16_factors(const uint8_t* scales, int64_t count, float* factors) {
  uint16_t halves[kFactors] = {};
  if (count == kFactors) {
    std::memcpy(halves, scales, 2 * kFactors);
  } else {
    for (int64_t i = 0; i < count; ++i) std::memcpy(&halves[i], scales + 2 * i, 2);
  }
  uint32_t outside = 0;
  for (const uint16_t half : halves) outside |= static_cast<uint32_t>((half & 0x7c00) == 0x7c00);
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
  const hn::CappedTag<float, kFactors> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> dh;
  for (size_t i = 0; i < kFactors; i += hn::MaxLanes(d)) {
    const auto part = hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(halves + i));
    hn::StoreU(hn::PromoteTo(d, part), d, factors + i);
  }
#else
  for (int64_t i = 0; i < kFactors; ++i) factors[i] = half_to_float({halves[i]});
#endif
  return outside == 0;
}

// Integers in groups with an f16 scale each; a group is a multiple of 16.
template <typename From, typename T>
HWY_INLINE void scale_groups(
    const uint8_t* from, const uint8_t* scales, int64_t width, int64_t group, T* to) {
  int64_t left = width / group;
  for (int64_t begin = 0; left > 0; left -= kFactors, scales += 2 * kFactors) {
    float factors[kFactors];
    const int64_t count = HWY_MIN(left, kFactors);
    const bool finite = f16_factors(scales, count, factors);
    for (int64_t g = 0; g < count; ++g, begin += group) {
      const FloatVec scale = hn::Set(FloatTag(), factors[g]);
      const int64_t end = begin + group;
      int64_t i = begin;
      if (finite) {
        for (; i + 2 * kFloatLanes <= end; i += 2 * kFloatLanes) {
          store_two(
              hn::Mul(From::load(from, i), scale),
              hn::Mul(From::load(from, i + kFloatLanes), scale), to + i);
        }
      }
      for (; i < end; i += kFloatLanes) store(hn::Mul(From::load(from, i), scale), to + i);
    }
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
