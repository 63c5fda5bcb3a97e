// What the log says while something is loaded: how far it is, by time, and what it was. Nothing of
// what is there at once but the last line. Knows no clock; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace engram::engine {

class LoadLines {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  LoadLines(std::string what, TimePoint begin);

  // "taking memory for n-gram tables: 64.00 GiB", where that takes so long that silence would
  // puzzle, from 1 GiB on; else "".
  std::string begin(int64_t bytes) const;

  // "loading weights: 4.00 GiB of 16.00 GiB, 1.61 GB/s" when a line is due: a second after the
  // begin, then every five. Else "".
  std::string update(int64_t done, int64_t total, TimePoint now);

  // "loaded weights: 16.00 GiB in 10.67 s, 1.61 GB/s"; "" when the last update was not of all of
  // it, or of nothing.
  std::string finish(TimePoint now) const;

 private:
  double seconds_until(TimePoint now) const;

  const std::string what_;
  const TimePoint begin_;
  TimePoint next_;
  int64_t done_ = 0;
  int64_t total_ = 0;
};

}  // namespace engram::engine
