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
    : ProgressLine(std::move(what), total, before, true) {}

ProgressLine ProgressLine::of_count(std::string what, int64_t total) {
  return ProgressLine(std::move(what), total, 0, false);
}

ProgressLine::ProgressLine(std::string what, int64_t total, int64_t before, bool bytes)
    : what_(std::move(what)),
      total_(total),
      bytes_(bytes),
      terminal_(::isatty(STDERR_FILENO) == 1),
      printed_(Clock::now()) {
  recent_.emplace_back(printed_, before);
}

ProgressLine::~ProgressLine() {
  if (open_line_) std::fputc('\n', stderr);
}

void ProgressLine::update(int64_t done, const std::string& note) {
  const Clock::time_point now = Clock::now();
  recent_.emplace_back(now, done);
  while (recent_.size() > 2 && now - recent_[1].first > kRateWindow) recent_.pop_front();
  const auto interval = terminal_ ? Clock::duration(kTerminalInterval) : kPlainInterval;
  if (now - printed_ < interval && !(terminal_ && done == total_)) return;
  printed_ = now;
  print(done, note);
}

double ProgressLine::recent_rate() const {
  const double seconds = seconds_between(recent_.front().first, recent_.back().first);
  return seconds > 0 ? static_cast<double>(recent_.back().second - recent_.front().second) / seconds
                     : 0;
}

void ProgressLine::print(int64_t done, const std::string& note) {
  const double rate = recent_rate();
  const std::string left =
      rate > 0 ? format_duration(static_cast<double>(total_ - done) / rate) : "-";
  const auto amount = [this](int64_t count) {
    return bytes_ ? memory::format_bytes(count) : std::to_string(count);
  };
  char speed[48];
  std::snprintf(speed, sizeof(speed), bytes_ ? "%.2f GB/s" : "%.1f/s", bytes_ ? rate / 1e9 : rate);
  const double share =
      total_ > 0 ? 100. * static_cast<double>(done) / static_cast<double>(total_) : 100.;
  std::fprintf(
      stderr, "%s%s: %s of %s, %d %%, %s, %s left%s%s%s", terminal_ ? "\r\033[K" : "",
      what_.c_str(), amount(done).c_str(), amount(total_).c_str(), static_cast<int>(share), speed,
      left.c_str(), note.empty() ? "" : ", ", note.c_str(), terminal_ ? "" : "\n");
  std::fflush(stderr);
  open_line_ = terminal_;
}

}  // namespace engram::tools
