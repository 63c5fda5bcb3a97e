// One step's work, decided by the scheduler and not changed afterwards: which tokens of which
// sequences run, where their keys and values go, which rows are sampled.
#pragma once

#include <cstdint>
#include <vector>

namespace engram::engine {

// One sequence's part of a step: `count` tokens from position `begin`. A decode step has count 1.
struct PlannedSequence {
  uint64_t sequence = 0;    // Sequence::id
  int64_t begin = 0;        // first position computed
  int64_t count = 0;        // tokens computed
  int64_t token_begin = 0;  // first index in the arrays below
  bool samples = false;     // its last token's logits are sampled
};

struct BatchPlan {
  int64_t step = 0;
  std::vector<PlannedSequence> sequences;  // [S]
  std::vector<int32_t> ids;                // [T] 0 where the id is sampled_from
  std::vector<int32_t> positions;          // [T]
  std::vector<int32_t> slots;              // [T] cache slot of the token
  std::vector<int32_t> sequence_of;        // [T]
  std::vector<int32_t> token_begin;        // [S+1]
  int64_t max_pages = 0;
  std::vector<int32_t> page_table;    // [S, max_pages]
  std::vector<int32_t> logit_tokens;  // indices of tokens whose logits are wanted, ascending
  std::vector<uint64_t> preempted;    // sequences that lost their pages; none of them runs
  // [T] of a step that was planned while the one before it ran: the row of that one's logits whose
  // sampled id the token is. Else empty.
  std::vector<int32_t> sampled_from;

  bool ahead() const { return !sampled_from.empty(); }
  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  // One token of each sequence, and all of them sampled.
  bool decodes() const {
    return ids.size() == sequences.size() && ids.size() == logit_tokens.size();
  }
};

}  // namespace engram::engine
