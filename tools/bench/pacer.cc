#include "tools/bench/pacer.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>

namespace engram::tools::bench {
namespace {

// A wake-up on an idle core of a guest takes some 10 us; the spin hides it.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kLongestSleep = std::chrono::milliseconds(50);

// steady_clock is CLOCK_MONOTONIC here.
void sleep_until(RunClock::time_point moment) {
  const int64_t ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(moment.time_since_epoch()).count();
  timespec when = {};
  when.tv_sec = ns / 1'000'000'000;
  when.tv_nsec = ns % 1'000'000'000;
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
}

}  // namespace

Pacer::Pacer(const std::atomic<bool>* stop) : stop_(stop) {
  prctl(PR_SET_TIMERSLACK, 1UL);
  sched_param lowest = {};
  lowest.sched_priority = sched_get_priority_min(SCHED_RR);
  // Of this thread alone: gRPC may start others from it.
  has_priority_ = sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) == 0;
}

bool Pacer::wait_until(RunClock::time_point moment) const {
  while (!stop_->load(std::memory_order_relaxed)) {
    const RunClock::time_point now = RunClock::now();
    if (now >= moment) return true;
    if (moment - now > kSpin) sleep_until(std::min(moment - kSpin, now + kLongestSleep));
  }
  return false;
}

}  // namespace engram::tools::bench
