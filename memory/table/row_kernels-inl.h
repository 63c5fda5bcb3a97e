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

// e4m3 values in blocks of 32 with a power of two each.
template <typename T>
HWY_INLINE void scale_blocks(const uint8_t* from, const uint8_t* scales, int64_t width, T* to) {
  for (int64_t block = 0; block < width / 32; ++block) {
    const uint32_t code = scales[block];
    const uint32_t bits = code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : code << 23;
    const FloatVec scale = hn::Set(FloatTag(), std::bit_cast<float>(bits));
    for (int64_t i = block * 32; i < block * 32 + 32; i += kFloatLanes) {
      store(hn::Mul(widen_e4m3(from + i), scale), to + i);
    }
  }
}

HWY_INLINE float load_half(const uint8_t* from) {
  uint16_t bits = 0;
  std::memcpy(&bits, from, 2);
  if ((bits & 0x7c00) == 0x7c00) return half_to_float({bits});
  const float magnitude = std::bit_cast<float>((bits & 0x7fffu) << 13) * 0x1p112f;
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Integers in groups with an f16 scale each.
template <typename From, typename T>
HWY_INLINE void scale_groups(
    const uint8_t* from, const uint8_t* scales, int64_t width, int64_t group, T* to) {
  for (int64_t begin = 0; begin < width; begin += group, scales += 2) {
    const FloatVec scale = hn::Set(FloatTag(), load_half(scales));
    for (int64_t i = begin; i < begin + group; i += kFloatLanes) {
      store(hn::Mul(From::load(from, i), scale), to + i);
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
    convert_row<FromE4m3>(values, width, ScaledBy{g.tensor_scale}, to);
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
