#include "tools/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "memory/base/status.h"

namespace engram::tools::bench {
namespace {

constexpr int kResamples = 4000;
// The levels are those of a wider interval than kConfidence: the median of few rounds takes few
// values, and at 0.95 eleven rounds would cover 0.93.
constexpr double kLevel = 0.97;

double normal_cdf(double z) {
  return 0.5 * std::erfc(-z / std::sqrt(2.));
}

// The x with normal_cdf(x) = p, by bisection.
double normal_quantile(double p) {
  double low = -40;
  double high = 40;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (normal_cdf(middle) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

// Student's t with `freedom` degrees, from the normal quantile (Cornish-Fisher in 1 / freedom).
double t_quantile(double p, double freedom) {
  const double z = normal_quantile(p);
  const double z2 = z * z;
  const double f = freedom;
  return z * (1 + (z2 + 1) / (4 * f) + ((5 * z2 + 16) * z2 + 3) / (96 * f * f) +
              (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * f * f * f));
}

// Sorts.
double median_of(std::vector<double>& values) {
  const size_t half = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(half), values.end());
  const double upper = values[half];
  if (values.size() % 2 == 1) return upper;
  return (upper + *std::max_element(values.begin(), values.begin() + static_cast<int64_t>(half))) /
         2;
}

}  // namespace

double quantile(std::span<const double> values, double share) {
  if (values.empty()) return 0;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double place = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double mean(std::span<const double> values) {
  if (values.empty()) return 0;
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  if (values.empty()) return 0;
  const double middle = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - middle) * (v - middle);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

double lower_level(size_t samples) {
  if (samples < 2) return 0;
  const double n = static_cast<double>(samples);
  const double t = t_quantile((1 - kLevel) / 2, n - 1);
  return normal_cdf(t * std::sqrt(n / (n - 1)));
}

Estimate ratio_of(std::span<const double> arm, std::span<const double> base) {
  ENGRAM_CHECK(arm.size() == base.size());
  const size_t n = arm.size();
  Estimate estimate{.rounds = static_cast<int>(n)};
  if (n == 0) return estimate;
  std::vector<double> logs(n);
  for (size_t i = 0; i < n; ++i) {
    ENGRAM_CHECK(arm[i] > 0 && base[i] > 0);
    logs[i] = std::log(arm[i] / base[i]);
  }
  std::mt19937_64 random(n);
  std::vector<double> medians(kResamples);
  std::vector<double> resample(n);
  for (double& median : medians) {
    for (double& value : resample) value = logs[random() % n];
    median = median_of(resample);
  }
  const double level = lower_level(n);
  estimate.low = std::exp(quantile(medians, level));
  estimate.high = std::exp(quantile(medians, 1 - level));
  estimate.value = std::exp(median_of(logs));
  return estimate;
}

Estimate overhead_percent(
    std::span<const double> arm, std::span<const double> base, Better better) {
  const Estimate slower = better == Better::kHigher ? ratio_of(base, arm) : ratio_of(arm, base);
  return {
      .value = 100 * (slower.value - 1),
      .low = 100 * (slower.low - 1),
      .high = 100 * (slower.high - 1),
      .rounds = slower.rounds};
}

std::string describe_overhead(const Estimate& percent) {
  char text[96];
  const bool nothing = percent.contains(0);
  if (nothing) {
    std::snprintf(
        text, sizeof text, "not distinguishable from 0 (%+.2f to %+.2f %%)", percent.low,
        percent.high);
  } else {
    std::snprintf(
        text, sizeof text, "%+.2f %% (%+.2f to %+.2f)", percent.value, percent.low, percent.high);
  }
  return text;
}

Quietness quietness(
    std::span<const double> first, std::span<const double> second, double limit_percent) {
  ENGRAM_CHECK(first.size() == second.size());
  std::vector<double> spreads(first.size());
  for (size_t i = 0; i < first.size(); ++i) {
    spreads[i] = 100 * std::abs(first[i] / second[i] - 1);
  }
  return {quantile(spreads, 0.5), limit_percent};
}

}  // namespace engram::tools::bench
