// Calls functions at given moments, on one thread of its own: the pauses of slow readers and the
// cancellations of a load run. Any thread may add.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tools/bench/pacer.h"

namespace engram::tools::bench {

class Timers {
 public:
  Timers();
  ~Timers();  // calls what is left, at once
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  void add(RunClock::time_point moment, std::function<void()> call);
  // From now on everything is called at once, also what waits already.
  void hurry();

 private:
  struct Entry {
    RunClock::time_point moment;
    std::function<void()> call;
  };

  void loop();

  // guarded by mu_
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Entry> heap_;  // the earliest moment in front
  bool hurry_ = false;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace engram::tools::bench
