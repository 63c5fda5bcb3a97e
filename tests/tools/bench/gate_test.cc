// --max-concurrency: never more inside than it says, and nobody is forgotten or overtaken.
#include "tools/bench/gate.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

namespace engram::tools::bench {

TEST_CASE("gate: first come, first served", "[bench]") {
  Gate gate(2);
  CHECK(gate.enter(0));
  CHECK(gate.enter(1));
  CHECK(!gate.enter(2));
  CHECK(!gate.enter(3));
  CHECK(gate.waiting() == 2);
  CHECK(gate.leave() == std::optional<size_t>(2));
  CHECK(!gate.enter(4));
  CHECK(gate.leave() == std::optional<size_t>(3));
  CHECK(gate.leave() == std::optional<size_t>(4));
  CHECK(!gate.leave());
  CHECK(gate.enter(5));
  CHECK(!gate.enter(6));
  CHECK(gate.waiting() == 1);
}

TEST_CASE("gate: no limit", "[bench]") {
  Gate gate(0);
  for (size_t i = 0; i < 1000; ++i) CHECK(gate.enter(i));
  CHECK(!gate.leave());
  CHECK(gate.waiting() == 0);
}

TEST_CASE("gate: many threads", "[bench]") {
  constexpr int kLimit = 3;
  constexpr size_t kEach = 2000;
  Gate gate(kLimit);
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::atomic<size_t> served{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kEach; ++i) {
        if (!gate.enter(t * kEach + i)) continue;
        // This one, then those that are let in after it.
        std::optional<size_t> current = t * kEach + i;
        while (current) {
          const int count = ++inside;
          int seen = most;
          while (count > seen && !most.compare_exchange_weak(seen, count)) {
          }
          ++served;
          --inside;
          current = gate.leave();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(served == 4 * kEach);
  CHECK(most <= kLimit);
  CHECK(gate.waiting() == 0);
}

}  // namespace engram::tools::bench
