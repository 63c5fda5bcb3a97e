#include "tools/bench/compute_peak.h"

#include <atomic>
#include <chrono>
#include <vector>

#include "memory/device/device_cpu.h"
#include "tools/bench/statistics.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tools/bench/compute_peak.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace engram::tools::bench::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

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

}  // namespace engram::tools::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::tools::bench {

HWY_EXPORT(multiply_add);
HWY_EXPORT(multiply_add_flops);

float multiply_add(int64_t count) {
  return HWY_DYNAMIC_DISPATCH(multiply_add)(count);
}

int64_t multiply_add_flops() {
  return HWY_DYNAMIC_DISPATCH(multiply_add_flops)();
}

double measure_compute_peak(int threads) {
  constexpr int kTurns = 7;
  constexpr int64_t kCount = 500000;  // some 10 ms
  memory::CpuWorkers workers(threads);
  const int64_t parts = 4 * static_cast<int64_t>(workers.threads());
  const double flops = static_cast<double>(parts * kCount * multiply_add_flops());
  std::atomic<float> sum{0};
  std::vector<double> rates;
  for (int turn = -1; turn < kTurns; ++turn) {  // the first one warms up
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    workers.run(parts, [&](int64_t) { sum = multiply_add(kCount); });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (turn >= 0) rates.push_back(1e-9 * flops / taken.count());
  }
  return quantile(rates, 0.5);
}

}  // namespace engram::tools::bench
#endif
