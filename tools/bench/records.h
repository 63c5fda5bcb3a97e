// What a load run plans for each request and what came of it: written by the load generator, read
// by metrics and reports. Times are seconds since the start of the run; -1: never happened.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace engram::tools::bench {

// One request of the plan.
struct PlannedRequest {
  double at_s = 0;  // when it is to be sent, whatever the earlier ones do
  // Exactly one of the two is used: ids when there are any.
  std::vector<uint32_t> prompt_ids;
  std::string prompt_text;
  int64_t prompt_tokens = 0;  // as far as the dataset knows; 0: the server counts
  int64_t max_tokens = 0;
  bool ignore_eos = false;
  double cancel_after_s = -1;  // since it was sent; -1: never
  double read_pause_s = 0;     // between two reads: a slow reader
};

// One message of a stream.
struct MessageTime {
  double at_s = 0;
  int32_t tokens = 0;  // that came with it
};

enum class Outcome { kCompleted, kFailed, kCancelled, kNotSent };

struct RequestRecord {
  Outcome outcome = Outcome::kNotSent;
  std::string error;                  // "UNAVAILABLE: ...", for kFailed
  double planned_s = -1;              // when the plan wanted it sent
  double ready_s = -1;                // when max-concurrency let it go; planned_s without a limit
  double sent_s = -1;                 // when the call was started
  double done_s = -1;                 // when the last message was there
  std::vector<MessageTime> messages;  // with tokens, in the order of arrival
  int64_t prompt_tokens = 0;          // the server's usage, else the plan's
  int64_t output_tokens = 0;          // the server's usage, else what was counted
  int64_t bytes = 0;                  // of all messages, serialised
  std::string text;                   // kept only when asked for
};

}  // namespace engram::tools::bench
