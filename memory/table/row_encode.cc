#include "memory/table/row_encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/row_encode.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/base/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

using ByteTag = hn::Rebind<uint8_t, FloatTag>;

struct ToBf16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE void store(FloatVec value, uint8_t* to) {
    hn::StoreU(round_to_bf16(value), HalfWordTag(), reinterpret_cast<uint16_t*>(to));
  }
};

struct ToF16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE void store(FloatVec value, uint8_t* to) {
    const FloatTag d;
    // The value second: it comes through when it is NaN.
    const FloatVec limited = hn::IfThenElse(
        hn::IsNaN(value), value,
        hn::Min(hn::Max(value, hn::Set(d, -65504.f)), hn::Set(d, 65504.f)));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
    const hn::Rebind<hwy::float16_t, FloatTag> dh;
    hn::StoreU(hn::DemoteTo(dh, limited), dh, reinterpret_cast<hwy::float16_t*>(to));
#else
    HWY_ALIGN float values[kFloatLanes];
    hn::Store(limited, d, values);
    for (int i = 0; i < kFloatLanes; ++i) {
      const F16 half = float_to_half(values[i]);
      std::memcpy(to + 2 * i, &half, 2);
    }
#endif
  }
};

HWY_INLINE void store_e4m3(FloatVec value, uint8_t* to) {
  hn::StoreU(hn::TruncateTo(ByteTag(), round_to_e4m3(value)), ByteTag(), to);
}

struct ToE4m3 {
  static constexpr int64_t kBytes = 1;
  static HWY_INLINE void store(FloatVec value, uint8_t* to) { store_e4m3(value, to); }
};

struct Undivided {
  HWY_INLINE FloatVec operator()(FloatVec value) const { return value; }
};
struct DividedBy {
  float divisor;
  HWY_INLINE FloatVec operator()(FloatVec value) const {
    return hn::Div(value, hn::Set(FloatTag(), divisor));
  }
};

// A row of independent elements; what does not fill a vector goes through a buffer.
template <typename To, typename Scale>
HWY_INLINE void convert(const float* from, int64_t width, Scale scale, uint8_t* to) {
  const FloatTag d;
  int64_t i = 0;
  for (; i + kFloatLanes <= width; i += kFloatLanes) {
    To::store(scale(hn::LoadU(d, from + i)), to + i * To::kBytes);
  }
  const int64_t left = width - i;
  if (kFloatLanes == 1 || left <= 0) return;
  float in[kFloatLanes] = {};
  uint8_t out[kFloatLanes * To::kBytes];
  std::memcpy(in, from + i, static_cast<size_t>(left) * sizeof(float));
  To::store(scale(hn::LoadU(d, in)), out);
  std::memcpy(to + i * To::kBytes, out, static_cast<size_t>(left * To::kBytes));
}

// Highway's Max may return either operand for NaN; a comparison with NaN is false.
HWY_INLINE FloatVec max_of(FloatVec most, FloatVec value) {
  const FloatVec magnitude = hn::Abs(value);
  return hn::IfThenElse(hn::Gt(magnitude, most), magnitude, most);
}

float max_magnitude(const float* values, int64_t count) {
  const FloatTag d;
  FloatVec most[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kFloatLanes <= count; i += 4 * kFloatLanes) {
    for (int k = 0; k < 4; ++k)
      most[k] = max_of(most[k], hn::LoadU(d, values + i + k * kFloatLanes));
  }
  const FloatVec all = hn::Max(hn::Max(most[0], most[1]), hn::Max(most[2], most[3]));
  float result = hn::GetLane(hn::MaxOfLanes(d, all));
  for (; i < count; ++i) {
    if (std::fabs(values[i]) > result) result = std::fabs(values[i]);
  }
  return result;
}

HWY_INLINE void encode_ue8m0(const float* from, int64_t width, uint8_t* values, uint8_t* scales) {
  for (int64_t i = 0; i < width; i += 32) {
    const FloatTag d;
    FloatVec most = hn::Zero(d);
    for (int64_t k = i; k < i + 32; k += kFloatLanes) most = max_of(most, hn::LoadU(d, from + k));
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    const uint8_t code = e8m0_scale_of(std::bit_cast<uint32_t>(largest));
    scales[i / 32] = code;
    // 2^(127 - code); the largest scale, 2^127, has a subnormal inverse.
    const uint32_t inverse = code == 254 ? 0x00400000u : (254u - code) << 23;
    const FloatVec by = hn::Set(d, std::bit_cast<float>(inverse));
    for (int64_t k = i; k < i + 32; k += kFloatLanes) {
      store_e4m3(hn::Mul(hn::LoadU(d, from + k), by), values + k);
    }
  }
}

// Integers of one width: their range and how to store them.
struct Int8 {
  static constexpr float kLeast = -127.f;
  static constexpr float kMost = 127.f;
  // amax over these is tried as the scale; 128 values hardly gain from clipping the largest.
  static constexpr float kDivisors[] = {127.f};
  static HWY_INLINE void store(FloatVec rounded, uint8_t* row, int64_t i) {
    const hn::RebindToSigned<FloatTag> d32;
    const WordVec codes = hn::BitCast(WordTag(), hn::ConvertTo(d32, rounded));
    hn::StoreU(hn::TruncateTo(ByteTag(), codes), ByteTag(), row + i);
  }
};
struct Int4 {
  static constexpr float kLeast = -8.f;
  static constexpr float kMost = 7.f;
  // Negative: the largest value becomes negative, where there is one integer more.
  static constexpr float kDivisors[] = {-8.f, -7.5f, -8.5f, -9.2f, 7.f, 7.6f};
  static HWY_INLINE void store(FloatVec rounded, uint8_t* row, int64_t i) {
    const hn::RebindToSigned<FloatTag> d32;
    const WordVec codes =
        hn::And(hn::BitCast(WordTag(), hn::ConvertTo(d32, rounded)), hn::Set(WordTag(), 15u));
#if HWY_TARGET == HWY_SCALAR
    const uint8_t code = static_cast<uint8_t>(hn::GetLane(codes));
    row[i / 2] = i % 2 == 0 ? code : static_cast<uint8_t>(row[i / 2] | code << 4);
#else
    // Two codes in each 64-bit lane become one byte.
    const hn::Repartition<uint64_t, FloatTag> d64;
    const hn::Rebind<uint8_t, decltype(d64)> d8;
    const auto pairs = hn::BitCast(d64, codes);
    const auto packed = hn::And(hn::Or(pairs, hn::ShiftRight<28>(pairs)), hn::Set(d64, 255u));
    hn::StoreU(hn::TruncateTo(d8, packed), d8, row + i / 2);
#endif
  }
};

template <typename Int>
HWY_INLINE FloatVec quantise(FloatVec value, FloatVec inverse) {
  const FloatTag d;
  const FloatVec rounded = hn::Round(hn::Mul(value, inverse));
  return hn::Min(hn::Max(rounded, hn::Set(d, Int::kLeast)), hn::Set(d, Int::kMost));
}

struct GroupFit {
  float error = 0.f;  // squared
  float dot = 0.f;    // integers times values
  float norm = 0.f;   // integers squared
};

template <typename Int>
HWY_INLINE GroupFit fit(const float* from, int64_t group, float scale) {
  const FloatTag d;
  const FloatVec by = hn::Set(d, scale);
  const FloatVec inverse = hn::Set(d, scale == 0.f ? 0.f : 1.f / scale);
  FloatVec error = hn::Zero(d);
  FloatVec dot = error;
  FloatVec norm = error;
  for (int64_t i = 0; i < group; i += kFloatLanes) {
    const FloatVec x = hn::LoadU(d, from + i);
    const FloatVec q = quantise<Int>(x, inverse);
    const FloatVec miss = hn::NegMulAdd(q, by, x);
    error = hn::MulAdd(miss, miss, error);
    dot = hn::MulAdd(q, x, dot);
    norm = hn::MulAdd(q, q, norm);
  }
  return {
      hn::GetLane(hn::SumOfLanes(d, error)), hn::GetLane(hn::SumOfLanes(d, dot)),
      hn::GetLane(hn::SumOfLanes(d, norm))};
}

// The value of largest magnitude, with its sign.
HWY_INLINE float extreme(const float* from, int64_t group) {
  const FloatTag d;
  FloatVec low = hn::Zero(d);
  FloatVec high = low;
  for (int64_t i = 0; i < group; i += kFloatLanes) {
    const FloatVec x = hn::LoadU(d, from + i);
    low = hn::IfThenElse(hn::Lt(x, low), x, low);
    high = hn::IfThenElse(hn::Gt(x, high), x, high);
  }
  const float least = hn::GetLane(hn::MinOfLanes(d, low));
  const float most = hn::GetLane(hn::MaxOfLanes(d, high));
  return -least > most ? least : most;
}

// To the nearest f16 that is finite.
HWY_INLINE float as_half(float scale, F16* stored) {
  *stored = float_to_half(std::clamp(scale, -65504.f, 65504.f));
  return half_to_float(*stored);
}

template <typename Int>
HWY_INLINE float best_scale(const float* from, int64_t group, F16* stored) {
  const float most = extreme(from, group);
  *stored = {};
  float best = 0.f;
  GroupFit best_fit;
  bool found = false;
  const auto consider = [&](float wanted) HWY_ATTR {
    F16 half;
    const float scale = as_half(wanted, &half);
    const GroupFit candidate = fit<Int>(from, group, scale);
    if (found && !(candidate.error < best_fit.error)) return;
    found = true;
    best = scale;
    best_fit = candidate;
    *stored = half;
  };
  if (most == 0.f) return 0.f;
  for (const float divisor : Int::kDivisors) consider(most / divisor);
  if (best_fit.norm > 0.f) consider(best_fit.dot / best_fit.norm);
  return best;
}

template <typename Int>
HWY_INLINE void encode_groups(
    const float* from, int64_t width, int64_t group, uint8_t* values, uint8_t* scales) {
  const FloatTag d;
  for (int64_t begin = 0; begin < width; begin += group, scales += 2) {
    F16 stored;
    const float scale = best_scale<Int>(from + begin, group, &stored);
    std::memcpy(scales, &stored, 2);
    const FloatVec inverse = hn::Set(d, scale == 0.f ? 0.f : 1.f / scale);
    for (int64_t i = begin; i < begin + group; i += kFloatLanes) {
      const FloatVec x = hn::LoadU(d, from + i);
      const FloatVec q = quantise<Int>(hn::IfThenZeroElse(hn::IsNaN(x), x), inverse);
      Int::store(q, values, i);
    }
  }
}

void encode_rows(const TableGeometry& g, const float* rows, int64_t count, const RowTarget& to) {
  const int64_t width = g.row_width;
  for (int64_t r = 0; r < count; ++r) {
    const float* from = rows + r * width;
    uint8_t* values = to.values + r * to.value_stride;
    uint8_t* scales = g.scale_group() > 0 ? to.scales + r * to.scale_stride : nullptr;
    switch (g.codec) {
      case RowCodec::kF32:
        std::memcpy(values, from, static_cast<size_t>(width) * sizeof(float));
        break;
      case RowCodec::kBf16:
        convert<ToBf16>(from, width, Undivided(), values);
        break;
      case RowCodec::kF16:
        convert<ToF16>(from, width, Undivided(), values);
        break;
      case RowCodec::kF8Tensor:
        convert<ToE4m3>(from, width, DividedBy{g.tensor_scale}, values);
        break;
      case RowCodec::kF8Ue8m0:
        encode_ue8m0(from, width, values, scales);
        break;
      case RowCodec::kInt8:
        encode_groups<Int8>(from, width, g.group, values, scales);
        break;
      case RowCodec::kInt4:
        encode_groups<Int4>(from, width, g.group, values, scales);
        break;
    }
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::memory {

HWY_EXPORT(encode_rows);
HWY_EXPORT(max_magnitude);

void encode_rows(
    const TableGeometry& geometry, const float* rows, int64_t count, const RowTarget& to) {
  HWY_DYNAMIC_DISPATCH(encode_rows)(geometry, rows, count, to);
}

float max_magnitude(const float* values, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(max_magnitude)(values, count);
}

float e4m3_tensor_scale(float table_max_magnitude) {
  const float scale = table_max_magnitude / 448.f;
  return scale > 0.f && std::isfinite(scale) ? scale : 1.f;
}

}  // namespace engram::memory
#endif
