// One record of a dataset's file, from its text, which nobody vouches for. INVALID_ARGUMENT for a
// bad one: "WHERE: what is wrong, what was expected"; nothing is repaired. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"

namespace engram::tools::bench {

// Of one prompt or answer: far above what any model takes, far below what overflows.
inline constexpr int64_t kMaxLineTokens = int64_t{1} << 24;

// {"prompt": "text"} or {"prompt_ids": [..]}, {"output_tokens": n} or not. Other keys are ignored.
struct CustomLine {
  std::string prompt;
  std::vector<uint32_t> ids;   // exactly one of the two is not empty
  int64_t output_tokens = -1;  // -1: not said
};
memory::Result<CustomLine> parse_custom_line(std::string_view text, const std::string& where);

// Mooncake's {"timestamp": ms, "input_length", "output_length", "hash_ids": [..]} (without hash_ids
// nothing is shared) or BurstGPT's {"Timestamp": s, "Request tokens", "Response tokens"}.
struct TraceLine {
  double at_s = 0;  // as the trace counts
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;  // BurstGPT: 0 for an answer that failed
  std::vector<uint64_t> hash_ids;
};
memory::Result<TraceLine> parse_trace_line(std::string_view text, const std::string& where);

// {"conversations": [{"from", "value": "text"}, ..]}: the first two turns, empty where there are
// fewer.
struct Conversation {
  std::string prompt;
  std::string answer;
};
memory::Result<Conversation> parse_conversation(std::string_view text, const std::string& where);

}  // namespace engram::tools::bench
