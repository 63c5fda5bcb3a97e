// One line on standard error that says how far a long job is: bytes or other things, share, rate,
// time left. On a terminal it is rewritten in place; elsewhere a whole line comes out every ten
// seconds. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

namespace engram::tools {

class ProgressLine {
 public:
  // `before`: bytes that were done already, and count for the share but not for the rate.
  ProgressLine(std::string what, int64_t total, int64_t before);
  // Of things that are counted: "requests: 20 of 100, 20 %, 4.1/s, 0:20 left".
  static ProgressLine of_count(std::string what, int64_t total);
  ~ProgressLine();  // leaves the cursor on a new line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void update(int64_t done) { update(done, {}); }
  // `note` follows the rest: "3 failed".
  void update(int64_t done, const std::string& note);

 private:
  using Clock = std::chrono::steady_clock;

  ProgressLine(std::string what, int64_t total, int64_t before, bool bytes);
  double recent_rate() const;  // per second
  void print(int64_t done, const std::string& note);

  const std::string what_;
  const int64_t total_;
  const bool bytes_;
  const bool terminal_;
  Clock::time_point printed_;
  bool open_line_ = false;
  std::deque<std::pair<Clock::time_point, int64_t>> recent_;  // of the last seconds
};

// "1:02:03", "2:03", "0:03"
std::string format_duration(double seconds);

}  // namespace engram::tools
