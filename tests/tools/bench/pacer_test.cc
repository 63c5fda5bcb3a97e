// The sending thread's waits are never short, and end when the run does.
#include "tools/bench/pacer.h"

#include <catch2/catch.hpp>
#include <random>
#include <thread>

namespace engram::tools::bench {

TEST_CASE("pacer: no wait is short", "[bench]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const std::atomic<bool> stop{false};
  int early = 0;
  std::thread([&] {
    const Pacer pacer(&stop);
    RunClock::time_point moment = RunClock::now();
    for (int i = 0; i < 200; ++i) {
      moment += std::chrono::microseconds(random() % 500);
      if (!pacer.wait_until(moment) || RunClock::now() < moment) ++early;
    }
  }).join();
  CHECK(early == 0);
}

TEST_CASE("pacer: a stopped run ends the wait", "[bench]") {
  std::atomic<bool> stop{false};
  bool waited = true;
  bool waited_after = true;
  std::thread sender([&] {
    const Pacer pacer(&stop);
    waited = pacer.wait_until(RunClock::now() + std::chrono::hours(1));
    waited_after = pacer.wait_until(RunClock::now() - std::chrono::hours(1));
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  stop = true;
  sender.join();
  CHECK(!waited);
  CHECK(!waited_after);
}

}  // namespace engram::tools::bench
