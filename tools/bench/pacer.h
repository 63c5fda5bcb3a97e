// Waits for the planned moments of a load run on a thread of its own. One thread, the one that
// constructed it.
#pragma once

#include <atomic>
#include <chrono>

namespace engram::tools::bench {

using RunClock = std::chrono::steady_clock;

class Pacer {
 public:
  //   kFirst   sleeps to just before the moment and spins the rest
  //   kSecond  is there in case the first is not: does not spin, and naps between moments that are
  //            close together
  enum class Part { kFirst, kSecond };

  // Asks the kernel for exact wake-ups and for priority over the threads that receive, which on few
  // cores would delay the next send. Without the right to it the thread stays as it is.
  // The two begin on different cores, so that what holds up the one seldom holds up the other.
  explicit Pacer(const std::atomic<bool>* stop, Part part = Part::kFirst);

  // Returns at `moment` or later, never earlier: true. False, at most 50 ms after *stop became
  // true, or at once when it was.
  bool wait_until(RunClock::time_point moment) const;

  bool has_priority() const { return has_priority_; }

 private:
  const std::atomic<bool>* const stop_;
  const Part part_;
  bool has_priority_ = false;
};

}  // namespace engram::tools::bench
