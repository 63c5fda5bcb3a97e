// The figures of a load run that need its requests one by one (--save-detailed): distributions, the
// effect of the prompt's length, the timeline. Pure functions that return markup.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

std::string request_figures(const std::vector<ServeResult>& runs);

}  // namespace engram::tools::bench
