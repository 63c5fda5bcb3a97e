// What a load run does to the requests of its dataset beside giving them times: some are cancelled
// or read slowly, some go ahead as a warm-up, and single-token probes run beside them. Pure
// functions; the same seed gives the same plan.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/bench/records.h"

namespace engram::tools::bench {

struct Disturbances {
  double cancellation_rate = 0;  // share of the requests
  double cancellation_delay_s = 0;
  double slow_reader_rate = 0;  // share of the requests
  double slow_reader_pause_s = 0;
};
void disturb(const Disturbances& disturbances, uint64_t seed, std::vector<PlannedRequest>* plan);

// Leaves out the prompts that a server refuses whose prompt and answer together may have
// `max_model_len` tokens; how many those were.
int64_t leave_out_too_long(int64_t max_model_len, std::vector<PlannedRequest>* plan);

// The first `count` of the plan, over and over if need be, all at once and undisturbed.
std::vector<PlannedRequest> warm_up_plan(const std::vector<PlannedRequest>& plan, int64_t count);

// Short prompts of drawn ids below `vocab_size`, for one token each; they are used in turn.
std::vector<PlannedRequest> probe_plan(uint32_t vocab_size, int64_t max_model_len, uint64_t seed);

}  // namespace engram::tools::bench
