// A set of row ids that only grows: open addressing, one word per entry. One thread.
#pragma once

#include <cstdint>
#include <vector>

namespace engram::engine {

class RowSet {
 public:
  int64_t size() const { return size_; }

  bool contains(int64_t key) const {
    if (slots_.empty()) return false;
    const size_t mask = slots_.size() - 1;
    for (size_t at = first(key);; ++at) {
      const int64_t slot = slots_[at & mask];
      if (slot == key) return true;
      if (slot < 0) return false;
    }
  }

  // REQUIRES: key >= 0.
  void insert(int64_t key) {
    if (2 * static_cast<size_t>(size_) >= slots_.size()) grow();
    size_ += put(slots_, key) ? 1 : 0;
  }

 private:
  static size_t first(int64_t key) {
    return static_cast<size_t>((static_cast<uint64_t>(key) * 0x9e3779b97f4a7c15u) >> 20);
  }

  static bool put(std::vector<int64_t>& slots, int64_t key) {
    const size_t mask = slots.size() - 1;
    for (size_t at = first(key);; ++at) {
      int64_t& slot = slots[at & mask];
      if (slot == key) return false;
      if (slot < 0) {
        slot = key;
        return true;
      }
    }
  }

  void grow() {
    std::vector<int64_t> larger(slots_.empty() ? 64 : 2 * slots_.size(), -1);
    for (const int64_t key : slots_) {
      if (key >= 0) put(larger, key);
    }
    slots_.swap(larger);
  }

  std::vector<int64_t> slots_;  // -1: free; a power of two of them, at most half in use
  int64_t size_ = 0;
};

}  // namespace engram::engine
