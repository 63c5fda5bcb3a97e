// Which staging slots are taken. Slots are given out in ascending order, round and round, so that
// the tokens of a step mostly lie one after another and need not be put in order.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

class SlotPool {
 public:
  explicit SlotPool(int64_t slots) : taken_(static_cast<size_t>(slots)), free_(slots) {}

  int64_t slots() const { return static_cast<int64_t>(taken_.size()); }
  int64_t free() const { return free_; }

  // The next `count` slots given out follow each other, if there is such a run.
  void seek_run(int64_t count) {
    const auto run_from = [&](int64_t begin) {
      int64_t length = 0;
      for (int64_t slot = begin; slot < slots(); ++slot) {
        length = taken_[static_cast<size_t>(slot)] ? 0 : length + 1;
        if (length == count) return slot + 1 - count;
      }
      return int64_t{-1};
    };
    int64_t first = run_from(next_);
    if (first < 0) first = run_from(0);
    if (first >= 0) next_ = first;
  }

  // REQUIRES: free() > 0.
  int32_t take() {
    ENGRAM_CHECK(free_ > 0);
    if (next_ == slots()) next_ = 0;
    while (taken_[static_cast<size_t>(next_)]) next_ = next_ + 1 == slots() ? 0 : next_ + 1;
    taken_[static_cast<size_t>(next_)] = true;
    --free_;
    return static_cast<int32_t>(next_++);
  }

  void give_back(int32_t slot) {
    ENGRAM_CHECK(taken_[static_cast<size_t>(slot)]);
    taken_[static_cast<size_t>(slot)] = false;
    ++free_;
  }

 private:
  std::vector<bool> taken_;
  int64_t free_ = 0;
  int64_t next_ = 0;  // where the search goes on; slots(): at the beginning
};

}  // namespace engram::engine
