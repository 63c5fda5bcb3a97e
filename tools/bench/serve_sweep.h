// Load runs that differ in request rate or concurrency, as curves. Pure functions that return
// markup.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// Throughput, requests served, TTFT and TPOT over the rate (or the concurrency, where no run has a
// rate), in the order in which `runs` come; a line that says what is missing when they do not
// differ.
std::string sweep_figures(const std::vector<ServeResult>& runs);
// Throughput of all users over that of one.
std::string interactivity_figure(const std::vector<ServeResult>& runs);

}  // namespace engram::tools::bench
