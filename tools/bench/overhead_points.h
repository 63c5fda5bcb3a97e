// Each point of an experiment on its own: every round of every arm, so that noise is seen, the
// exposed waits, and what the arms moved. Pure functions that return markup.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

std::string overhead_points(const std::vector<OverheadResult>& runs);

}  // namespace engram::tools::bench
