#include "tests/bench/peaks.h"

#include <hwy/cache_control.h>

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/peaks.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace engram::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

uint64_t read_all(const void* data, int64_t bytes, int64_t ahead) {
  const hn::CappedTag<uint64_t, 8> d;
  constexpr int64_t kStep = 8 * static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<uint64_t, 8>()));
  using Vec = hn::Vec<decltype(d)>;
  const char* from = static_cast<const char*>(data);
  Vec a = hn::Zero(d);
  Vec b = a;
  Vec c = a;
  Vec e = a;
  for (int64_t i = 0; i < bytes; i += 4 * kStep) {
    const char* at = from + i;
    if (ahead != 0) {
      for (int64_t line = 0; line < 4 * kStep; line += 64) hwy::Prefetch(at + line + ahead);
    }
    a = hn::Xor(a, hn::LoadU(d, reinterpret_cast<const uint64_t*>(at)));
    b = hn::Xor(b, hn::LoadU(d, reinterpret_cast<const uint64_t*>(at + kStep)));
    c = hn::Xor(c, hn::LoadU(d, reinterpret_cast<const uint64_t*>(at + 2 * kStep)));
    e = hn::Xor(e, hn::LoadU(d, reinterpret_cast<const uint64_t*>(at + 3 * kStep)));
  }
  return hn::GetLane(hn::Xor(hn::Xor(a, b), hn::Xor(c, e)));
}

// As many accumulators as the registers hold beside the operands, and enough to hide the latency.
constexpr int kAccumulators = (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON) ? 24 : 12;

float multiply_add(int64_t count) {
  const hn::CappedTag<float, 16> d;
  using Vec = hn::Vec<decltype(d)>;
  Vec sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = hn::Set(d, static_cast<float>(i));
  const Vec x = hn::Set(d, static_cast<float>(count) * 1e-9f);
  const Vec y = hn::Set(d, 0.5f);
  for (int64_t n = 0; n < count * (24 / kAccumulators); ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) sums[i] = hn::MulAdd(sums[i], y, x);
  }
  Vec sum = sums[0];
  for (int i = 1; i < kAccumulators; ++i) sum = hn::Add(sum, sums[i]);
  return hn::GetLane(sum);
}

int64_t multiply_add_flops() {
  return 2 * 24 * static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<float, 16>()));
}

void copy_rows(
    const uint8_t* table,
    int64_t row_bytes,
    const int64_t* ids,
    int64_t count,
    int64_t ahead,
    uint8_t* to,
    int64_t ring_rows) {
  const hn::CappedTag<uint8_t, 64> d;
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<uint8_t, 64>()));
  int64_t slot = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + ahead < count) {
      const uint8_t* next = table + ids[i + ahead] * row_bytes;
      for (int64_t line = 0; line < row_bytes; line += 64) hwy::Prefetch(next + line);
    }
    const uint8_t* row = table + ids[i] * row_bytes;
    uint8_t* out = to + slot * row_bytes;
    for (int64_t b = 0; b < row_bytes; b += kStep) hn::StoreU(hn::LoadU(d, row + b), d, out + b);
    if (++slot == ring_rows) slot = 0;
  }
}

}  // namespace engram::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::bench {

HWY_EXPORT(read_all);
HWY_EXPORT(multiply_add);
HWY_EXPORT(multiply_add_flops);
HWY_EXPORT(copy_rows);

uint64_t read_all(const void* data, int64_t bytes, int64_t ahead) {
  return HWY_DYNAMIC_DISPATCH(read_all)(data, bytes, ahead);
}

float multiply_add(int64_t count) {
  return HWY_DYNAMIC_DISPATCH(multiply_add)(count);
}

int64_t multiply_add_flops() {
  return HWY_DYNAMIC_DISPATCH(multiply_add_flops)();
}

void copy_rows(
    const uint8_t* table,
    int64_t row_bytes,
    const int64_t* ids,
    int64_t count,
    int64_t ahead,
    uint8_t* to,
    int64_t ring_rows) {
  HWY_DYNAMIC_DISPATCH(copy_rows)(table, row_bytes, ids, count, ahead, to, ring_rows);
}

}  // namespace engram::bench
#endif
