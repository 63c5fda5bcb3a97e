// How a quantile differs between two sets of samples that have nothing in common, as the requests
// or rounds of two runs. Pure functions.
#pragma once

#include <optional>
#include <vector>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {

// Samples of which a quantile still has so many on either side that resampling can tell its spread.
inline constexpr int kFewestBeyond = 5;

// `b`'s quantile over `a`'s (kRatio), or minus it (kDifference), with a bootstrap interval: both
// sets are resampled on their own. The quantile of a resample of n is one of the n values, at a
// place whose distribution is known (beta), so a resample costs one draw however large the set.
// The interval is expanded for few samples as ratio_of's. None where a set has fewer than
// kFewestBeyond samples on a side of the quantile (two for the median), or a ratio has no sign.
enum class Between { kRatio, kDifference };
std::optional<Estimate> compare_quantiles(
    std::vector<double> a, std::vector<double> b, double share, Between between);

}  // namespace engram::tools::bench
