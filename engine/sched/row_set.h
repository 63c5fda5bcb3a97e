// A set of row ids that only grows: open addressing, one word per entry. One thread.
//
// Keys are kept as they come until there are many or somebody asks: a step adds a few, and each
// would find its place in the set out of the caches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace engram::engine {

class RowSet {
 public:
  int64_t size() const {
    put_added();
    return size_;
  }

  bool contains(int64_t key) const {
    put_added();
    if (slots_.empty()) return false;
    const size_t mask = slots_.size() - 1;
    for (size_t at = first(key);; ++at) {
      const int64_t slot = slots_[at & mask];
      if (slot == key) return true;
      if (slot < 0) return false;
    }
  }

  // All of keys[i] | bits. REQUIRES: keys >= 0.
  void insert(std::span<const int64_t> keys, int64_t bits = 0) {
    for (const int64_t key : keys) added_.push_back(key | bits);
    if (added_.size() >= kMany) put_added();
  }

 private:
  static constexpr size_t kMany = 128;

  static size_t first(int64_t key) {
    return static_cast<size_t>((static_cast<uint64_t>(key) * 0x9e3779b97f4a7c15u) >> 20);
  }

  void put_added() const {
    for (const int64_t key : added_) {
      if (2 * static_cast<size_t>(size_) >= slots_.size()) grow();
      size_ += put(slots_, key) ? 1 : 0;
    }
    added_.clear();
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

  void grow() const {
    std::vector<int64_t> larger(slots_.empty() ? 64 : 2 * slots_.size(), -1);
    for (const int64_t key : slots_) {
      if (key >= 0) put(larger, key);
    }
    slots_.swap(larger);
  }

  // Who only asks puts keys into place, too.
  mutable std::vector<int64_t> added_;
  mutable std::vector<int64_t> slots_;  // -1: free; a power of two of them, at most half in use
  mutable int64_t size_ = 0;
};

}  // namespace engram::engine
