#include "tools/bench/share_progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "tools/progress_line.h"

namespace engram::tools::bench {

ShareProgress::ShareProgress()
    : terminal_(::isatty(2) != 0), begin_(Clock::now()), printed_(begin_) {}

ShareProgress::~ShareProgress() {
  clear();
}

void ShareProgress::update(const std::string& what, double done) {
  const Clock::time_point now = Clock::now();
  const std::chrono::milliseconds pause(terminal_ ? 200 : 10000);
  if (now - printed_ < pause) return;
  printed_ = now;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const std::string left =
      done > 0.005 ? format_duration(seconds * (1 - done) / done) + " left" : "";
  std::fprintf(
      stderr, "%s%3.0f %%  %s  %s%s", terminal_ ? "\r\x1b[K" : "", 100 * done, left.c_str(),
      what.c_str(), terminal_ ? "" : "\n");
  open_line_ = terminal_;
}

void ShareProgress::clear() {
  if (std::exchange(open_line_, false)) std::fputs("\r\x1b[K", stderr);
}

}  // namespace engram::tools::bench
