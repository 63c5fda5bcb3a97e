// When the requests of a load run are sent: a plan made before the run, which completions never
// change (an open loop). The flags and their meaning are those of `vllm bench serve`. Pure
// functions; the same options and seed give the same times on every machine.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/records.h"

namespace engram::tools::bench {

enum class RampUp { kNone, kLinear, kExponential };

// "linear" and "exponential"; INVALID_ARGUMENT for the rest.
memory::Result<RampUp> ramp_up_of(const std::string& name);
const char* ramp_up_name(RampUp ramp_up);  // "linear"; "" for kNone

struct ArrivalOptions {
  // Requests per second; infinity: all at once.
  double request_rate = std::numeric_limits<double>::infinity();
  // The shape of the gamma distribution of the intervals: 1 is a Poisson process, below 1 is
  // burstier, above 1 more even; infinity: equal intervals. The coefficient of variation of the
  // intervals is 1 / sqrt(burstiness).
  double burstiness = 1;
  // A ramp takes the place of request_rate: request i of n comes at the rate that is i / (n - 1) of
  // the way from start to end, evenly (linear) or by equal factors (exponential).
  RampUp ramp_up = RampUp::kNone;
  double ramp_up_start_rps = 0;
  double ramp_up_end_rps = 0;
  uint64_t seed = 0;
};

// INVALID_ARGUMENT, naming the flag, for a rate or a burstiness that is not positive, a ramp
// together with a rate, without its ends, falling or from 0.
memory::Status check_arrivals(const ArrivalOptions& options);

// `count` send times in seconds since the start, not decreasing. The first interval comes before
// the first request. Without a ramp all times are scaled so that the last one is count /
// request_rate, as vLLM does: a run of few requests then has the rate that was asked for, whatever
// the seed. The options are valid.
std::vector<double> arrival_times(const ArrivalOptions& options, int64_t count);

// A ramp reaching a whole number of requests per second for the first time.
struct RateChange {
  int64_t rps = 0;
  double at_s = 0;
};

// The start, then each whole rate with the time of the request that first came at it (vLLM's
// rps_change_events). Empty without a ramp. `times` are those of arrival_times().
std::vector<RateChange> rate_changes(const ArrivalOptions& options, std::span<const double> times);

// Gives the requests their times, in order.
void set_arrivals(const ArrivalOptions& options, std::vector<PlannedRequest>* plan);

// The plan of a trace whose requests have their times already: orders them, lets the first begin at
// 0 and plays everything `speed` times as fast. speed > 0.
void set_replay(double speed, std::vector<PlannedRequest>* plan);

}  // namespace engram::tools::bench
