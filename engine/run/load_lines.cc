#include "engine/run/load_lines.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "memory/base/byte_text.h"

namespace engram::engine {
namespace {

using memory::format_bytes;

constexpr std::chrono::seconds kFirst{1};
constexpr std::chrono::seconds kEvery{5};

std::string rate_text(int64_t bytes, double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB/s", static_cast<double>(bytes) / 1e9 / seconds);
  return text;
}

}  // namespace

LoadLines::LoadLines(std::string what, TimePoint begin)
    : what_(std::move(what)), begin_(begin), next_(begin + kFirst) {}

std::string LoadLines::begin(int64_t bytes) const {
  constexpr int64_t kSlow = int64_t{1} << 30;
  return bytes < kSlow ? "" : "taking memory for " + what_ + ": " + format_bytes(bytes);
}

std::string LoadLines::update(int64_t done, int64_t total, TimePoint now) {
  done_ = done;
  total_ = total;
  if (now < next_ || done == total) return "";
  next_ = now + kEvery;
  return "loading " + what_ + ": " + format_bytes(done) + " of " + format_bytes(total) + ", " +
         rate_text(done, seconds_until(now));
}

std::string LoadLines::finish(TimePoint now) const {
  if (done_ == 0 || done_ < total_) return "";
  const double seconds = seconds_until(now);
  char taken[32];
  std::snprintf(taken, sizeof taken, " in %.2f s, ", seconds);
  return "loaded " + what_ + ": " + format_bytes(done_) + taken + rate_text(done_, seconds);
}

double LoadLines::seconds_until(TimePoint now) const {
  // Of a clock that stood still, no infinite rate.
  return std::max(1e-6, std::chrono::duration<double>(now - begin_).count());
}

}  // namespace engram::engine
