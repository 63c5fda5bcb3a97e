#include "tools/bench/pacer.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>

namespace engram::tools::bench {
namespace {

// A wake-up on an idle core of a guest takes some 10 us; the spin hides it.
constexpr auto kSpin = std::chrono::microseconds(50);
// Of the second part: its wake-ups cost little at any rate.
constexpr auto kLeastNap = std::chrono::microseconds(500);
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

// Moves this thread to one of its cores, for the second part a quarter of them further (half of
// them would be its sibling on many machines). It may leave it again, and threads that it starts
// inherit nothing; but a thread with priority stays where it is not in another's way.
void move_to_core(Pacer::Part part) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  const int count = CPU_COUNT(&allowed);
  int skip = part == Pacer::Part::kFirst ? 0 : std::max(1, count / 4);
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &allowed) || skip-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
    sched_setaffinity(0, sizeof allowed, &allowed);
    return;
  }
}

}  // namespace

Pacer::Pacer(const std::atomic<bool>* stop, Part part) : stop_(stop), part_(part) {
  prctl(PR_SET_TIMERSLACK, 1UL);
  sched_param lowest = {};
  lowest.sched_priority = sched_get_priority_min(SCHED_RR);
  // Of this thread alone: gRPC may start others from it.
  has_priority_ = sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) == 0;
  move_to_core(part);
}

bool Pacer::wait_until(RunClock::time_point moment) const {
  const auto spin = part_ == Part::kFirst ? kSpin : RunClock::duration::zero();
  if (part_ == Part::kSecond) moment = std::max(moment, RunClock::now() + kLeastNap);
  while (!stop_->load(std::memory_order_relaxed)) {
    const RunClock::time_point now = RunClock::now();
    if (now >= moment) return true;
    if (moment - now > spin) sleep_until(std::min(moment - spin, now + kLongestSleep));
  }
  return false;
}

}  // namespace engram::tools::bench
