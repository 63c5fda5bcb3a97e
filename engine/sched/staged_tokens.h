// The staging slots of one sequence's tokens, by position. Hardly more than one while it decodes,
// some thousands of a prompt; ascending positions are added at the end, so this is a sorted array.
// One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace engram::engine {

struct StagedToken {
  int64_t position = 0;
  int32_t slot = -1;
  uint64_t serial = 0;  // of the fetch that fills the slot
};

class StagedTokens {
 public:
  bool contains(int64_t position) const { return count(position, position + 1) > 0; }
  int64_t count(int64_t begin, int64_t end) const { return std::ssize(range(begin, end)); }
  // Those at positions [begin, end). Valid until something is added or erased.
  std::span<const StagedToken> range(int64_t begin, int64_t end) const {
    const size_t first = lower_bound(begin);
    return std::span(tokens_).subspan(first, lower_bound(end) - first);
  }

  // REQUIRES: none is at its position.
  void add(const StagedToken& token) { tokens_.insert(at(lower_bound(token.position)), token); }
  void erase(int64_t begin, int64_t end) {
    tokens_.erase(at(lower_bound(begin)), at(lower_bound(end)));
  }

 private:
  size_t lower_bound(int64_t position) const {
    const auto found = std::ranges::lower_bound(tokens_, position, {}, &StagedToken::position);
    return static_cast<size_t>(found - tokens_.begin());
  }
  std::vector<StagedToken>::const_iterator at(size_t index) const {
    return tokens_.begin() + static_cast<int64_t>(index);
  }

  std::vector<StagedToken> tokens_;
};

}  // namespace engram::engine
