// Plans of send times: rate, variation by burstiness, ramps against the integral of their rate, and
// what cannot be planned.
#include "tools/bench/arrivals.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> intervals_of(const std::vector<double>& times) {
  std::vector<double> intervals;
  double last = 0;
  for (const double t : times) {
    intervals.push_back(t - last);
    last = t;
  }
  return intervals;
}

TEST_CASE("without a rate everything is sent at once") {
  const std::vector<double> times = arrival_times({}, 5);
  REQUIRE(times == std::vector<double>(5, 0.));
  REQUIRE(arrival_times({}, 0).empty());
}

TEST_CASE("the last of n requests comes at n over the rate, whatever the burstiness") {
  const double burstiness = GENERATE(0.1, 0.5, 1., 3., kInfinity);
  const int count = GENERATE(1, 2, 10, 1000);
  const uint64_t seed = GENERATE(0u, 1u, 17u);
  CAPTURE(burstiness, count, seed);
  const std::vector<double> times =
      arrival_times({.request_rate = 8, .burstiness = burstiness, .seed = seed}, count);
  REQUIRE(static_cast<int>(times.size()) == count);
  REQUIRE(times.back() == Approx(count / 8.));
  REQUIRE(std::is_sorted(times.begin(), times.end()));
  REQUIRE(times.front() > 0);
}

TEST_CASE("the intervals vary as their burstiness says") {
  const double burstiness = GENERATE(0.25, 0.5, 1., 4., 25.);
  CAPTURE(burstiness);
  const std::vector<double> intervals = intervals_of(
      arrival_times({.request_rate = 100, .burstiness = burstiness, .seed = 3}, 100'000));
  const double variation = standard_deviation(intervals) / mean(intervals);
  REQUIRE(mean(intervals) == Approx(0.01));
  REQUIRE(variation == Approx(1 / std::sqrt(burstiness)).epsilon(0.03));
}

TEST_CASE("Poisson arrivals: the intervals are exponential, not only as varied as such") {
  const std::vector<double> intervals =
      intervals_of(arrival_times({.request_rate = 1, .seed = 5}, 100'000));
  for (const double share : {0.1, 0.5, 0.9, 0.99}) {
    CAPTURE(share);
    REQUIRE(quantile(intervals, share) == Approx(-std::log(1 - share)).epsilon(0.03));
  }
}

TEST_CASE("infinite burstiness is a constant rate") {
  const std::vector<double> times = arrival_times({.request_rate = 4, .burstiness = kInfinity}, 8);
  for (size_t i = 0; i < 8; ++i) REQUIRE(times[i] == Approx(0.25 * static_cast<double>(i + 1)));
}

TEST_CASE("a ramp sends as many requests as the integral of its rate") {
  // The rate grows evenly with the request's number i: di/dt = start + slope * i, so that a linear
  // ramp of n requests lasts ln(end / start) / slope. Exponential: the sum of a geometric series.
  const double start = 5;
  const double end = 40;
  const int count = 20'000;
  const double n = count;
  const double linear_s = std::log(end / start) * (n - 1) / (end - start);
  const double ratio = std::pow(end / start, -1 / (n - 1));
  const double exponential_s = (1 - std::pow(ratio, n)) / (1 - ratio) / start;
  for (const double burstiness : {kInfinity, 1.}) {
    for (const RampUp ramp : {RampUp::kLinear, RampUp::kExponential}) {
      CAPTURE(burstiness, ramp_up_name(ramp));
      const std::vector<double> times = arrival_times(
          {.burstiness = burstiness,
           .ramp_up = ramp,
           .ramp_up_start_rps = start,
           .ramp_up_end_rps = end,
           .seed = 11},
          count);
      const double expected = ramp == RampUp::kLinear ? linear_s : exponential_s;
      REQUIRE(times.back() == Approx(expected).epsilon(0.03));
      REQUIRE(std::is_sorted(times.begin(), times.end()));
      // The rates of the first and of the last requests.
      REQUIRE(500 / times[499] == Approx(start).epsilon(0.2));
      REQUIRE(500 / (times.back() - times[times.size() - 501]) == Approx(end).epsilon(0.2));
    }
  }
}

TEST_CASE("rate changes name each whole rate once, at the request that reached it") {
  const ArrivalOptions options = {
      .burstiness = kInfinity,
      .ramp_up = RampUp::kLinear,
      .ramp_up_start_rps = 1,
      .ramp_up_end_rps = 3};
  const std::vector<double> times = arrival_times(options, 5);  // rates 1, 1.5, 2, 2.5, 3
  const std::vector<RateChange> changes = rate_changes(options, times);
  REQUIRE(changes.size() == 3);
  REQUIRE(changes[0].rps == 1);
  REQUIRE(changes[0].at_s == 0);
  REQUIRE(changes[1].rps == 2);
  REQUIRE(changes[1].at_s == times[2]);
  REQUIRE(changes[2].rps == 3);
  REQUIRE(changes[2].at_s == times[4]);
  // A steep ramp passes several whole rates with one request.
  ArrivalOptions steep = options;
  steep.ramp_up_end_rps = 9;
  const std::vector<double> few = arrival_times(steep, 2);
  REQUIRE(rate_changes(steep, few).size() == 9);
  REQUIRE(rate_changes(steep, few).back().at_s == few[1]);
  REQUIRE(rate_changes({.request_rate = 3}, times).empty());
}

TEST_CASE("equal seeds give equal plans, others do not") {
  const ArrivalOptions options = {.request_rate = 10, .burstiness = 0.7, .seed = 9};
  ArrivalOptions other = options;
  other.seed = 10;
  REQUIRE(arrival_times(options, 100) == arrival_times(options, 100));
  REQUIRE(arrival_times(options, 100) != arrival_times(other, 100));
}

TEST_CASE("a plan takes its times in order; a trace keeps its own, from 0 on") {
  std::vector<PlannedRequest> plan(3);
  set_arrivals({.request_rate = 2, .burstiness = kInfinity}, &plan);
  REQUIRE(plan[0].at_s == Approx(0.5));
  REQUIRE(plan[2].at_s == Approx(1.5));
  for (size_t i = 0; i < 3; ++i) {
    plan[i].at_s = i == 0 ? 30 : 10;
    plan[i].max_tokens = static_cast<int64_t>(i + 1);
  }
  set_replay(2, &plan);
  REQUIRE(plan[0].at_s == 0);
  REQUIRE(plan[0].max_tokens == 2);
  REQUIRE(plan[1].at_s == 0);
  REQUIRE(plan[1].max_tokens == 3);
  REQUIRE(plan[2].at_s == 10);
  REQUIRE(plan[2].max_tokens == 1);
  std::vector<PlannedRequest> nothing;
  set_replay(1, &nothing);
  REQUIRE(nothing.empty());
}

TEST_CASE("what cannot be planned is refused by the name of its flag") {
  const auto message = [](const ArrivalOptions& options) {
    return check_arrivals(options).message();
  };
  REQUIRE(check_arrivals({}).ok());
  REQUIRE(
      message({.request_rate = 0}) ==
      "--request-rate: expected more than 0 requests/s or inf, found 0");
  REQUIRE(message({.request_rate = std::nan("")}).find("--request-rate") == 0);
  REQUIRE(message({.burstiness = -1}) == "--burstiness: expected more than 0 or inf, found -1");
  ArrivalOptions ramp = {.ramp_up = RampUp::kLinear, .ramp_up_start_rps = 2, .ramp_up_end_rps = 4};
  REQUIRE(check_arrivals(ramp).ok());
  ramp.request_rate = 2.5;
  REQUIRE(
      message(ramp) ==
      "--ramp-up-strategy: expected no --request-rate beside it, found 2.5 requests/s");
  ramp.request_rate = kInfinity;
  ramp.ramp_up_start_rps = 0;
  REQUIRE(message(ramp) == "--ramp-up-start-rps: expected more than 0 requests/s, found 0");
  ramp.ramp_up_start_rps = 5;
  REQUIRE(
      message(ramp) ==
      "--ramp-up-end-rps: expected at least the 5 requests/s of the start, found 4");
  REQUIRE(ramp_up_of("linear").value() == RampUp::kLinear);
  REQUIRE(ramp_up_of("exponential").value() == RampUp::kExponential);
  REQUIRE(
      ramp_up_of("square").status().message() ==
      "--ramp-up-strategy: expected linear or exponential, found \"square\"");
}

}  // namespace
}  // namespace engram::tools::bench
