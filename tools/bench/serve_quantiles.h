// Latencies of a run by percentile, wherever its file keeps them. Pure functions.
#pragma once

#include <optional>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

enum class Latency { kTtft, kTpot, kE2el, kItl };

// Of the requests, in milliseconds: those that have one. Empty without the detailed lists; ITL: all
// gaps of all requests.
std::vector<double> latencies_ms(const ServeRequests& requests, Latency latency);

// The file's own figure (median_ttft_ms, p99_ttft_ms), else that of the detailed lists, else none.
// None, too, when no request was completed: files then hold zeros.
std::optional<double> quantile_ms(const ServeResult& run, Latency latency, int percent);

}  // namespace engram::tools::bench
