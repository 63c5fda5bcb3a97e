// Which staging slots are taken. Slots are given out in ascending order, round and round, so that
// the tokens of a step mostly lie one after another and need not be put in order. The first slots
// are set apart for tokens that shall lie in the same place step after step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

class SlotPool {
 public:
  explicit SlotPool(int64_t slots, int64_t apart = 0)
      : taken_(static_cast<size_t>(slots)),
        apart_(apart),
        free_(slots),
        free_apart_(apart),
        next_(apart) {
    ENGRAM_CHECK(apart <= slots);
  }

  int64_t slots() const { return static_cast<int64_t>(taken_.size()); }
  int64_t free() const { return free_; }

  // The next `count` slots of take() follow each other, if there is such a run.
  void seek_run(int64_t count) {
    int64_t first = find_run(next_, count);
    if (first < 0) first = find_run(apart_, count);
    if (first >= 0) next_ = first;
  }
  // The lowest `count` that follow each other, wherever they are, are taken: mostly those of a
  // short while ago, still in the caches. Returns the first; -1: there is no such run.
  int32_t take_run(int64_t count) {
    const int64_t first = find_run(0, count);
    for (int64_t slot = first; first >= 0 && slot < first + count; ++slot) mark_taken(slot);
    return static_cast<int32_t>(first);
  }

  // One that is not set apart, as long as there are any. REQUIRES: free() > 0.
  int32_t take() {
    ENGRAM_CHECK(free_ > 0);
    if (free_ == free_apart_) return take_apart();
    if (next_ == slots()) next_ = apart_;
    while (taken_[static_cast<size_t>(next_)]) next_ = next_ + 1 == slots() ? apart_ : next_ + 1;
    mark_taken(next_);
    return static_cast<int32_t>(next_++);
  }
  // The lowest of those set apart, as long as there are any. REQUIRES: free() > 0.
  int32_t take_apart() {
    if (free_apart_ == 0) return take();
    while (taken_[static_cast<size_t>(next_apart_)]) ++next_apart_;
    mark_taken(next_apart_);
    return static_cast<int32_t>(next_apart_++);
  }

  void give_back(int32_t slot) {
    ENGRAM_CHECK(taken_[static_cast<size_t>(slot)]);
    taken_[static_cast<size_t>(slot)] = false;
    ++free_;
    if (slot >= apart_) return;
    ++free_apart_;
    next_apart_ = std::min<int64_t>(next_apart_, slot);
  }

 private:
  // The first of `count` free ones from `begin` on; -1: none.
  int64_t find_run(int64_t begin, int64_t count) const {
    int64_t length = 0;
    for (int64_t slot = begin; slot < slots(); ++slot) {
      length = taken_[static_cast<size_t>(slot)] ? 0 : length + 1;
      if (length == count) return slot + 1 - count;
    }
    return -1;
  }

  void mark_taken(int64_t slot) {
    taken_[static_cast<size_t>(slot)] = true;
    --free_;
    if (slot < apart_) --free_apart_;
  }

  std::vector<bool> taken_;
  int64_t apart_ = 0;  // slots [0, apart_)
  int64_t free_ = 0;   // of all
  int64_t free_apart_ = 0;
  int64_t next_ = 0;        // where the search goes on; slots(): at the beginning
  int64_t next_apart_ = 0;  // none before it is free
};

}  // namespace engram::engine
