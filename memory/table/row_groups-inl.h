// Rows of integers in groups with a scale each to activations. Included once per vector target, see
// Highway's foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_GROUPS_INL_H
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "memory/table/row_convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

// Elements from the i-th on, to floats or, for vectors of twice as many, to 16-bit integers.
#if HWY_TARGET != HWY_SCALAR
using ShortTag = hn::Repartition<int16_t, FloatTag>;
using ShortVec = hn::Vec<ShortTag>;
#endif

struct FromInt8 {
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    const hn::Rebind<int8_t, FloatTag> d8;
    const hn::RebindToSigned<FloatTag> d32;
    const int8_t* from = reinterpret_cast<const int8_t*>(row + i);
    return hn::ConvertTo(FloatTag(), hn::PromoteTo(d32, hn::LoadU(d8, from)));
  }
#if HWY_TARGET != HWY_SCALAR
  static HWY_INLINE ShortVec load_shorts(const uint8_t* row, int64_t i) {
    const hn::Rebind<int8_t, ShortTag> d8;
    return hn::PromoteTo(ShortTag(), hn::LoadU(d8, reinterpret_cast<const int8_t*>(row + i)));
  }
#endif
};

struct FromInt4 {
#if HWY_TARGET == HWY_SCALAR
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    const int32_t nibble = row[i / 2] >> (4 * (i % 2)) & 15;
    return hn::Set(FloatTag(), static_cast<float>((nibble ^ 8) - 8));
  }
#else
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    const hn::RebindToSigned<FloatTag> d32;
    const auto codes = unpack(hn::Rebind<uint8_t, FloatTag>(), row + i / 2);
    return hn::ConvertTo(FloatTag(), hn::PromoteTo(d32, codes));
  }
  static HWY_INLINE ShortVec load_shorts(const uint8_t* row, int64_t i) {
    return hn::PromoteTo(ShortTag(), unpack(hn::Rebind<uint8_t, ShortTag>(), row + i / 2));
  }

  // Codes without their sign.
  template <class D>
  static HWY_INLINE hn::Vec<D> nibbles(D d, const uint8_t* from) {
    const auto packed = hn::ZeroExtendVector(d, hn::LoadU(hn::Half<D>(), from));
    const auto mask = hn::Set(d, uint8_t{15});
    return hn::InterleaveLower(d, hn::And(packed, mask), hn::And(hn::ShiftRight<4>(packed), mask));
  }

 private:
  template <class D>
  static HWY_INLINE hn::Vec<hn::RebindToSigned<D>> unpack(D d, const uint8_t* from) {
    const auto eight = hn::Set(d, uint8_t{8});
    const auto codes = hn::Sub(hn::Xor(nibbles(d, from), eight), eight);
    return hn::BitCast(hn::RebindToSigned<D>(), codes);
  }
#endif
};

// Integers become floats as the low bits of this larger one, 2^23 + 2^15, in store_products().
constexpr float kLarger = 0x1.01p23f;

// The f16 scales of up to kFactors groups.
struct GroupScales {
  HWY_ALIGN float factors[kFactors];
  HWY_ALIGN float less[kFactors];  // the products of the factors and -kLarger
  bool usual = false;              // all are positive numbers; never on targets without f16

  HWY_INLINE GroupScales(const uint8_t* scales, int64_t count) {
    HWY_ALIGN uint16_t halves[kFactors];
    for (uint16_t& half : halves) half = 0x3c00;  // 1
    std::memcpy(halves, scales, static_cast<size_t>(2 * count));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
    const hn::CappedTag<float, kFactors> d;
    const hn::Rebind<hwy::float16_t, decltype(d)> dh;
    const hn::Rebind<uint16_t, decltype(d)> d16;
    auto greatest = hn::Zero(d16);
    for (int64_t i = 0; i < kFactors; i += static_cast<int64_t>(hn::MaxLanes(d))) {
      const auto part = hn::Load(d16, halves + i);
      greatest = hn::Max(greatest, hn::Sub(part, hn::Set(d16, uint16_t{1})));
      const auto factor = hn::PromoteTo(d, hn::BitCast(dh, part));
      hn::Store(factor, d, factors + i);
      hn::Store(hn::Mul(factor, hn::Set(d, -kLarger)), d, less + i);
    }
    usual = hn::AllTrue(d16, hn::Lt(greatest, hn::Set(d16, uint16_t{0x7bff})));
    // Read back from memory a value fills a vector for nothing; from a register it does not.
    asm("" : "+m"(factors), "+m"(less));
#else
    for (int64_t i = 0; i < kFactors; ++i) factors[i] = half_to_float({halves[i]});
#endif
  }
};

#if HWY_TARGET != HWY_SCALAR
// To bf16, ties to even, for numbers of at most 19 bits that do not begin with 16 ones: the sum has
// its last bit where bf16 has it, and 2^16 times the number is even there.
HWY_INLINE FloatVec round_short(FloatVec value) {
  const FloatTag d;
  const FloatVec sum = hn::Mul(value, hn::Set(d, 65537.f));
  return hn::NegMulAdd(value, hn::Set(d, 65536.f), sum);
}

// Integers of up to 8 bits times a positive f16. No step rounds but the last.
HWY_INLINE void store_products(ShortVec codes, float factor, float less, Bf16* to) {
  const FloatTag d;
  const WordTag du;
  const WordVec pairs = hn::BitCast(du, codes);
  const WordVec larger = hn::Set(du, std::bit_cast<uint32_t>(kLarger));
  const WordVec even = hn::Xor(hn::And(pairs, hn::Set(du, 0xffffu)), larger);
  const WordVec odd = hn::Xor(hn::ShiftRight<16>(pairs), larger);
  const FloatVec scale = hn::Set(d, factor);
  const FloatVec back = hn::Set(d, less);
  const FloatVec low = round_short(hn::MulAdd(hn::BitCast(d, even), scale, back));
  const FloatVec high = round_short(hn::MulAdd(hn::BitCast(d, odd), scale, back));
  const WordVec both = hn::Or(hn::ShiftRight<16>(hn::BitCast(du, low)), hn::BitCast(du, high));
  hn::StoreU(both, du, reinterpret_cast<uint32_t*>(to));
}

// int4 of one group, 32 at a time: looked up among the products of all 16 codes, where a vector
// holds so many.
constexpr bool kLooksUp = kFloatLanes == 16;

HWY_INLINE FloatVec all_products(float factor) {
  HWY_ALIGN constexpr float kCodes[16] = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
  return hn::Mul(hn::Load(FloatTag(), kCodes), hn::Set(FloatTag(), factor));
}
HWY_INLINE WordVec look_up(FloatVec products, WordVec codes) {
  const auto indices = hn::IndicesFromVec(FloatTag(), codes);
  return hn::BitCast(WordTag(), hn::TableLookupLanes(products, indices));
}
HWY_INLINE void store_look_ups(const uint8_t* from, float factor, Bf16* to) {
  const WordTag du;
  const FloatVec products = round_short(all_products(factor));
  const WordVec pairs = hn::PromoteTo(du, hn::LoadU(hn::Rebind<uint8_t, FloatTag>(), from));
  const WordVec even = look_up(products, hn::And(pairs, hn::Set(du, 15u)));
  const WordVec odd = look_up(products, hn::ShiftRight<4>(pairs));
  hn::StoreU(hn::Or(hn::ShiftRight<16>(even), odd), du, reinterpret_cast<uint32_t*>(to));
}
HWY_INLINE void store_look_ups(const uint8_t* from, float factor, float* to) {
  const WordTag du;
  const FloatVec products = all_products(factor);
  for (int64_t i = 0; i < 32; i += kFloatLanes) {
    const auto codes = FromInt4::nibbles(hn::Rebind<uint8_t, FloatTag>(), from + i / 2);
    hn::StoreU(
        look_up(products, hn::PromoteTo(du, codes)), du, reinterpret_cast<uint32_t*>(to + i));
  }
}
#endif

// Elements [begin, end) of one group; a group is a multiple of 16.
template <typename From, typename T>
HWY_INLINE void scale_group(
    const uint8_t* row,
    int64_t begin,
    int64_t end,
    float factor,
    [[maybe_unused]] float less,
    T* to) {
  int64_t i = begin;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kLooksUp && std::is_same_v<From, FromInt4>) {
    for (; i + 32 <= end; i += 32) store_look_ups(row + i / 2, factor, to + i);
  }
  if constexpr (sizeof(T) == 2) {
    for (; i + 2 * kFloatLanes <= end; i += 2 * kFloatLanes) {
      store_products(From::load_shorts(row, i), factor, less, to + i);
    }
  }
#endif
  const FloatVec scale = hn::Set(FloatTag(), factor);
  for (; i < end; i += kFloatLanes) store(hn::Mul(From::load(row, i), scale), to + i);
}

// The same with any factor.
template <typename From, typename T>
HWY_NOINLINE void scale_any_group(
    const uint8_t* row, int64_t begin, int64_t end, float factor, T* to) {
  const FloatVec scale = hn::Set(FloatTag(), factor);
  for (int64_t i = begin; i < end; i += kFloatLanes) {
    store(hn::Mul(From::load(row, i), scale), to + i);
  }
}

// Up to kFactors groups.
template <typename From, typename T>
HWY_INLINE void scale_some_groups(
    const uint8_t* row, const uint8_t* scales, int64_t begin, int64_t count, int64_t group, T* to) {
  const GroupScales ready(scales, count);
  if (ready.usual) {
    for (int64_t g = 0; g < count; ++g, begin += group) {
      scale_group<From>(row, begin, begin + group, ready.factors[g], ready.less[g], to);
    }
  } else {
    for (int64_t g = 0; g < count; ++g, begin += group) {
      scale_any_group<From>(row, begin, begin + group, ready.factors[g], to);
    }
  }
}

// Integers in groups with an f16 scale each.
template <typename From, typename T>
HWY_INLINE void scale_groups(
    const uint8_t* row, const uint8_t* scales, int64_t width, int64_t group, T* to) {
  for (int64_t begin = 0; begin < width; begin += kFactors * group, scales += 2 * kFactors) {
    if (group == 32 && width - begin >= 32 * kFactors) {
      scale_some_groups<From>(row, scales, begin, kFactors, 32, to);  // counts known beforehand
    } else {
      const int64_t count = HWY_MIN((width - begin) / group, kFactors);
      scale_some_groups<From>(row, scales, begin, count, group, to);
    }
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
