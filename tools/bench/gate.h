// --max-concurrency: who may be sent now, and who waits in the client. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>

namespace engram::tools::bench {

class Gate {
 public:
  // 0: no limit.
  explicit Gate(int64_t limit) : limit_(limit) {}

  // Whether request `index` may be sent now. If not it waits, in the order of arrival.
  bool enter(size_t index) {
    if (limit_ <= 0) return true;
    const std::lock_guard lock(mu_);
    if (inside_ < limit_) {
      ++inside_;
      return true;
    }
    waiting_.push_back(index);
    return false;
  }
  // One that was let in is over: the one that may be sent in its place.
  std::optional<size_t> leave() {
    if (limit_ <= 0) return std::nullopt;
    const std::lock_guard lock(mu_);
    if (waiting_.empty()) {
      --inside_;
      return std::nullopt;
    }
    const size_t next = waiting_.front();
    waiting_.pop_front();
    return next;
  }
  int64_t waiting() {
    const std::lock_guard lock(mu_);
    return static_cast<int64_t>(waiting_.size());
  }

 private:
  const int64_t limit_;

  // guarded by mu_
  std::mutex mu_;
  int64_t inside_ = 0;
  std::deque<size_t> waiting_;
};

}  // namespace engram::tools::bench
