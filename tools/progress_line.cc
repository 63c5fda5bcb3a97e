#include "tools/progress_line.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "memory/base/byte_text.h"

namespace engram::tools {
namespace {

constexpr auto kPlainInterval = std::chrono::seconds(10);
constexpr auto kTerminalInterval = std::chrono::milliseconds(200);
constexpr auto kRateWindow = std::chrono::seconds(5);

double seconds_between(
    std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

std::string format_duration(double seconds) {
  const int64_t all = static_cast<int64_t>(std::clamp(seconds, 0., 1e9) + .5);
  char text[48];
  if (all >= 3600) {
    std::snprintf(
        text, sizeof(text), "%lld:%02d:%02d", static_cast<long long>(all / 3600),
        static_cast<int>(all / 60 % 60), static_cast<int>(all % 60));
  } else {
    std::snprintf(
        text, sizeof(text), "%d:%02d", static_cast<int>(all / 60), static_cast<int>(all % 60));
  }
  return text;
}

ProgressLine::ProgressLine(std::string what, int64_t total, int64_t before)
    : what_(std::move(what)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      printed_(Clock::now()) {
  recent_.emplace_back(printed_, before);
}

ProgressLine::~ProgressLine() {
  if (open_line_) std::fputc('\n', stderr);
}

void ProgressLine::update(int64_t done) {
  const Clock::time_point now = Clock::now();
  recent_.emplace_back(now, done);
  while (recent_.size() > 2 && now - recent_[1].first > kRateWindow) recent_.pop_front();
  const auto interval = terminal_ ? Clock::duration(kTerminalInterval) : kPlainInterval;
  if (now - printed_ < interval && !(terminal_ && done == total_)) return;
  printed_ = now;
  print(done);
}

double ProgressLine::recent_rate() const {
  const double seconds = seconds_between(recent_.front().first, recent_.back().first);
  return seconds > 0 ? static_cast<double>(recent_.back().second - recent_.front().second) / seconds
                     : 0;
}

void ProgressLine::print(int64_t done) {
  const double rate = recent_rate();
  const std::string left =
      rate > 0 ? format_duration(static_cast<double>(total_ - done) / rate) : "-";
  std::fprintf(
      stderr, "%s%s: %s of %s, %d %%, %.2f GB/s, %s left%s", terminal_ ? "\r\033[K" : "",
      what_.c_str(), memory::format_bytes(done).c_str(), memory::format_bytes(total_).c_str(),
      total_ > 0 ? static_cast<int>(100. * static_cast<double>(done) / static_cast<double>(total_))
                 : 100,
      rate / 1e9, left.c_str(), terminal_ ? "" : "\n");
  std::fflush(stderr);
  open_line_ = terminal_;
}

}  // namespace engram::tools
