#include "memory/table/synthetic_rows.h"

#include <algorithm>
#include <cstring>

#include "memory/base/status.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory/table/synthetic_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ENGRAM_MEMORY_TABLE_SYNTHETIC_ROWS_CC
#define ENGRAM_MEMORY_TABLE_SYNTHETIC_ROWS_CC
namespace engram::memory {

// The words of one part of a row: its values or its scales.
struct WordStream {
  uint32_t first = 0;  // j of the first word
  uint32_t keep = 0;
  uint32_t set = 0;
  int64_t bytes = 0;
};

// A bijection of 64 bits whose every output bit depends on every input bit.
inline uint64_t mix_row(uint64_t layer, uint64_t row) {
  uint64_t x = row + (layer + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  return x ^ (x >> 32);
}

}  // namespace engram::memory
#endif

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void make_words(uint64_t seed, const WordStream& stream, uint8_t* to) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d)) * 4;
  const auto factor = hn::Set(d, static_cast<uint32_t>(seed >> 32) | 1u);
  const auto stride = hn::Set(d, 0x9e3779b9u * static_cast<uint32_t>(hn::Lanes(d)));
  const auto keep = hn::Set(d, stream.keep);
  const auto set = hn::Set(d, stream.set);
  auto base = hn::Add(
      hn::Set(d, static_cast<uint32_t>(seed)),
      hn::Mul(hn::Iota(d, stream.first), hn::Set(d, 0x9e3779b9u)));
  const auto words = [&] {
    auto x = hn::Mul(hn::Xor(base, hn::ShiftRight<15>(base)), factor);
    x = hn::Xor(x, hn::ShiftRight<13>(x));
    base = hn::Add(base, stride);
    return hn::Or(hn::And(x, keep), set);
  };
  int64_t i = 0;
  for (; i + step <= stream.bytes; i += step) {
    hn::StoreU(words(), d, reinterpret_cast<uint32_t*>(to + i));
  }
  if (i == stream.bytes) return;
  uint32_t last[HWY_MAX_BYTES / 4];
  hn::StoreU(words(), d, last);
  std::memcpy(to + i, last, static_cast<size_t>(stream.bytes - i));
}

void make_row_words(
    uint64_t layer,
    int64_t first,
    int64_t count,
    const WordStream& stream,
    uint8_t* to,
    int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    make_words(mix_row(layer, static_cast<uint64_t>(first + i)), stream, to + i * stride);
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::memory {
namespace {

HWY_EXPORT(make_row_words);

WordStream value_stream(const TableGeometry& geometry) {
  WordStream stream{.first = 0, .keep = ~0u, .set = 0, .bytes = geometry.value_bytes()};
  switch (geometry.codec) {
    case RowCodec::kBf16:  // exponents 120 to 127
      stream.keep = 0x83ff83ffu;
      stream.set = 0x3c003c00u;
      break;
    case RowCodec::kF16:  // exponents 12 to 15
      stream.keep = 0x8fff8fffu;
      stream.set = 0x30003000u;
      break;
    case RowCodec::kF32:
      stream.keep = 0x83ffffffu;
      stream.set = 0x3c000000u;
      break;
    case RowCodec::kF8Ue8m0:
    case RowCodec::kF8Tensor:  // exponents 0 to 7, of 15
      stream.keep = 0xbfbfbfbfu;
      break;
    case RowCodec::kInt8:
    case RowCodec::kInt4:
      break;
  }
  return stream;
}

WordStream scale_stream(const TableGeometry& geometry) {
  WordStream stream{.first = 1u << 24, .keep = 0, .set = 0, .bytes = geometry.scale_bytes()};
  if (geometry.codec == RowCodec::kF8Ue8m0) {  // 120 to 127
    stream.keep = 0x07070707u;
    stream.set = 0x78787878u;
  } else {  // f16, positive, exponents 8 to 11
    stream.keep = 0x0fff0fffu;
    stream.set = 0x20002000u;
  }
  return stream;
}

}  // namespace

void make_synthetic_rows(
    const TableGeometry& geometry,
    int64_t first,
    int64_t count,
    uint8_t* values,
    int64_t value_stride,
    uint8_t* scales,
    int64_t scale_stride) {
  const uint64_t layer = static_cast<uint64_t>(geometry.layer);
  const auto make = HWY_DYNAMIC_DISPATCH(make_row_words);
  if (values != nullptr) make(layer, first, count, value_stream(geometry), values, value_stride);
  if (scales == nullptr || geometry.scale_bytes() == 0) return;
  make(layer, first, count, scale_stream(geometry), scales, scale_stride);
}

}  // namespace engram::memory
#endif  // HWY_ONCE
