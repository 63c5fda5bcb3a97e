// Host memory that kernels may read. Any thread.
#pragma once

#include <cstddef>
#include <iterator>
#include <map>
#include <mutex>

namespace cuda_emulation {

class PinnedMemory {
 public:
  void add(const void* data, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mu_);
    ranges_[static_cast<const char*>(data)] = bytes;
  }
  bool remove(const void* data) {
    const std::lock_guard<std::mutex> lock(mu_);
    return ranges_.erase(static_cast<const char*>(data)) == 1;
  }
  bool holds(const void* data) {
    const std::lock_guard<std::mutex> lock(mu_);
    const char* at = static_cast<const char*>(data);
    const auto after = ranges_.upper_bound(at);
    if (after == ranges_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return at < begin + bytes;
  }

 private:
  std::mutex mu_;
  std::map<const char*, size_t> ranges_;  // by their begins
};

inline PinnedMemory& pinned_memory() {
  static PinnedMemory memory;
  return memory;
}

}  // namespace cuda_emulation
