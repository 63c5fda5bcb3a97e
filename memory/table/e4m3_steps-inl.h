// e4m3 codes times a scale to bf16 by look-ups, whole vectors of codes at a time. Included once per
// vector target, see Highway's foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_E4M3_STEPS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_E4M3_STEPS_INL_H
#undef ENGRAM_MEMORY_TABLE_E4M3_STEPS_INL_H
#else
#define ENGRAM_MEMORY_TABLE_E4M3_STEPS_INL_H
#endif

#include <hwy/highway.h>

#include <type_traits>

#include "memory/base/widen-inl.h"

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
#endif

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
