// Waits for the planned moments of a load run on one thread of its own: sleeps to just before them
// and spins the rest. One thread, the one that constructed it.
#pragma once

#include <atomic>
#include <chrono>

namespace engram::tools::bench {

using RunClock = std::chrono::steady_clock;

class Pacer {
 public:
  // Asks the kernel for exact wake-ups and for priority over the threads that receive, which on few
  // cores would delay the next send. Without the right to it the thread stays as it is.
  explicit Pacer(const std::atomic<bool>* stop);

  // Returns at `moment` or later, never earlier: true. False, at most 50 ms after *stop became
  // true, or at once when it was.
  bool wait_until(RunClock::time_point moment) const;

  bool has_priority() const { return has_priority_; }

 private:
  const std::atomic<bool>* const stop_;
  bool has_priority_ = false;
};

}  // namespace engram::tools::bench
