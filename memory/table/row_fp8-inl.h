// Rows of e4m3 codes to activations. Included once per vector target, see Highway's
// foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_FP8_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_FP8_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_FP8_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_FP8_INL_H
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstring>

#include "memory/table/e4m3_steps-inl.h"
#include "memory/table/row_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// Made once for many rows.
struct E4m3Decoder {
  E4m3Steps steps;
  StepVector<64> wide;

  HWY_INLINE explicit E4m3Decoder(float scale) : steps(make_steps(scale)), wide(steps) {}
};

// The addends of up to kFactors blocks. False when one of the scales is not between 2^-117 and
// 2^119, where all products are normal.
HWY_INLINE bool ue8m0_addends(const uint8_t* scales, int64_t count, uint32_t* addends) {
  HWY_ALIGN uint8_t codes[kFactors];
  const uint8_t* from = scales;
  if (count != kFactors) {
    std::memset(codes, 127, kFactors);
    for (int64_t i = 0; i < count; ++i) codes[i] = scales[i];
    from = codes;
  }
  const hn::CappedTag<uint32_t, kFactors> d;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const auto least = hn::Set(d, 0u - (9u << 7) - (112u << 4));
  auto outside = hn::Zero(d);
  for (int64_t i = 0; i < kFactors; i += static_cast<int64_t>(hn::MaxLanes(d))) {
    const auto code = hn::PromoteTo(d, hn::LoadU(d8, from + i));
    outside = hn::Max(outside, hn::Sub(code, hn::Set(d, 10u)));
    const auto addend = hn::Add(hn::ShiftLeft<7>(code), least);
    hn::StoreU(
        hn::Or(hn::ShiftLeft<16>(addend), hn::And(addend, hn::Set(d, 0xffffu))), d, addends + i);
  }
  return hn::AllTrue(d, hn::Lt(outside, hn::Set(d, 237u)));
}

// `count` blocks of 32 codes, up to kFactors. False when a product is not a normal number or zero;
// nothing that was stored counts then.
template <typename T>
HWY_INLINE bool step_blocks(
    const E4m3Decoder& decoder, const uint8_t* from, const uint8_t* scales, int64_t count, T* to) {
  HWY_ALIGN uint32_t addends[kFactors];
  const bool inside = ue8m0_addends(scales, count, addends);
  // Read back from memory a value fills a vector for nothing; from a register it does not.
  asm("" : "+m"(addends));
  const StepVector<64>& wide = decoder.wide;
  constexpr int64_t kLanes = StepVector<64>::kLanes;
  auto most = hn::Zero(StepVector<64>::D());
  int64_t i = 0;
#pragma GCC unroll 4
  for (; i + kLanes <= 32 * count; i += kLanes) {
    wide.decode(from + i, addends[i / 32], addends[(i + kLanes / 2) / 32], &most, to + i);
  }
  bool finite = StepVector<64>::finite(most);
  if (i < 32 * count) {
    const StepVector<32> narrow(decoder.steps);
    auto last = hn::Zero(StepVector<32>::D());
    narrow.decode(from + i, addends[i / 32], addends[i / 32], &last, to + i);
    finite &= StepVector<32>::finite(last);
  }
  return inside & finite;
}

// Returns how many codes of a row with one scale are done: as many as fill vectors, none when one
// is NaN.
HWY_INLINE int64_t
step_row(const E4m3Decoder& decoder, const uint8_t* from, int64_t width, Bf16* to) {
  const StepVector<64>& wide = decoder.wide;
  const uint32_t addend = decoder.steps.addend;
  constexpr int64_t kLanes = StepVector<64>::kLanes;
  auto most = hn::Zero(StepVector<64>::D());
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    wide.decode(from + i, addend, addend, &most, to + i);
  }
  bool finite = StepVector<64>::finite(most);
  if (i + 32 <= width) {
    const StepVector<32> narrow(decoder.steps);
    auto last = hn::Zero(StepVector<32>::D());
    narrow.decode(from + i, addend, addend, &last, to + i);
    finite &= StepVector<32>::finite(last);
    i += StepVector<32>::kLanes;
  }
  return finite ? i : 0;
}
#else
struct E4m3Decoder {
  explicit E4m3Decoder(float) {}
};
#endif

// Two vectors of e4m3 / 256, exact: the bits of a code, moved to the place of f16's, whose exponent
// has a bias that is 8 larger. Subnormal codes become subnormal f16, which costs nothing here. NaN
// codes come out as numbers: see has_nan_code().
HWY_INLINE void widen_e4m3_over_256(const uint8_t* from, FloatVec* low, FloatVec* high) {
  const FloatTag d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
  const hn::Repartition<int16_t, FloatTag> d16;
  const hn::Rebind<int8_t, decltype(d16)> d8;
  const hn::Half<decltype(d16)> half16;
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
  const auto code = hn::PromoteTo(d16, hn::LoadU(d8, reinterpret_cast<const int8_t*>(from)));
  // Sign extension leaves copies of the sign above; all but the first go.
  const auto halves = hn::And(hn::ShiftLeft<7>(code), hn::Set(d16, static_cast<int16_t>(0xbfff)));
  *low = hn::PromoteTo(d, hn::BitCast(dh, hn::LowerHalf(half16, halves)));
  *high = hn::PromoteTo(d, hn::BitCast(dh, hn::UpperHalf(half16, halves)));
#else
  *low = hn::Mul(widen_e4m3(from), hn::Set(d, 0x1p-8f));
  *high = hn::Mul(widen_e4m3(from + kFloatLanes), hn::Set(d, 0x1p-8f));
#endif
}

// Whether one of `count` e4m3 codes is NaN.
HWY_INLINE bool has_nan_code(const uint8_t* from, int64_t count) {
  const hn::CappedTag<uint8_t, 64> d;
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<uint8_t, 64>()));
  const auto magnitude = hn::Set(d, uint8_t{0x7f});
  auto most = hn::Zero(d);
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    most = hn::Max(most, hn::And(hn::LoadU(d, from + i), magnitude));
  }
  if (i < count && count >= kStep) {
    // The rest with some of what came before.
    most = hn::Max(most, hn::And(hn::LoadU(d, from + count - kStep), magnitude));
    i = count;
  }
  bool found = !hn::AllFalse(d, hn::Eq(most, magnitude));
  for (; i < count; ++i) found |= (from[i] & 0x7f) == 0x7f;
  return found;
}

// e4m3 values of one block of 32 with a power of two.
template <typename T>
HWY_INLINE void scale_block(const uint8_t* from, uint32_t code, T* to) {
  const uint32_t bits = code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : code << 23;
  const FloatVec scale = hn::Set(FloatTag(), std::bit_cast<float>(bits));
  for (int64_t i = 0; i < 32; i += kFloatLanes) {
    store(hn::Mul(widen_e4m3(from + i), scale), to + i);
  }
}

template <typename T>
HWY_NOINLINE void scale_each_block(
    const uint8_t* from, const uint8_t* scales, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) scale_block(from + 32 * i, scales[i], to + 32 * i);
}

template <typename T>
HWY_INLINE void scale_blocks(
    [[maybe_unused]] const E4m3Decoder& decoder,
    const uint8_t* from,
    const uint8_t* scales,
    int64_t width,
    T* to) {
  int64_t left = width / 32;
  for (; left > 0; left -= kFactors) {
    const int64_t count = HWY_MIN(left, kFactors);
    bool done = false;
#if HWY_TARGET != HWY_SCALAR
    done = count == kFactors ? step_blocks(decoder, from, scales, kFactors, to)
                             : step_blocks(decoder, from, scales, count, to);
#endif
    if (!done) scale_each_block(from, scales, count, to);
    from += 32 * kFactors;
    scales += kFactors;
    to += 32 * kFactors;
  }
}

// e4m3 values with one scale, to f32; as convert_row() does it, but two vectors at a time.
HWY_INLINE void scale_row(
    const E4m3Decoder& /*steps*/, const uint8_t* from, int64_t width, float factor, float* to) {
  int64_t i = 0;
  if (kHasF16 && factor <= 0x1p100f && !has_nan_code(from, width)) {
    const FloatVec scale = hn::Set(FloatTag(), 256.f * factor);
    for (; i + 2 * kFloatLanes <= width; i += 2 * kFloatLanes) {
      FloatVec low;
      FloatVec high;
      widen_e4m3_over_256(from + i, &low, &high);
      store(hn::Mul(low, scale), to + i);
      store(hn::Mul(high, scale), to + i + kFloatLanes);
    }
  }
  convert_row<FromE4m3>(from + i, width - i, ScaledBy{factor}, to + i);
}

// The same to bf16. What does not fill half a vector is converted one by one.
HWY_INLINE void scale_row(
    [[maybe_unused]] const E4m3Decoder& decoder,
    const uint8_t* from,
    int64_t width,
    float factor,
    Bf16* to) {
  int64_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  if (decoder.steps.normal) {
    done = step_row(decoder, from, width, to);
  }
#endif
  convert_row<FromE4m3>(from + done, width - done, ScaledBy{factor}, to + done);
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
