// The moments of each distribution against the exact ones, and fixed values that no machine may
// change.
#include "tools/bench/random.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <vector>

namespace engram::tools::bench {
namespace {

constexpr int kSamples = 200'000;

struct Moments {
  double mean = 0;
  double variance = 0;
};

template <typename Draw>
Moments moments_of(Draw draw) {
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kSamples; ++i) {
    const double value = draw();
    sum += value;
    squares += value * value;
  }
  const double mean = sum / kSamples;
  return {mean, squares / kSamples - mean * mean};
}

TEST_CASE("uniform numbers lie in [0, 1) with the moments of the distribution") {
  Random random(1, 0);
  const Moments m = moments_of([&] {
    const double u = random.uniform();
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    return u;
  });
  REQUIRE(m.mean == Approx(0.5).margin(0.005));
  REQUIRE(m.variance == Approx(1. / 12).epsilon(0.02));
}

TEST_CASE("normal and exponential numbers have their moments") {
  Random random(2, 0);
  const Moments normal = moments_of([&] { return random.normal(); });
  REQUIRE(normal.mean == Approx(0).margin(0.01));
  REQUIRE(normal.variance == Approx(1).epsilon(0.02));
  const Moments exponential = moments_of([&] { return random.exponential(); });
  REQUIRE(exponential.mean == Approx(1).epsilon(0.02));
  REQUIRE(exponential.variance == Approx(1).epsilon(0.05));
}

TEST_CASE("gamma numbers have the mean and the variance of their shape") {
  const double shape = GENERATE(0.05, 0.25, 0.9, 1., 1.5, 4., 100.);
  CAPTURE(shape);
  Random random(3, 0);
  const Moments m = moments_of([&] {
    const double value = random.gamma(shape);
    REQUIRE(value >= 0);
    return value;
  });
  // Five standard errors; the fourth moment of a gamma of small shape is large.
  const double n = kSamples;
  REQUIRE(m.mean == Approx(shape).margin(5 * std::sqrt(shape / n)));
  REQUIRE(m.variance == Approx(shape).margin(5 * std::sqrt((2 * shape * shape + 6 * shape) / n)));
}

TEST_CASE("bounded numbers reach every value equally often") {
  Random random(4, 0);
  const uint64_t end = GENERATE(1u, 2u, 7u, 10u);
  CAPTURE(end);
  std::vector<int> seen(end);
  for (int i = 0; i < 70'000; ++i) ++seen[random.below(end)];
  const double expected = 70'000. / static_cast<double>(end);
  for (const int count : seen) REQUIRE(count == Approx(expected).margin(5 * std::sqrt(expected)));
}

TEST_CASE("shuffling keeps the values and moves each to every place") {
  Random random(5, 0);
  std::vector<int> places(6);
  for (int round = 0; round < 6000; ++round) {
    std::vector<int> values(6);
    std::iota(values.begin(), values.end(), 0);
    random.shuffle(values);
    REQUIRE(std::accumulate(values.begin(), values.end(), 0) == 15);
    for (size_t i = 0; i < 6; ++i) {
      if (values[i] == 0) ++places[i];
    }
  }
  for (const int count : places) REQUIRE(count == Approx(1000).margin(150));
}

TEST_CASE("seeds and streams differ, and a seed's numbers are fixed") {
  Random first(7, 0);
  Random again(7, 0);
  Random stream(7, 1);
  Random seed(8, 0);
  const uint64_t bits = first.bits();
  REQUIRE(bits == again.bits());
  REQUIRE(bits != stream.bits());
  REQUIRE(bits != seed.bits());
  // Computed from the definitions by another program.
  Random fixed(0, 0);
  REQUIRE(fixed.bits() == 8892643065069030078u);
  REQUIRE(fixed.uniform() == 0.09763522103738831);
  REQUIRE(fixed.exponential() == Approx(0.6526641558068427).epsilon(1e-14));
  REQUIRE(fixed.normal() == Approx(-0.08597705281003641).epsilon(1e-14));
  REQUIRE(fixed.gamma(0.5) == Approx(0.019420661453161753).epsilon(1e-13));
  REQUIRE(fixed.gamma(3) == Approx(8.87059328320997).epsilon(1e-14));
}

}  // namespace
}  // namespace engram::tools::bench
