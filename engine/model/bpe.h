// Byte-pair encoding of one pre-token. Immutable, many threads.
//
// Merges the pair of lowest rank, the leftmost of equal ones, until no pair has a merge: short
// words by scanning, long ones with a queue in O(n log n). Words that come out as one token are
// known beforehand and cost one look-up.
// Source: `tokenizers` 0.22, models/bpe (semantics only).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/model/tokenizer_spec.h"

namespace engram::engine {

class Bpe {
 public:
  explicit Bpe(const BpeSpec& spec);

  // Appends the ids of a pre-token's bytes. A byte without a token is the unknown token, or
  // nothing where there is none.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t merged;
  };
  struct Slot {
    uint64_t pair;
    Merge merge;
  };
  struct Hash {
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
    using is_transparent = void;
  };

  void insert_merge(int32_t left, int32_t right, Merge merge);
  // rank kNoRank if the pair has no merge
  Merge find_merge(int32_t left, int32_t right) const;
  void append_symbols(std::string_view word, std::vector<int32_t>& symbols) const;
  void merge_short(std::vector<int32_t>& symbols) const;
  void merge_long(std::vector<int32_t>& symbols) const;
  void merge(std::vector<int32_t>& symbols) const;

  std::array<int32_t, 256> of_byte_{};  // -1: no token
  std::vector<Slot> merges_;            // open addressing, a power of two
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> whole_;
  int32_t unk_ = -1;
  bool fuse_unk_ = false;
};

}  // namespace engram::engine
