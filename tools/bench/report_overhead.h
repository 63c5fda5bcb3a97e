// The part of a report that shows experiments on what the tables cost: overhead against batch and
// table size with intervals, its split, and each point with its rounds. Pure functions that return
// markup.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// Empty for no runs.
std::string overhead_report(const std::vector<OverheadResult>& runs);

}  // namespace engram::tools::bench
