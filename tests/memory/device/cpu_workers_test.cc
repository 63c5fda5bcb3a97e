#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "memory/device/device_cpu.h"

namespace engram::memory {
namespace {

TEST_CASE("every part runs exactly once", "[workers]") {
  for (const int threads : {1, 2, 3, 8}) {
    CpuWorkers workers(threads);
    CHECK(workers.threads() == threads);
    for (const int64_t parts : {0, 1, 2, 7, 64, 1000}) {
      CAPTURE(threads, parts);
      std::vector<std::atomic<int>> runs(static_cast<size_t>(parts));
      workers.run(parts, [&runs](int64_t i) { ++runs[static_cast<size_t>(i)]; });
      for (const std::atomic<int>& r : runs) CHECK(r == 1);
    }
  }
}

TEST_CASE("what the parts wrote is there when run returns", "[workers]") {
  CpuWorkers workers(4);
  std::vector<int64_t> cells(64);  // plain memory: a missing order is a ThreadSanitizer report
  for (int64_t round = 1; round <= 3000; ++round) {
    workers.run(64, [&cells](int64_t i) { ++cells[static_cast<size_t>(i)]; });
    if (round % 1000 == 0) {
      // Long enough for the workers to fall asleep.
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      for (const int64_t cell : cells) REQUIRE(cell == round);
    }
  }
}

TEST_CASE("nested and concurrent runs run alone", "[workers]") {
  CpuWorkers workers(3);
  std::atomic<int64_t> sum{0};
  workers.run(8, [&](int64_t) { workers.run(8, [&sum](int64_t i) { sum += i; }); });
  CHECK(sum == 8 * 28);

  std::vector<int64_t> sums(4);
  std::vector<std::thread> callers;
  for (int64_t& mine : sums) {
    callers.emplace_back([&workers, &mine] {
      for (int round = 0; round < 500; ++round) {
        std::atomic<int64_t> part_sum{0};
        workers.run(5, [&part_sum](int64_t i) { part_sum += i; });
        mine += part_sum;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const int64_t mine : sums) CHECK(mine == 500 * 10);
}

}  // namespace
}  // namespace engram::memory
