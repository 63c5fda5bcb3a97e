// What load runs are drawn and listed by, and how they are called. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// The label, else the model: runs of the same name are one curve.
std::string series_name(const ServeResult& run);
// "label, 4 requests/s, 8 at once"; the same for two runs only when all of that is.
std::string describe_run(const ServeResult& run);

// One figure of a run; the name goes into legends and tables.
struct Quantity {
  std::string name;
  std::optional<double> (*value)(const ServeResult& run);
};

// Tokens/s and requests/s of all users.
std::optional<double> output_throughput(const ServeResult& run);
std::optional<double> total_throughput(const ServeResult& run);
std::optional<double> request_throughput(const ServeResult& run);
std::optional<double> goodput(const ServeResult& run);
// Milliseconds.
std::optional<double> ttft_p50(const ServeResult& run);
std::optional<double> ttft_p99(const ServeResult& run);
std::optional<double> tpot_p50(const ServeResult& run);
std::optional<double> tpot_p99(const ServeResult& run);
// Interactivity: 1 / median TPOT.
std::optional<double> tokens_per_user(const ServeResult& run);

}  // namespace engram::tools::bench
