#include "memory/table/row_decode.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/row_decode.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/base/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

// How far ahead rows are requested: enough lines to keep the core's miss buffers full, few enough
// to still be in its first cache when their turn comes.
constexpr int64_t kAheadBytes = 4096;
constexpr uint64_t kLine = 64;

HWY_INLINE void store(FloatVec value, float* to) {
  hn::StoreU(value, FloatTag(), to);
}
HWY_INLINE void store(FloatVec value, Bf16* to) {
  hn::StoreU(round_to_bf16(value), HalfWordTag(), reinterpret_cast<uint16_t*>(to));
}

struct FromBf16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE FloatVec load(const uint8_t* from) {
    return widen_bf16(hn::LoadU(HalfWordTag(), reinterpret_cast<const uint16_t*>(from)));
  }
};
struct FromF16 {
  static constexpr int64_t kBytes = 2;
  static HWY_INLINE FloatVec load(const uint8_t* from) {
    return widen_f16(reinterpret_cast<const uint16_t*>(from));
  }
};
struct FromF32 {
  static constexpr int64_t kBytes = 4;
  static HWY_INLINE FloatVec load(const uint8_t* from) {
    return hn::LoadU(FloatTag(), reinterpret_cast<const float*>(from));
  }
};

// A row of independent elements; what does not fill a vector goes through a buffer.
template <typename From, typename T>
HWY_INLINE void convert_row(const uint8_t* from, int64_t width, T* to) {
  int64_t i = 0;
  for (; i + kFloatLanes <= width; i += kFloatLanes) {
    store(From::load(from + i * From::kBytes), to + i);
  }
  const int64_t left = width - i;
  if (kFloatLanes == 1 || left <= 0) return;
  uint8_t in[kFloatLanes * From::kBytes] = {};
  T out[kFloatLanes];
  std::memcpy(in, from + i * From::kBytes, static_cast<size_t>(left * From::kBytes));
  store(From::load(in), out);
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
HWY_INLINE void scale_row(const uint8_t* from, const uint8_t* scales, int64_t width, T* to) {
  for (int64_t block = 0; block < width / 32; ++block) {
    const uint32_t code = scales[block];
    const uint32_t bits = code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : code << 23;
    const FloatVec scale = hn::Set(FloatTag(), std::bit_cast<float>(bits));
    for (int64_t i = block * 32; i < block * 32 + 32; i += kFloatLanes) {
      store(hn::Mul(widen_e4m3(from + i), scale), to + i);
    }
  }
}

HWY_INLINE void prefetch_row(const RowGather& g, int64_t index) {
  const int64_t id = g.ids[index];
  ENGRAM_CHECK(id >= 0);
  ENGRAM_CHECK(id < g.rows);
  // A row need not begin on a line.
  const uint64_t begin = reinterpret_cast<uint64_t>(g.values + id * g.value_bytes);
  const uint64_t end = begin + static_cast<uint64_t>(g.value_bytes);
  for (uint64_t line = begin / kLine * kLine; line < end; line += kLine) {
    hwy::Prefetch(reinterpret_cast<const uint8_t*>(line));
  }
  if (g.scales != nullptr) hwy::Prefetch(g.scales + id * g.scale_bytes);
}

// decode(id, to) for each row, with the rows that follow on their way.
template <typename T, typename Decode>
HWY_INLINE void for_each_row(const RowGather& gather, const Decode& decode) {
  const RowGather g = gather;  // a copy of its own: stores to `out` cannot change it
  const int64_t count = g.tokens * g.columns;
  const int64_t ahead = std::max<int64_t>(4, kAheadBytes / (g.value_bytes + g.scale_bytes));
  for (int64_t i = 0; i < std::min(ahead, count); ++i) prefetch_row(g, i);
  int64_t index = 0;
  for (int64_t t = 0; t < g.tokens; ++t) {
    ENGRAM_CHECK(g.slots[t] >= 0);
    ENGRAM_CHECK(g.slots[t] < g.out.rows);
    T* to = g.out.row<T>(g.slots[t]);
    for (int64_t h = 0; h < g.columns; ++h, ++index) {
      if (index + ahead < count) prefetch_row(g, index + ahead);
      decode(g.ids[index], to + h * g.width);
    }
  }
}

template <typename From, typename T>
void convert_rows(const RowGather& g) {
  for_each_row<T>(g, [&g](int64_t id, T* to) HWY_ATTR {
    convert_row<From>(g.values + id * g.value_bytes, g.width, to);
  });
}

template <typename T>
void copy_rows(const RowGather& g) {
  for_each_row<T>(g, [&g](int64_t id, T* to) HWY_ATTR {
    copy_row(g.values + id * g.value_bytes, g.value_bytes, reinterpret_cast<uint8_t*>(to));
  });
}

template <typename T>
void scale_rows(const RowGather& g) {
  for_each_row<T>(g, [&g](int64_t id, T* to) HWY_ATTR {
    scale_row(g.values + id * g.value_bytes, g.scales + id * g.scale_bytes, g.width, to);
  });
}

void decode_rows(const RowGather& g) {
  const bool wide = g.out.dtype == DType::kF32;
  switch (g.codec) {
    case RowCodec::kBf16:
      return wide ? convert_rows<FromBf16, float>(g) : copy_rows<Bf16>(g);
    case RowCodec::kF16:
      return wide ? convert_rows<FromF16, float>(g) : convert_rows<FromF16, Bf16>(g);
    case RowCodec::kF32:
      return wide ? copy_rows<float>(g) : convert_rows<FromF32, Bf16>(g);
    case RowCodec::kF8Ue8m0:
      return wide ? scale_rows<float>(g) : scale_rows<Bf16>(g);
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::memory {

HWY_EXPORT(decode_rows);

void decode_rows(const RowGather& gather) {
  if (gather.tokens * gather.columns == 0 || gather.width == 0) return;
  HWY_DYNAMIC_DISPATCH(decode_rows)(gather);
}

}  // namespace engram::memory
#endif
