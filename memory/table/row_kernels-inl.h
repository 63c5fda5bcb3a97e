// One stored row to activations, for every codec. Included once per vector target, see Highway's
// foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstring>

#include "memory/base/widen-inl.h"
#include "memory/table/geometry.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

HWY_INLINE void store(FloatVec value, float* to) {
  hn::StoreU(value, FloatTag(), to);
}
HWY_INLINE void store(FloatVec value, Bf16* to) {
  hn::StoreU(round_to_bf16(value), HalfWordTag(), reinterpret_cast<uint16_t*>(to));
}

// Whether the target has an instruction for f16. Without one, rows take the plain paths below.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
constexpr bool kHasF16 = true;
#else
constexpr bool kHasF16 = false;
#endif

// How finite floats become bf16.
enum class Narrow { kExact, kRound };

// The upper halves of two vectors, one after the other: bf16 of numbers that have no more bits.
template <Narrow kNarrow>
HWY_INLINE void store_two(FloatVec low, FloatVec high, Bf16* to) {
#if HWY_TARGET == HWY_SCALAR
  store(low, to);
  store(high, to + 1);
#else
  const WordTag du;
  const hn::Repartition<uint16_t, FloatTag> d16;
  WordVec words[2] = {hn::BitCast(du, low), hn::BitCast(du, high)};
  if constexpr (kNarrow == Narrow::kRound) {
    // To nearest even. A NaN could overflow here, so there must be none.
    for (WordVec& word : words) {
      const WordVec odd = hn::And(hn::ShiftRight<16>(word), hn::Set(du, 1u));
      word = hn::Add(word, hn::Add(odd, hn::Set(du, 0x7fffu)));
    }
  }
  hn::StoreU(
      hn::ConcatOdd(d16, hn::BitCast(d16, words[1]), hn::BitCast(d16, words[0])), d16,
      reinterpret_cast<uint16_t*>(to));
#endif
}
template <Narrow kNarrow>
HWY_INLINE void store_two(FloatVec low, FloatVec high, float* to) {
  hn::StoreU(low, FloatTag(), to);
  hn::StoreU(high, FloatTag(), to + kFloatLanes);
}

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

// Elements [i, i + kFloatLanes) of a row.
struct FromBf16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    return widen_bf16(hn::LoadU(HalfWordTag(), reinterpret_cast<const uint16_t*>(row + 2 * i)));
  }
};
struct FromF16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    return widen_f16(reinterpret_cast<const uint16_t*>(row + 2 * i));
  }
};
struct FromF32 {
  static constexpr int64_t kBytes = 4;
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) {
    return hn::LoadU(FloatTag(), reinterpret_cast<const float*>(row + 4 * i));
  }
};
struct FromE4m3 {
  static constexpr int64_t kBytes = 1;
  static HWY_INLINE FloatVec load(const uint8_t* row, int64_t i) { return widen_e4m3(row + i); }
};
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

struct Unscaled {
  HWY_INLINE FloatVec operator()(FloatVec value) const { return value; }
};
struct ScaledBy {
  float factor;
  HWY_INLINE FloatVec operator()(FloatVec value) const {
    return hn::Mul(value, hn::Set(FloatTag(), factor));
  }
};

// A row of independent elements; what does not fill a vector goes through a buffer.
template <typename From, typename Scale, typename T>
HWY_INLINE void convert_row(const uint8_t* from, int64_t width, Scale scale, T* to) {
  int64_t i = 0;
  for (; i + kFloatLanes <= width; i += kFloatLanes) {
    store(scale(From::load(from, i)), to + i);
  }
  const int64_t left = width - i;
  if (kFloatLanes == 1 || left <= 0) return;
  uint8_t in[kFloatLanes * From::kBytes] = {};
  T out[kFloatLanes];
  std::memcpy(in, from + i * From::kBytes, static_cast<size_t>(left * From::kBytes));
  store(scale(From::load(in, 0)), out);
  std::memcpy(to + i, out, static_cast<size_t>(left) * sizeof(T));
}

HWY_INLINE void copy_row(const uint8_t* from, int64_t bytes, uint8_t* to) {
  const hn::CappedTag<uint8_t, 64> d;
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<uint8_t, 64>()));
  if (bytes < kStep) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  int64_t i = 0;
  for (; i + kStep <= bytes; i += kStep) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  if (i < bytes) hn::StoreU(hn::LoadU(d, from + bytes - kStep), d, to + bytes - kStep);
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

// Scales are made ready for so many blocks or groups at a time.
constexpr int64_t kFactors = 8;

// 256 times the scales of up to kFactors blocks. False when one is not between 2^-117 and 2^119,
// where products are normal floats and exact in bf16.
HWY_INLINE bool ue8m0_factors(const uint8_t* scales, int64_t count, float* factors) {
  uint8_t codes[kFactors];
  if (count == kFactors) {
    std::memcpy(codes, scales, kFactors);
  } else {
    std::memset(codes, 127, kFactors);
    for (int64_t i = 0; i < count; ++i) codes[i] = scales[i];
  }
  uint32_t outside = 0;
  for (int64_t i = 0; i < kFactors; ++i) {
    const uint32_t code = codes[i];
    outside |= static_cast<uint32_t>(code - 10u > 236u);
    factors[i] = std::bit_cast<float>((code + 8u) << 23);
  }
  return outside == 0;
}

template <typename T>
HWY_INLINE void scale_blocks(const uint8_t* from, const uint8_t* scales, int64_t width, T* to) {
  const bool plain = kHasF16 && !has_nan_code(from, width);
  for (int64_t begin = 0; begin < width; begin += 32 * kFactors, scales += kFactors) {
    const int64_t end = HWY_MIN(begin + 32 * kFactors, width);
    float factors[kFactors];
    if (!plain || !ue8m0_factors(scales, (end - begin) / 32, factors)) {
      for (int64_t i = begin; i < end; i += 32) {
        scale_block(from + i, scales[(i - begin) / 32], to + i);
      }
      continue;
    }
    for (int64_t i = begin; i < end; i += 32) {
      const FloatVec scale = hn::Set(FloatTag(), factors[(i - begin) / 32]);
      for (int64_t k = i; k < i + 32; k += 2 * kFloatLanes) {
        FloatVec low;
        FloatVec high;
        widen_e4m3_over_256(from + k, &low, &high);
        store_two<Narrow::kExact>(hn::Mul(low, scale), hn::Mul(high, scale), to + k);
      }
    }
  }
}

// e4m3 values with one scale; as convert_row() does it, but two vectors at a time.
template <typename T>
HWY_INLINE void scale_row(const uint8_t* from, int64_t width, float factor, T* to) {
  int64_t i = 0;
  if (kHasF16 && factor <= 0x1p100f && !has_nan_code(from, width)) {
    const FloatVec scale = hn::Set(FloatTag(), 256.f * factor);
    for (; i + 2 * kFloatLanes <= width; i += 2 * kFloatLanes) {
      FloatVec low;
      FloatVec high;
      widen_e4m3_over_256(from + i, &low, &high);
      store_two<Narrow::kRound>(hn::Mul(low, scale), hn::Mul(high, scale), to + i);
    }
  }
  convert_row<FromE4m3>(from + i, width - i, ScaledBy{factor}, to + i);
}

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
          store_two<Narrow::kRound>(
              hn::Mul(From::load(from, i), scale),
              hn::Mul(From::load(from, i + kFloatLanes), scale), to + i);
        }
      }
      for (; i < end; i += kFloatLanes) store(hn::Mul(From::load(from, i), scale), to + i);
    }
  }
}

template <RowCodec kCodec, typename T>
HWY_INLINE void decode_one(
    const TableGeometry& g, const uint8_t* values, const uint8_t* scales, T* to) {
  const int64_t width = g.row_width;
  if constexpr (kCodec == RowCodec::kBf16 && sizeof(T) == 2) {
    copy_row(values, 2 * width, reinterpret_cast<uint8_t*>(to));
  } else if constexpr (kCodec == RowCodec::kBf16) {
    convert_row<FromBf16>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF16) {
    convert_row<FromF16>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF32 && sizeof(T) == 4) {
    copy_row(values, 4 * width, reinterpret_cast<uint8_t*>(to));
  } else if constexpr (kCodec == RowCodec::kF32) {
    convert_row<FromF32>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF8Ue8m0) {
    scale_blocks(values, scales, width, to);
  } else if constexpr (kCodec == RowCodec::kF8Tensor) {
    scale_row(values, width, g.tensor_scale, to);
  } else if constexpr (kCodec == RowCodec::kInt8) {
    scale_groups<FromInt8>(values, scales, width, g.group, to);
  } else {
    static_assert(kCodec == RowCodec::kInt4);
    scale_groups<FromInt4>(values, scales, width, g.group, to);
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
