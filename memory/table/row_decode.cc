#include "memory/table/row_decode.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/row_decode.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/table/row_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

constexpr int64_t kLine = 64;

// The lines of `bytes` bytes that may begin anywhere. As many requests for every row, the last one
// perhaps twice: a loop that ends a step earlier for some rows costs more, by the wrong guess.
struct Lines {
  int64_t lines = 0;  // requests at multiples of a line
  int64_t last = 0;   // offset of the last byte

  explicit Lines(int64_t bytes) : lines((bytes + kLine - 1) / kLine), last(bytes - 1) {}
  // kLocality as __builtin_prefetch() has it: 3 into the first-level cache, 2 into the second.
  template <int kLocality>
  HWY_INLINE void prefetch(const uint8_t* from) const {
    // Without a loop for rows as they are in use: its counting would cost as much as the requests.
    switch (lines) {
      default:
        for (int64_t i = 6; i < lines; ++i) __builtin_prefetch(from + i * kLine, 0, kLocality);
        [[fallthrough]];
      case 6:
        __builtin_prefetch(from + 5 * kLine, 0, kLocality);
        [[fallthrough]];
      case 5:
        __builtin_prefetch(from + 4 * kLine, 0, kLocality);
        [[fallthrough]];
      case 4:
        __builtin_prefetch(from + 3 * kLine, 0, kLocality);
        [[fallthrough]];
      case 3:
        __builtin_prefetch(from + 2 * kLine, 0, kLocality);
        [[fallthrough]];
      case 2:
        __builtin_prefetch(from + kLine, 0, kLocality);
        [[fallthrough]];
      case 1:
        __builtin_prefetch(from, 0, kLocality);
    }
    __builtin_prefetch(from + last, 0, kLocality);
  }
};

// Requests rows ahead of their decoding, so far that decoding never waits for bytes and so little
// that they stay a small part of the second-level cache. That cache takes three times as many
// requests at a time as the first, which then has the rows from near by.
//
// With kTranslateFirst a row's first line is asked for earlier than the others, for its address.
// The processors measured (Intel) go on past a request without its bytes, but not without its
// translation, and look no further than some 500 instructions past one that waits. Translations in
// large tables take hundreds of nanoseconds and go ten at a time; but decoding a row takes 100 to
// 200 instructions: asked for one by one between the rows, only three would be under way. So the
// rows of a group are asked for several at a time, beside the first rows of the group before. Where
// a row is only copied, enough are within reach anyhow, and a second request is not worth its cost.
template <bool kTranslateFirst>
class RowRequests {
 public:
  RowRequests(const RowGather& gather, int64_t rows, int64_t count)
      : place_(gather.place),
        ids_(gather.ids),
        rows_(rows),
        count_(count),
        ahead_(std::max<int64_t>(
            4, kAheadBytes / (gather.geometry->value_bytes() + gather.geometry->scale_bytes()))),
        apart_(gather.geometry->scale_bytes() > 0 && !scales_behind(gather)),
        values_(
            gather.geometry->value_bytes() +
            (scales_behind(gather) ? gather.geometry->scale_bytes() : 0)),
        scales_(gather.geometry->scale_bytes()) {}

  // Before the first row.
  HWY_INLINE void begin() {
    if (count_ <= ahead_) {
      // So few stay in the first level until they are decoded.
      for (int64_t i = 0; i < count_; ++i) request<3>(i);
      translated_ = count_;
      return;
    }
    if (kTranslateFirst) translate(ahead_ + kGroup);
    for (int64_t i = 0; i < ahead_; ++i) request<2>(i);
  }
  // Before each row.
  HWY_INLINE void before(int64_t index) {
    if (kTranslateFirst && index % kGroup < kGroup / kAtOnce) translate(kAtOnce);
    if (index + ahead_ < count_) request<2>(index + ahead_);
  }

 private:
  static constexpr int64_t kAheadBytes = 16384;
  static constexpr int64_t kGroup = 64;
  static constexpr int64_t kAtOnce = 4;

  static HWY_INLINE bool scales_behind(const RowGather& gather) {
    return gather.place.scales == gather.place.values + gather.geometry->value_bytes();
  }
  HWY_INLINE int64_t id(int64_t index) const {
    const int64_t id = ids_[index];
    ENGRAM_CHECK(id >= 0);
    ENGRAM_CHECK(id < rows_);
    return id;
  }
  template <int kLocality>
  HWY_INLINE void request(int64_t index) const {
    const int64_t row = id(index);
    values_.template prefetch<kLocality>(place_.values + row * place_.value_stride);
    if (apart_) scales_.template prefetch<kLocality>(place_.scales + row * place_.scale_stride);
  }
  HWY_INLINE void translate(int64_t more) {
    for (const int64_t end = std::min(translated_ + more, count_); translated_ < end;
         ++translated_) {
      const int64_t row = id(translated_);
      __builtin_prefetch(place_.values + row * place_.value_stride, 0, 2);
      if (apart_) __builtin_prefetch(place_.scales + row * place_.scale_stride, 0, 2);
    }
  }

  const RowPlace place_;
  const int64_t* const ids_;
  const int64_t rows_;
  const int64_t count_;
  const int64_t ahead_;
  const bool apart_;  // scales are not in the lines of their values
  const Lines values_;
  const Lines scales_;
  int64_t translated_ = 0;
};

template <RowCodec kCodec>
constexpr bool kPlain =
    kCodec == RowCodec::kBf16 || kCodec == RowCodec::kF16 || kCodec == RowCodec::kF32;

template <RowCodec kCodec, typename T>
void gather_rows(const RowGather& gather, int64_t rows, int64_t columns) {
  // Copies of their own: stores to `out` cannot change them.
  const RowGather r = gather;
  const TableGeometry& g = *gather.geometry;
  const int64_t width = g.row_width;
  const bool scaled = g.scale_bytes() > 0;
  const E4m3Decoder fp8(kCodec == RowCodec::kF8Tensor ? g.tensor_scale : 1.f);
  RowRequests<!kPlain<kCodec>> requests(r, rows, r.tokens * columns);
  requests.begin();
  int64_t index = 0;
  for (int64_t t = 0; t < r.tokens; ++t) {
    ENGRAM_CHECK(r.slots[t] >= 0);
    ENGRAM_CHECK(r.slots[t] < r.out.rows);
    T* to = r.out.row<T>(r.slots[t]);
    for (int64_t h = 0; h < columns; ++h, ++index) {
      requests.before(index);
      const int64_t id = r.ids[index];
      decode_one<kCodec>(
          g, fp8, r.place.values + id * r.place.value_stride,
          scaled ? r.place.scales + id * r.place.scale_stride : nullptr, to + h * width);
    }
  }
}

template <RowCodec kCodec>
void gather_as(const RowGather& gather, int64_t rows, int64_t columns) {
  if (gather.out.dtype == DType::kF32) {
    gather_rows<kCodec, float>(gather, rows, columns);
  } else {
    gather_rows<kCodec, Bf16>(gather, rows, columns);
  }
}

void decode_rows(const RowGather& gather, int64_t rows, int64_t columns) {
  switch (gather.geometry->codec) {
    case RowCodec::kBf16:
      return gather_as<RowCodec::kBf16>(gather, rows, columns);
    case RowCodec::kF16:
      return gather_as<RowCodec::kF16>(gather, rows, columns);
    case RowCodec::kF32:
      return gather_as<RowCodec::kF32>(gather, rows, columns);
    case RowCodec::kF8Ue8m0:
      return gather_as<RowCodec::kF8Ue8m0>(gather, rows, columns);
    case RowCodec::kF8Tensor:
      return gather_as<RowCodec::kF8Tensor>(gather, rows, columns);
    case RowCodec::kInt8:
      return gather_as<RowCodec::kInt8>(gather, rows, columns);
    case RowCodec::kInt4:
      return gather_as<RowCodec::kInt4>(gather, rows, columns);
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::memory {

HWY_EXPORT(decode_rows);

void decode_rows(const RowGather& gather) {
  const TableGeometry& g = *gather.geometry;
  ENGRAM_CHECK(gather.out.dtype == DType::kF32 || gather.out.dtype == DType::kBf16);
  ENGRAM_CHECK(gather.out.cols >= g.vector_width());
  ENGRAM_CHECK(gather.upper_first >= g.rows);
  if (gather.tokens * g.columns() == 0 || g.row_width == 0) return;
  HWY_DYNAMIC_DISPATCH(decode_rows)(gather, g.rows, g.columns());
}

void decode_row(
    const TableGeometry& geometry,
    const uint8_t* values,
    const uint8_t* scales,
    DType dtype,
    void* to) {
  ENGRAM_CHECK(dtype == DType::kF32 || dtype == DType::kBf16);
  const int64_t id = 0;
  const int32_t slot = 0;
  const RowGather gather{
      .geometry = &geometry,
      .place = {.values = values, .scales = scales, .value_stride = 0, .scale_stride = 0},
      .ids = &id,
      .slots = &slot,
      .tokens = 1,
      .out = make_view(to, dtype, 1, geometry.row_width),
  };
  if (geometry.row_width > 0) HWY_DYNAMIC_DISPATCH(decode_rows)(gather, 1, 1);
}

}  // namespace engram::memory
#endif
