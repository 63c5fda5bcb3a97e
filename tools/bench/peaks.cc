#include "tools/bench/peaks.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "memory/device/device_cpu.h"
#include "memory/device/host_memory.h"
#include "tools/bench/statistics.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tools/bench/peaks.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace engram::tools::bench::HWY_NAMESPACE {

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

}  // namespace engram::tools::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::tools::bench {

HWY_EXPORT(read_all);

uint64_t read_all(const void* data, int64_t bytes, int64_t ahead) {
  return HWY_DYNAMIC_DISPATCH(read_all)(data, bytes, ahead);
}

namespace {

constexpr int kTurns = 7;
constexpr int64_t kPiece = int64_t{1} << 20;

double gbps(int64_t bytes, const std::function<void()>& work) {
  std::vector<double> rates;
  for (int turn = -1; turn < kTurns; ++turn) {  // the first one warms up
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (turn >= 0) rates.push_back(1e-9 * static_cast<double>(bytes) / taken.count());
  }
  return quantile(rates, 0.5);
}

}  // namespace

memory::Result<MemoryPeaks> measure_memory_peaks(int threads, int64_t bytes) {
  memory::Result<memory::Buffer> buffer = memory::allocate_host("memory peaks", bytes);
  if (!buffer.ok()) return buffer.status();
  uint8_t* data = buffer.value().as<uint8_t>();
  std::memset(data, 1, static_cast<size_t>(bytes));
  memory::CpuWorkers workers(threads);
  MemoryPeaks peaks;
  // Whether the software prefetch helps depends on the processor.
  for (const int64_t ahead : {0, 4096}) {
    std::atomic<uint64_t> sum{0};
    const double rate = gbps(bytes, [&] {
      workers.run(bytes / kPiece, [&](int64_t piece) {
        sum ^= read_all(data + piece * kPiece, kPiece, ahead);
      });
    });
    peaks.read_gbps = std::max(peaks.read_gbps, rate);
  }
  const int64_t half = bytes / 2;
  peaks.copy_gbps = gbps(half, [&] {
    workers.run(half / kPiece, [&](int64_t piece) {
      const int64_t at = piece * kPiece;
      std::memcpy(data + half + at, data + at, static_cast<size_t>(kPiece));
    });
  });
  return peaks;
}

memory::Result<double> measure_link(memory::Device& device, int64_t bytes) {
  memory::Result<memory::Buffer> from = device.allocate_pinned("link peak", bytes);
  if (!from.ok()) return from.status();
  memory::Result<memory::Buffer> to = device.allocate("link peak", bytes);
  if (!to.ok()) return to.status();
  const std::unique_ptr<memory::Stream> stream = device.make_stream("link");
  return gbps(bytes, [&] {
    device.copy(*stream, to.value().data(), from.value().data(), bytes);
    stream->synchronize();
  });
}

}  // namespace engram::tools::bench
#endif
