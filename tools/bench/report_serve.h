// The part of a report that shows load runs: several are a sweep. Pure functions that return
// markup.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// Empty for no runs; in the order of their labels and rates.
std::string serve_report(std::vector<ServeResult> runs);

}  // namespace engram::tools::bench
