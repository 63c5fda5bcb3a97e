// Overheads of an experiment as curves: along batch sizes or table sizes, one figure per workload,
// metric and baseline. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// "output throughput" for output_throughput, "TTFT" for ttft_ms.
std::string metric_title(const std::string& metric);
// An arm has the same colour in every figure.
int arm_colour(const std::string& key);
// The label, else the file: what tells results apart.
std::string run_title(const OverheadResult& run);

enum class Along { kBatch, kTableSize, kPromptLength };

// Markup of all figures along one of them; those of other metrics than the workload's
// own are folded. Says what is missing when there are none.
std::string overhead_curves(const std::vector<OverheadResult>& runs, Along along);

}  // namespace engram::tools::bench
