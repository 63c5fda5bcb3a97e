// Rows of independent elements to activations, and what the rows with scales share. Included once
// per vector target, see Highway's foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_CONVERT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_CONVERT_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_CONVERT_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_CONVERT_INL_H
#endif

#include <hwy/highway.h>

#include <cstring>

#include "memory/base/widen-inl.h"

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

// Scales are made ready for so many blocks or groups at a time.
constexpr int64_t kFactors = 8;

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
