// What is due is called in order and never early; the end of a run waits for nothing.
#include "tools/bench/timers.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

namespace engram::tools::bench {
namespace {

// The moments that were called, and how many were early.
struct Calls {
  std::mutex mu;
  std::condition_variable changed;
  std::vector<RunClock::time_point> moments;
  int early = 0;

  void add(Timers* timers, RunClock::time_point moment) {
    timers->add(moment, [this, moment] {
      const std::lock_guard lock(mu);
      if (RunClock::now() < moment) ++early;
      moments.push_back(moment);
      changed.notify_all();
    });
  }
  void wait(size_t count) {
    std::unique_lock lock(mu);
    changed.wait(lock, [&] { return moments.size() >= count; });
  }
};

}  // namespace

TEST_CASE("timers: in order, never early", "[bench]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  Calls calls;
  Timers timers;
  // All are there before the first is due.
  const RunClock::time_point begin = RunClock::now() + std::chrono::milliseconds(50);
  for (int i = 0; i < 100; ++i) {
    calls.add(&timers, begin + std::chrono::microseconds(random() % 20000));
  }
  const bool in_time = RunClock::now() < begin;
  calls.wait(100);
  CHECK(calls.early == 0);
  if (in_time) CHECK(std::is_sorted(calls.moments.begin(), calls.moments.end()));
}

TEST_CASE("timers: a hurry calls what waits and what comes", "[bench]") {
  Calls calls;
  Timers timers;
  const RunClock::time_point late = RunClock::now() + std::chrono::hours(1);
  calls.add(&timers, late);
  timers.hurry();
  calls.wait(1);
  calls.add(&timers, late);
  calls.wait(2);
  CHECK(calls.early == 2);
}

TEST_CASE("timers: the end calls what is left, also what it adds", "[bench]") {
  Calls calls;
  {
    Timers timers;
    const RunClock::time_point late = RunClock::now() + std::chrono::hours(1);
    timers.add(late, [&] { calls.add(&timers, late); });
  }
  CHECK(calls.moments.size() == 1);
}

}  // namespace engram::tools::bench
