#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "memory/device/device_cpu.h"
#include "memory/device/spin.h"

namespace engram::memory {

// `claim` is what everything hangs on: the generation of the task in its upper half, the parts
// nobody took yet in its lower half. Who lowers it owns a part, and the caller cannot return before
// that part is finished, so `part` and `parts` hold still for as long as somebody owns one.
struct CpuWorkers::Shared {
  // Constant.
  int threads = 1;
  std::vector<std::thread> workers;

  // Written by the caller while no part is owned.
  const std::function<void(int64_t)>* part = nullptr;
  int64_t parts = 0;

  // Atomic: read and written by all.
  alignas(64) std::atomic<uint64_t> claim{0};
  alignas(64) std::atomic<int64_t> finished{0};
  alignas(64) std::atomic<bool> busy{false};
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};

  // Orders going to sleep and waking up.
  std::mutex mu;
  std::condition_variable wake;

  bool has_part() const { return (claim.load() & 0xffffffffu) != 0; }

  // Runs parts of whatever task there is until none is left. True if there was one.
  bool work() {
    bool worked = false;
    uint64_t seen = claim.load(std::memory_order_acquire);
    while ((seen & 0xffffffffu) != 0) {
      if (!claim.compare_exchange_weak(
              seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        continue;
      }
      (*part)(parts - static_cast<int64_t>(seen & 0xffffffffu));
      finished.fetch_add(1, std::memory_order_release);
      worked = true;
      seen = claim.load(std::memory_order_acquire);
    }
    return worked;
  }

  void sleep() {
    std::unique_lock<std::mutex> lock(mu);
    sleepers.fetch_add(1);
    wake.wait(lock, [this] { return has_part() || stop.load(); });
    sleepers.fetch_sub(1);
  }

  void worker_loop() {
    while (!stop.load()) {
      Spin spin;
      while (!work() && !stop.load()) {
        if (!spin.again(kSpin)) {
          sleep();
          break;
        }
      }
    }
  }

  void wake_sleepers(int64_t wanted) {
    if (sleepers.load() == 0) return;
    const std::lock_guard<std::mutex> lock(mu);
    if (wanted >= threads - 1) {
      wake.notify_all();
    } else {
      for (int64_t i = 0; i < wanted; ++i) wake.notify_one();
    }
  }

  static constexpr std::chrono::microseconds kSpin{80};
};

CpuWorkers::CpuWorkers(int threads) : shared_(std::make_unique<Shared>()) {
  ENGRAM_CHECK(threads >= 1);
  shared_->threads = threads;
  for (int i = 1; i < threads; ++i) {
    shared_->workers.emplace_back([shared = shared_.get()] { shared->worker_loop(); });
  }
}

CpuWorkers::~CpuWorkers() {
  {
    const std::lock_guard<std::mutex> lock(shared_->mu);
    shared_->stop.store(true);
    shared_->wake.notify_all();
  }
  for (std::thread& worker : shared_->workers) worker.join();
}

int CpuWorkers::threads() const {
  return shared_->threads;
}

void CpuWorkers::run(int64_t parts, const std::function<void(int64_t)>& part) {
  ENGRAM_CHECK(parts >= 0);
  ENGRAM_CHECK(parts <= int64_t{0xffffffff});
  Shared& s = *shared_;
  if (parts <= 1 || s.threads == 1 || s.busy.exchange(true, std::memory_order_acquire)) {
    for (int64_t i = 0; i < parts; ++i) part(i);
    return;
  }
  s.part = &part;
  s.parts = parts;
  s.finished.store(0, std::memory_order_relaxed);
  const uint64_t generation = (s.claim.load(std::memory_order_relaxed) >> 32) + 1;
  s.claim.store((generation << 32) | static_cast<uint64_t>(parts));
  s.wake_sleepers(parts - 1);
  s.work();
  Spin spin;
  while (s.finished.load(std::memory_order_acquire) != parts) spin.pause();
  s.busy.store(false, std::memory_order_release);
}

}  // namespace engram::memory
