// Quantiles against hand-computed ones, and how often an interval holds the truth: with noise that
// a round's arms share, noise of their own, and stalls that hit an arm in one round of ten.
#include "tools/bench/statistics.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

namespace engram::tools::bench {
namespace {

struct Rounds {
  std::vector<double> arm;
  std::vector<double> base;
};

// Times of rounds in which the arm truly takes (1 + percent / 100) times as long.
Rounds noisy_rounds(int rounds, double percent, bool stalls, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto own_noise = [&] {
    double log_time = 0.01 * normal(random);
    if (stalls && uniform(random) < 0.1) log_time += 0.05 + 0.65 * uniform(random);
    return std::exp(log_time);
  };
  Rounds r;
  for (int i = 0; i < rounds; ++i) {
    const double shared = 5e-3 * std::exp(0.1 * normal(random));
    r.base.push_back(shared * own_noise());
    r.arm.push_back(shared * own_noise() * (1 + percent / 100));
  }
  return r;
}

TEST_CASE("quantiles interpolate as NumPy's") {
  const std::vector<double> v = {4, 1, 3, 2};
  REQUIRE(quantile(v, 0) == 1);
  REQUIRE(quantile(v, 1) == 4);
  REQUIRE(quantile(v, 0.5) == 2.5);
  REQUIRE(quantile(v, 0.99) == Approx(3.97));
  REQUIRE(quantile({}, 0.5) == 0);
  REQUIRE(mean(v) == 2.5);
  REQUIRE(standard_deviation(v) == Approx(std::sqrt(1.25)));
}

TEST_CASE("without noise the ratio is exact and its interval a point") {
  const std::vector<double> base = {1, 2, 3, 4, 5, 6, 7};
  std::vector<double> arm;
  for (const double b : base) arm.push_back(1.02 * b);
  const Estimate time = overhead_percent(arm, base, Better::kLower);
  REQUIRE(time.value == Approx(2));
  REQUIRE(time.low == Approx(2));
  REQUIRE(time.high == Approx(2));
  REQUIRE(time.rounds == 7);
  // The same numbers as rates: the arm is the faster one.
  REQUIRE(overhead_percent(arm, base, Better::kHigher).value == Approx(100 / 1.02 - 100));
  REQUIRE(describe_overhead(time) == "+2.00 % (+2.00 to +2.00)");
  REQUIRE(
      describe_overhead(overhead_percent(base, base, Better::kLower)) ==
      "not distinguishable from 0 (+0.00 to +0.00 %)");
}

TEST_CASE("the interval holds the true overhead in at least 95 of 100 runs") {
  const double percent = GENERATE(0., 0.5, 2., 5.);
  const int rounds = GENERATE(7, 11, 12, 21);
  const bool stalls = percent > 0;
  CAPTURE(percent, rounds, stalls);
  std::mt19937_64 random(7);
  constexpr int kRuns = 400;
  int held = 0;
  double error = 0;
  for (int i = 0; i < kRuns; ++i) {
    const Rounds r = noisy_rounds(rounds, percent, stalls, random);
    const Estimate e = overhead_percent(r.arm, r.base, Better::kLower);
    held += e.contains(percent) ? 1 : 0;
    error += e.value - percent;
    REQUIRE(e.low <= e.value);
    REQUIRE(e.value <= e.high);
  }
  REQUIRE(held >= kConfidence * kRuns);
  REQUIRE(std::abs(error / kRuns) < 0.25);  // and the value is not off to one side
}

TEST_CASE("a run is quiet when the same arm measures the same twice") {
  const std::vector<double> first = {100, 100, 100, 100, 100};
  const std::vector<double> second = {101, 99, 100, 150, 99.5};
  const Quietness q = quietness(first, second, 0.9);
  REQUIRE(q.spread_percent == Approx(100 * (1 - 100. / 101)));
  REQUIRE_FALSE(q.quiet());
  REQUIRE(quietness(first, second, 1).quiet());
}

}  // namespace
}  // namespace engram::tools::bench
