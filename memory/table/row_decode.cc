#include "memory/table/row_decode.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/row_decode.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/table/row_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

// How far ahead rows are requested, into the second-level cache: it takes three times as many
// requests at a time as the first, which then has the rows from near by. Far enough that decoding
// never waits, little enough to stay a small part of that cache.
constexpr int64_t kAheadBytes = 16384;
constexpr int64_t kLine = 64;

// The lines of `bytes` bytes that may begin anywhere. As many requests for every row, the last one
// perhaps twice: a loop that ends a step earlier for some rows costs more, by the wrong guess.
struct Lines {
  int64_t lines = 0;  // requests at multiples of a line
  int64_t last = 0;   // offset of the last byte

  explicit Lines(int64_t bytes) : lines((bytes + kLine - 1) / kLine), last(bytes - 1) {}
  HWY_INLINE void prefetch(const uint8_t* from) const {
    // Without a loop for rows as they are in use: its counting would cost as much as the requests.
    switch (lines) {
      default:
        for (int64_t i = 6; i < lines; ++i) __builtin_prefetch(from + i * kLine, 0, 2);
        [[fallthrough]];
      case 6:
        __builtin_prefetch(from + 5 * kLine, 0, 2);
        [[fallthrough]];
      case 5:
        __builtin_prefetch(from + 4 * kLine, 0, 2);
        [[fallthrough]];
      case 4:
        __builtin_prefetch(from + 3 * kLine, 0, 2);
        [[fallthrough]];
      case 3:
        __builtin_prefetch(from + 2 * kLine, 0, 2);
        [[fallthrough]];
      case 2:
        __builtin_prefetch(from + kLine, 0, 2);
        [[fallthrough]];
      case 1:
        __builtin_prefetch(from, 0, 2);
    }
    __builtin_prefetch(from + last, 0, 2);
  }
};

template <RowCodec kCodec, typename T>
void gather_rows(const RowGather& gather, int64_t rows, int64_t columns) {
  // Copies of their own: stores to `out` cannot change them.
  const RowGather r = gather;
  const TableGeometry& g = *gather.geometry;
  const int64_t width = g.row_width;
  const int64_t value_bytes = g.value_bytes();
  const int64_t scale_bytes = g.scale_bytes();
  const int64_t count = r.tokens * columns;
  const int64_t ahead = std::max<int64_t>(4, kAheadBytes / (value_bytes + scale_bytes));
  const bool behind = r.place.scales == r.place.values + value_bytes;
  const bool apart = scale_bytes > 0 && !behind;
  const E4m3Decoder fp8(kCodec == RowCodec::kF8Tensor ? g.tensor_scale : 1.f);
  const Lines value_lines(behind ? value_bytes + scale_bytes : value_bytes);
  const Lines scale_lines(scale_bytes);
  const auto prefetch = [&](int64_t index) HWY_ATTR {
    const int64_t id = r.ids[index];
    ENGRAM_CHECK(id >= 0);
    ENGRAM_CHECK(id < rows);
    value_lines.prefetch(r.place.values + id * r.place.value_stride);
    if (apart) scale_lines.prefetch(r.place.scales + id * r.place.scale_stride);
  };
  for (int64_t i = 0; i < std::min(ahead, count); ++i) prefetch(i);
  int64_t index = 0;
  for (int64_t t = 0; t < r.tokens; ++t) {
    ENGRAM_CHECK(r.slots[t] >= 0);
    ENGRAM_CHECK(r.slots[t] < r.out.rows);
    T* to = r.out.row<T>(r.slots[t]);
    for (int64_t h = 0; h < columns; ++h, ++index) {
      if (index + ahead < count) prefetch(index + ahead);
      const int64_t id = r.ids[index];
      decode_one<kCodec>(
          g, fp8, r.place.values + id * r.place.value_stride,
          scale_bytes > 0 ? r.place.scales + id * r.place.scale_stride : nullptr, to + h * width);
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
