// Ticks of random ranges: round, within the range, evenly spaced, neither too many nor too few.
// Scales map their range onto the pixels and never leave them.
#include "tools/bench/svg_axis.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

namespace engram::tools::bench {
namespace {

// 1, 2 or 5 times a power of ten.
bool is_round_step(double step) {
  const double mantissa = step / std::pow(10., std::floor(std::log10(step) + 1e-9));
  for (const double round : {1., 2., 5., 10.}) {
    if (std::abs(mantissa - round) < 1e-6) return true;
  }
  return false;
}

TEST_CASE("linear ticks are round numbers within the range") {
  std::mt19937_64 random(5);
  std::uniform_real_distribution<double> uniform;
  for (int i = 0; i < 20000; ++i) {
    const double size = std::pow(10., -12 + 24 * uniform(random));
    const double low = size * (uniform(random) - 0.5);
    const double high = low + size * (0.01 + uniform(random));
    const int most = 3 + static_cast<int>(random() % 10);
    CAPTURE(i, low, high, most);
    const std::vector<double> ticks = linear_ticks(low, high, most);
    REQUIRE(ticks.size() >= 1);
    REQUIRE(static_cast<int>(ticks.size()) <= most);
    for (const double tick : ticks) {
      REQUIRE(tick >= low - 1e-9 * (high - low));
      REQUIRE(tick <= high + 1e-9 * (high - low));
    }
    if (ticks.size() < 2) continue;
    const double step = ticks[1] - ticks[0];
    REQUIRE(is_round_step(step));
    REQUIRE(std::abs(std::remainder(ticks[0], step)) < 1e-6 * step);
    for (size_t t = 1; t < ticks.size(); ++t) {
      REQUIRE(ticks[t] - ticks[t - 1] == Approx(step).epsilon(1e-6));
    }
  }
}

TEST_CASE("a range has two fifths of the ticks that it may have") {
  for (const int most : {5, 7, 10}) {
    for (double high = 1; high < 100; high *= 1.07) {
      CAPTURE(most, high);
      REQUIRE(static_cast<int>(linear_ticks(0, high, most).size()) * 5 >= most * 2);
    }
  }
}

TEST_CASE("logarithmic ticks are round and ascend") {
  std::mt19937_64 random(6);
  std::uniform_real_distribution<double> uniform;
  for (int i = 0; i < 20000; ++i) {
    const double low = std::pow(10., -200 + 400 * uniform(random));
    const double high = low * std::pow(10., 0.1 + 20 * uniform(random) * uniform(random));
    CAPTURE(i, low, high);
    const std::vector<double> ticks = log_ticks(low, high, 8);
    REQUIRE(!ticks.empty());
    REQUIRE(ticks.size() <= 9);
    for (size_t t = 0; t < ticks.size(); ++t) {
      REQUIRE(ticks[t] >= low * (1 - 1e-6));
      REQUIRE(ticks[t] <= high * (1 + 1e-6));
      if (t > 0) REQUIRE(ticks[t] > ticks[t - 1]);
    }
  }
}

TEST_CASE("degenerate ranges have a tick and end") {
  const double huge = std::numeric_limits<double>::max();
  REQUIRE(linear_ticks(3, 3, 7) == std::vector<double>{3});
  REQUIRE(linear_ticks(-huge, huge, 7).size() == 1);
  REQUIRE(linear_ticks(1e300, 1e300 * (1 + 1e-16), 7).size() == 1);
  REQUIRE(!log_ticks(5, 5, 7).empty());
  REQUIRE(linear_ticks(-1, 1, 5)[2] == 0);
  REQUIRE(!std::signbit(linear_ticks(-1, 1, 5)[2]));
}

TEST_CASE("a scale maps its range onto the pixels") {
  const Axis plain{.label = "x"};
  const Scale scale(plain, 10, 20, 100, 300);
  REQUIRE(scale.low() < 10);
  REQUIRE(scale.high() > 20);
  REQUIRE(scale.pixel(15) == Approx(200));
  REQUIRE(scale.pixel(scale.low()) == Approx(100));
  REQUIRE(scale.pixel(1e308) == Approx(300));
  REQUIRE(scale.pixel(-1e308) == Approx(100));
  const Scale down(plain, 10, 20, 300, 100);
  REQUIRE(down.pixel(20) < down.pixel(10));
  const Scale from_zero({.label = "x", .zero = true}, 10, 20, 0, 100);
  REQUIRE(from_zero.low() == 0);
  REQUIRE(from_zero.pixel(0) == 0);
}

TEST_CASE("a logarithmic scale maps ratios onto distances") {
  const Scale scale({.label = "x", .log = true}, 1, 100, 0, 1000);
  REQUIRE(scale.pixel(10) - scale.pixel(1) == Approx(scale.pixel(100) - scale.pixel(10)));
  REQUIRE(!scale.has(0));
  REQUIRE(!scale.has(-1));
  REQUIRE(scale.has(1e-9));
  REQUIRE(!scale.has(std::nan("")));
}

TEST_CASE("scales of extreme ranges stay finite") {
  const double huge = std::numeric_limits<double>::max();
  const double tiny = std::numeric_limits<double>::denorm_min();
  for (const bool log : {false, true}) {
    const Axis axis{.label = "x", .log = log};
    for (const auto& [low, high] :
         {std::pair{-huge, huge},
          {tiny, huge},
          {huge, huge},
          {0., 0.},
          {tiny, tiny},
          {1e300, 1.0000001e300}}) {
      CAPTURE(log, low, high);
      const Scale scale(axis, low, high, 0, 500);
      for (const double value : {low, high, 0., 1.}) {
        REQUIRE(scale.pixel(value) >= 0);
        REQUIRE(scale.pixel(value) <= 500);
      }
      REQUIRE(!scale.ticks(7).empty());
    }
  }
}

TEST_CASE("ticks that differ late are written in full") {
  const Scale scale({.label = "x"}, 1000.01, 1000.04, 0, 100);
  const std::vector<Tick> ticks = scale.ticks(6);
  for (size_t i = 1; i < ticks.size(); ++i) REQUIRE(ticks[i].text != ticks[i - 1].text);
  const Scale parameters({.label = "x", .log = true, .billions = true}, 1e9, 1e11, 0, 100);
  REQUIRE(parameters.ticks(10).front().text == "1B");
}

}  // namespace
}  // namespace engram::tools::bench
