// How far a long experiment is, on standard error: on a terminal in place, elsewhere a line every
// ten seconds. One thread.
#pragma once

#include <chrono>
#include <string>

namespace engram::tools::bench {

class ShareProgress {
 public:
  ShareProgress();
  ~ShareProgress();
  ShareProgress(const ShareProgress&) = delete;
  ShareProgress& operator=(const ShareProgress&) = delete;

  void update(const std::string& what, double done);  // 0..1 of the whole
  void clear();                                       // before something else is printed

 private:
  using Clock = std::chrono::steady_clock;

  const bool terminal_;
  const Clock::time_point begin_;
  Clock::time_point printed_;
  bool open_line_ = false;
};

}  // namespace engram::tools::bench
