// What an experiment asks an engine for: requests drawn from a seed, so that every arm of a round
// gets the same ones and no two rounds do. The names w1 to w5 stand for: lengths drawn from a range
// and ids at random; the same lengths of real text; decoding at a fixed batch; prefill; arrivals at
// random times. Pure functions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/bench/records.h"

namespace engram::tools::bench {

struct LengthRange {
  int64_t low = 1;
  int64_t high = 1;  // included
};

// "100:1024"; false: it is none.
bool parse_range(const std::string& text, LengthRange* range);

struct Workload {
  std::string name;  // "w3"
  int batch = 1;     // requests of one measurement
  LengthRange input;
  LengthRange output;
  int64_t id_limit = 10000;  // ids are drawn below it
  // Prompts are pieces of it; null: random ids. Shared, since it may be long and is in many
  // workloads.
  std::shared_ptr<const std::vector<int32_t>> text;
  double request_rate = 0;  // per second, Poisson; 0: all at once
  // Step times are those of steps in which every request decodes.
  bool decode_only = false;
  // By which its cost is told: "output_throughput", "ttft_ms", "tpot_ms" or "step_ms".
  std::string metric = "output_throughput";
};

// In the order of at_s. REQUIRES: text, if there is any, has more ids than the longest input.
std::vector<PlannedRequest> plan_requests(const Workload& workload, uint64_t seed);

}  // namespace engram::tools::bench
