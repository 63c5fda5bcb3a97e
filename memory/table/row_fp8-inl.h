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
#include <type_traits>

#include "memory/table/row_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

// What e4m3 codes times a scale are in bf16, so far as that is a normal number: read off by bytes.
//
// The finite numbers of e4m3 lie in steps: step s is 2^(s / 8 - 9) * (1 + (s % 8) / 8).
// Codes 8..126 take the steps code + 16, subnormal codes those where they fall. Rounding to bf16
// does the same in every power of two, so the bits of a product are those of step 0, plus s / 8 in
// the exponent, plus one of eight increments for s % 8.
//
// Vectors hold s + 112: the upper half of such a byte is zero for the code 0 and for no other.
struct E4m3Steps {
  HWY_ALIGN uint8_t from_low[16] = {
      0,   111, 118, 121, 124, 125, 126, 127,  // s + 112 less the code
      128, 128, 128, 128, 128, 128, 128, 128};
  HWY_ALIGN uint8_t lower[16];  // what the lower half of s + 112 adds to the bits
  // Four times each. Plain constants would be made anew for every row, which costs.
  uint32_t magnitude = 0x7f7f7f7fu;
  uint32_t nibble = 0x0f0f0f0fu;
  uint32_t sign = 0x80808080u;
  uint32_t upper = 0x0f000f00u;
  uint32_t addend = 0;  // with it, and the upper half * 256: the bits; twice in a word
  bool normal = false;  // whether all products are; if not, nothing here holds
};

HWY_NOINLINE E4m3Steps make_steps(float scale) {
  E4m3Steps steps;
  steps.normal = scale >= 0x1p-110f && scale <= 0x1p110f;
  const uint32_t first = Bf16(scale).bits;
  for (uint32_t m = 0; m < 8; ++m) {
    const uint32_t more = Bf16(scale * (1.f + static_cast<float>(m) / 8.f)).bits - first;
    steps.lower[m] = static_cast<uint8_t>(more);
    steps.lower[m + 8] = static_cast<uint8_t>(more + 0x80);
  }
  steps.addend = ((first - (9u << 7) - (112u << 4)) & 0xffffu) * 0x10001u;
  return steps;
}

#if HWY_TARGET != HWY_SCALAR
// In an order that makes results come out in turn when they are interleaved, in every 16 bytes,
// with more bytes: once to bf16, twice to f32.
template <typename T, class D>
HWY_INLINE hn::Vec<D> load_codes(D d, const uint8_t* from) {
  const auto codes = hn::LoadU(d, from);
  constexpr size_t kBlocks = hn::MaxLanes(D()) / 16;
  if constexpr (kBlocks == 1) {
    return codes;
  } else {
    using Part = std::conditional_t<sizeof(T) == 2, uint64_t, uint32_t>;
    constexpr size_t kParts = 16 / sizeof(Part);
    const hn::Repartition<Part, D> dp;
    HWY_ALIGN Part order[kBlocks * kParts];
    for (size_t block = 0; block < kBlocks; ++block) {
      for (size_t part = 0; part < kParts; ++part) {
        order[block * kParts + part] = static_cast<Part>(part * kBlocks + block);
      }
    }
    const auto indices = hn::SetTableIndices(dp, order);
    return hn::BitCast(d, hn::TableLookupLanes(hn::BitCast(dp, codes), indices));
  }
}

template <class D, class V>
HWY_INLINE void store_bf16(D d, V bits, Bf16* to) {
  hn::StoreU(bits, d, reinterpret_cast<uint16_t*>(to));
}
template <class D, class V>
HWY_INLINE void store_bf16(D d, V bits, float* to) {
  const hn::Repartition<float, D> df;
  const auto zero = hn::Zero(d);
  hn::StoreU(hn::BitCast(df, hn::InterleaveLower(d, zero, bits)), df, to);
  hn::StoreU(hn::BitCast(df, hn::InterleaveUpper(d, zero, bits)), df, to + hn::MaxLanes(df));
}

// Codes by the vector of up to kMost.
template <size_t kMost>
class StepVector {
 public:
  using D = hn::CappedTag<uint8_t, kMost>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

  HWY_INLINE explicit StepVector(const E4m3Steps& steps)
      : from_low_(hn::LoadDup128(D(), steps.from_low)),
        lower_(hn::LoadDup128(D(), steps.lower)),
        magnitude_(set(steps.magnitude)),
        nibble_(set(steps.nibble)),
        sign_(set(steps.sign)),
        upper_(set(steps.upper)) {}

  // Each half of the codes has an addend. Raises `most` to the largest s + 112, which is 255 for
  // NaN: what is stored then is wrong.
  template <typename T>
  HWY_INLINE void decode(
      const uint8_t* from, uint32_t first_addend, uint32_t second_addend, hn::Vec<D>* most, T* to)
      const {
    const D d;
    const D16 d16;
    const auto code = load_codes<T>(d, from);
    const auto magnitude = hn::And(code, magnitude_);
    const auto step =
        hn::Add(magnitude, hn::TableLookupBytes(from_low_, hn::Min(magnitude, nibble_)));
    *most = hn::Max(*most, step);
    const auto low = hn::TableLookupBytes(lower_, hn::And(step, nibble_));
    const auto shifted = hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, step)));
    const auto high = hn::Or(hn::And(shifted, nibble_), hn::And(code, sign_));
    const auto first = hn::BitCast(d16, hn::InterleaveLower(d, low, high));
    const auto second = hn::BitCast(d16, hn::InterleaveUpper(d, low, high));
    store_bf16(d16, finish(first, first_addend), to);
    store_bf16(d16, finish(second, second_addend), to + kLanes / 2);
  }
  static HWY_INLINE bool finite(hn::Vec<D> most) {
    return hn::AllTrue(D(), hn::Lt(most, hn::Set(D(), uint8_t{255})));
  }

 private:
  using D16 = hn::Repartition<uint16_t, D>;
  using D32 = hn::Repartition<uint32_t, D>;

  static HWY_INLINE hn::Vec<D> set(uint32_t bytes) {
    return hn::BitCast(D(), hn::Set(D32(), bytes));
  }
  HWY_INLINE hn::Vec<D16> finish(hn::Vec<D16> bits, uint32_t addend) const {
    const D16 d16;
    const auto more = hn::BitCast(d16, hn::Set(D32(), addend));
    const auto upper = hn::BitCast(d16, upper_);
#if HWY_TARGET == HWY_AVX3
    // Here TestBit() finds any of several bits.
    return hn::IfThenElse(hn::TestBit(bits, upper), hn::Add(bits, more), bits);
#else
    const auto zero = hn::Eq(hn::And(bits, upper), hn::Zero(d16));
    return hn::Add(bits, hn::IfThenZeroElse(zero, more));
#endif
  }

  hn::Vec<D> from_low_;
  hn::Vec<D> lower_;
  hn::Vec<D> magnitude_;
  hn::Vec<D> nibble_;
  hn::Vec<D> sign_;
  hn::Vec<D> upper_;
};

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
