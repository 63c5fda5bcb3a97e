// A set of row ids that only grows: open addressing, one word per entry. One thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace engram::engine {

class RowSet {
 public:
  int64_t size() const { return size_; }

  bool contains(int64_t key) const {
    if (slots_.empty()) return false;
    const size_t mask = slots_.size() - 1;
    for (size_t at = first(key, mask);; ++at) {
      const int64_t slot = slots_[at & mask];
      if (slot == key) return true;
      if (slot < 0) return false;
    }
  }

  // All of keys[i] | bits. REQUIRES: keys >= 0.
  void insert(std::span<const int64_t> keys, int64_t bits = 0) {
    while (2 * (static_cast<size_t>(size_) + keys.size()) > slots_.size()) grow();
    // Between two calls the caches forget the set: its lines are asked for some keys ahead.
    constexpr size_t kAhead = 16;
    const size_t mask = slots_.size() - 1;
    for (size_t i = 0; i < keys.size() + kAhead; ++i) {
      if (i < keys.size()) __builtin_prefetch(&slots_[first(keys[i] | bits, mask)], 1);
      if (i >= kAhead) size_ += put(slots_, keys[i - kAhead] | bits) ? 1 : 0;
    }
  }

 private:
  static size_t first(int64_t key, size_t mask) {
    return static_cast<size_t>((static_cast<uint64_t>(key) * 0x9e3779b97f4a7c15u) >> 20) & mask;
  }

  static bool put(std::vector<int64_t>& slots, int64_t key) {
    const size_t mask = slots.size() - 1;
    for (size_t at = first(key, mask);; ++at) {
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
