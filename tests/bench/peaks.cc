#include "tests/bench/peaks.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/peaks.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace engram::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <int kLevel>
HWY_INLINE void prefetch(const uint8_t* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, kLevel == 1 ? 3 : 2);
  __builtin_prefetch(from + bytes - 1, 0, kLevel == 1 ? 3 : 2);
}

template <int kLevel>
void copy_rows_from(const RowCopy& copy) {
  const hn::CappedTag<uint8_t, 64> d;
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<uint8_t, 64>()));
  const RowCopy c = copy;
  const bool behind = c.place.scales == c.place.values + c.value_bytes;
  const int64_t first = behind ? c.value_bytes + c.scale_bytes : c.value_bytes;
  const int64_t second = behind ? 0 : c.scale_bytes;
  const int64_t row_bytes = c.value_bytes + c.scale_bytes;
  const int64_t out_stride = (std::max(row_bytes, c.out_bytes) + 63) / 64 * 64;
  const auto ask = [&](int64_t i) HWY_ATTR {
    const int64_t id = c.ids[i];
    prefetch<kLevel>(c.place.values + id * c.place.value_stride, first);
    if (second > 0) prefetch<kLevel>(c.place.scales + id * c.place.scale_stride, second);
  };
  for (int64_t i = 0; i < std::min(c.ahead, c.count); ++i) ask(i);
  int64_t slot = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    if (i + c.ahead < c.count) ask(i + c.ahead);
    const uint8_t* row = c.place.values + c.ids[i] * c.place.value_stride;
    uint8_t* out = c.to + slot * out_stride;
    int64_t b = 0;
    for (; b + kStep <= first; b += kStep) hn::StoreU(hn::LoadU(d, row + b), d, out + b);
    for (; b < first; b += 8) std::memcpy(out + b, row + b, 8);
    for (int64_t s = 0; s < second; s += 8) {
      std::memcpy(out + first + s, c.place.scales + c.ids[i] * c.place.scale_stride + s, 8);
    }
    const auto again = hn::LoadU(d, row);
    for (int64_t o = row_bytes; o < c.out_bytes; o += kStep) hn::StoreU(again, d, out + o);
    if (++slot == c.ring_rows) slot = 0;
  }
}

void copy_rows(const RowCopy& copy) {
  if (copy.second_level) {
    copy_rows_from<2>(copy);
  } else {
    copy_rows_from<1>(copy);
  }
}

}  // namespace engram::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::bench {

HWY_EXPORT(copy_rows);

void copy_rows(const RowCopy& copy) {
  HWY_DYNAMIC_DISPATCH(copy_rows)(copy);
}

uint64_t read_rows(const RowReads& reads) {
  constexpr int64_t kAhead = 32;
  const auto row = [&](int64_t i) { return reads.rows + reads.ids[i] * reads.stride; };
  const auto first = [](const uint8_t* from) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, from, sizeof(bytes));
    return bytes;
  };
  if (reads.count == 0) return 0;
  const uint64_t expected = first(row(0));
  uint64_t sum = 0;
  uint64_t last = expected;
  for (int64_t i = 0; i < reads.count; ++i) {
    if (reads.one_by_one) {
      last = first(row(i) + (last - expected));
    } else {
      __builtin_prefetch(row(std::min(i + kAhead, reads.count - 1)), 0, 2);
      last = first(row(i));
    }
    sum += last;
  }
  return sum;
}

}  // namespace engram::bench
#endif
