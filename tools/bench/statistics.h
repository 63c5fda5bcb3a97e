// What `engram bench` says about samples: quantiles as NumPy's, and the ratio of two arms measured
// in the same rounds, with an interval. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace engram::tools::bench {

// 0 for no values. `share` in [0, 1]; linear between neighbours (numpy.percentile's default).
double quantile(std::span<const double> values, double share);
double mean(std::span<const double> values);
double standard_deviation(std::span<const double> values);  // of the population, as numpy.std

struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
  int rounds = 0;
  bool contains(double x) const { return low <= x && x <= high; }
};

// How often the interval holds the true value, at least, for 7 rounds or more.
inline constexpr double kConfidence = 0.95;
inline constexpr int kFewestRounds = 7;

// The share of resamples below the interval, and above it, for so many samples (see ratio_of).
double lower_level(size_t samples);

// arm[i] over base[i], measured in the same round i, so that what a round did to both (another
// guest, the clock) cancels: the median of the rounds' ratios, and a bootstrap interval of it. The
// interval is the expanded percentile one (Hesterberg, 2014: the levels take the t quantile and the
// n / (n - 1) of small samples into account). Both spans have the same length, positive values.
Estimate ratio_of(std::span<const double> arm, std::span<const double> base);

// A cost in percent: how many percent slower `arm` is than `base`, of a rate (tokens/s: base over
// arm - 1) or of a time (arm over base - 1).
enum class Better { kHigher, kLower };
Estimate overhead_percent(std::span<const double> arm, std::span<const double> base, Better better);

// "+1.23 % (+0.80 to +1.61)", or "not distinguishable from 0 (-0.21 to +0.33 %)".
std::string describe_overhead(const Estimate& percent);

// Whether a run can be believed: the same arm measured twice per round.
struct Quietness {
  double spread_percent = 0;  // the median over the rounds of |first / second - 1|
  double limit_percent = 0;
  bool quiet() const { return spread_percent <= limit_percent; }
};
Quietness quietness(
    std::span<const double> first, std::span<const double> second, double limit_percent);

}  // namespace engram::tools::bench
