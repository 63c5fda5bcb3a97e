// Two runs beside each other: what differs, what can be told apart, what is refused; and how often
// the interval of a quantile's difference holds the truth.
#include "tools/bench/compare_results.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/support/bench_results.h"
#include "tools/bench/quantile_difference.h"

namespace engram::tools::bench {
namespace {

ResultSet parsed(const std::string& text, const std::string& name) {
  ResultSet results;
  REQUIRE(parse_results(text, name, &results).ok());
  return results;
}

const MetricDifference& metric_of(const RunComparison& c, const std::string& name) {
  for (const MetricDifference& d : c.metrics) {
    if (d.metric == name) return d;
  }
  FAIL("no metric " + name);
  return c.metrics.front();
}

// A load run whose requests take `scale` times the time of others of the same seed's distribution.
ResultSet run_of(double scale, uint64_t seed, size_t requests) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> times(0, 0.3);
  ServeResult run;
  run.file = "f.json";
  run.request_rate = 4;
  for (size_t i = 0; i < requests; ++i) {
    run.requests.ttft_s.push_back(0.05 * scale * times(random));
    run.requests.latency_s.push_back(run.requests.ttft_s.back() + 1);
    run.requests.output_tokens.push_back(11);
  }
  run.metrics = {
      {"output_throughput", 100 / scale},
      {"median_ttft_ms", 50 * scale},
      {"p99_ttft_ms", 100 * scale}};
  return {.serve = {run}, .overhead = {}};
}

TEST_CASE("the interval of a ratio of medians holds the truth as often as it says") {
  std::mt19937_64 random(17);
  for (const size_t n : {9u, 25u, 200u}) {
    std::lognormal_distribution<double> times(0, 0.2);
    int held = 0;
    constexpr int kRuns = 300;
    for (int i = 0; i < kRuns; ++i) {
      std::vector<double> a(n);
      std::vector<double> b(n);
      for (double& value : a) value = times(random);
      for (double& value : b) value = 1.3 * times(random);
      const auto estimate = compare_quantiles(a, b, 0.5, Between::kRatio);
      REQUIRE(estimate.has_value());
      held += estimate->contains(1.3) ? 1 : 0;
    }
    CAPTURE(n, held);
    REQUIRE(held >= kRuns * 93 / 100);
    // An interval that always holds it would be too wide to be of use.
    REQUIRE(held < kRuns);
  }
}

TEST_CASE("the interval of a 90th percentile holds the truth") {
  std::mt19937_64 random(18);
  std::exponential_distribution<double> times(1);
  int held = 0;
  for (int i = 0; i < 300; ++i) {
    std::vector<double> a(400);
    std::vector<double> b(400);
    for (double& value : a) value = times(random);
    for (double& value : b) value = times(random) + 0.5;
    const auto estimate = compare_quantiles(a, b, 0.9, Between::kDifference);
    REQUIRE(estimate.has_value());
    held += estimate->contains(0.5) ? 1 : 0;
  }
  CAPTURE(held);
  REQUIRE(held >= 279);
}

TEST_CASE("too few samples have no interval") {
  const std::vector<double> many(100, 1.);
  REQUIRE(!compare_quantiles({1, 2, 3}, many, 0.5, Between::kRatio));
  REQUIRE(!compare_quantiles({}, {}, 0.5, Between::kRatio));
  REQUIRE(!compare_quantiles(many, many, 0.99, Between::kRatio));
  REQUIRE(!compare_quantiles({0, 1, 2, 3}, many, 0.5, Between::kRatio));
  REQUIRE(compare_quantiles({0, 1, 2, 3}, many, 0.5, Between::kDifference));
  REQUIRE(!compare_quantiles({NAN, INFINITY, 1, 2, 3}, many, 0.5, Between::kRatio));
  REQUIRE(compare_quantiles(many, many, 0.5, Between::kRatio)->low == 1);
}

TEST_CASE("a slower run is told from a faster one, the same is not") {
  const auto slower = compare_results(run_of(1, 1, 400), run_of(1.3, 2, 400));
  REQUIRE(slower.ok());
  const MetricDifference& ttft = metric_of(slower.value(), "median_ttft_ms");
  REQUIRE(*ttft.difference == Approx(30));
  REQUIRE(ttft.verdict() == "B worse");
  REQUIRE(!ttft.method.empty());
  // No samples: a difference, and no judgement.
  const MetricDifference& rate = metric_of(slower.value(), "output_throughput");
  REQUIRE(*rate.difference == Approx(100 / 1.3 - 100));
  REQUIRE(rate.verdict().empty());
  REQUIRE(!metric_of(slower.value(), "p99_ttft_ms").low);  // 4 requests beyond it

  const auto same = compare_results(run_of(1, 1, 400), run_of(1, 2, 400));
  REQUIRE(metric_of(same.value(), "median_ttft_ms").verdict() == "not distinguishable");
  REQUIRE(comparison_text(same.value()).find("not distinguishable") != std::string::npos);
}

TEST_CASE("settings that differ come first, warnings before them") {
  std::string other = tests::serve_result_json();
  other.replace(other.find("\"burstiness\":1.0"), 16, "\"burstiness\":0.5");
  const auto c =
      compare_results(parsed(tests::serve_result_json(), "a.json"), parsed(other, "b.json"));
  REQUIRE(c.ok());
  REQUIRE(c.value().settings.size() == 1);
  REQUIRE(c.value().settings[0] == std::vector<std::string>{"burstiness", "1", "0.5"});
  const std::string text = comparison_text(c.value());
  REQUIRE(text.find("WARNING: A: 1 requests failed") < text.find("burstiness"));
  REQUIRE(text.find("burstiness") < text.find("output_throughput"));
}

TEST_CASE("experiments are compared point by point") {
  std::string other = tests::overhead_result_json();
  other.replace(other.find("\"batch\":4"), 9, "\"batch\":8");
  const auto c =
      compare_results(parsed(tests::overhead_result_json(), "a.json"), parsed(other, "b.json"));
  REQUIRE(c.ok());
  const RunComparison& comparison = c.value();
  REQUIRE(comparison.notes.size() == 2);
  REQUIRE(comparison.notes[0].find("only in A: w3, batch 4") == 0);
  REQUIRE(comparison.notes[1].find("only in B: w3, batch 8") == 0);
  const MetricDifference& overhead =
      metric_of(comparison, "overhead of D over N, output throughput (%)");
  REQUIRE(overhead.points);
  REQUIRE(*overhead.difference == 0);
  REQUIRE(overhead.verdict() == "not distinguishable");
  const MetricDifference& arm = metric_of(comparison, "arm D: output_throughput");
  REQUIRE(*arm.a == 99.5);
  REQUIRE(arm.verdict() == "not distinguishable");
}

TEST_CASE("other kinds and other numbers of results are refused") {
  const ResultSet serve = parsed(tests::serve_result_json(), "a.json");
  const ResultSet overhead = parsed(tests::overhead_result_json(), "b.json");
  const ResultSet paper = parsed(tests::overhead_result_json("paper"), "c.json");
  REQUIRE(
      compare_results(serve, overhead).status().message() ==
      "these are results of different kinds: a.json is of `bench serve`, b.json of `bench "
      "overhead`");
  REQUIRE(!compare_results(overhead, paper).ok());
  REQUIRE(compare_results(paper, paper).ok());
  const ResultSet two = parsed(tests::serve_result_json() + tests::serve_result_json(), "d.json");
  REQUIRE(
      compare_results(serve, two).status().message() ==
      "B: expected one result to compare, found 2");
  REQUIRE(!compare_results(ResultSet{}, serve).ok());
}

TEST_CASE("the JSON has every metric, and null for what is not known") {
  const ResultSet run = parsed(tests::serve_result_json(), "a.json");
  const auto c = compare_results(run, run);
  const nlohmann::json json = nlohmann::json::parse(comparison_json(c.value()));
  REQUIRE(json["x_kind"] == "compare");
  REQUIRE(json["kind"] == "serve");
  REQUIRE(json["metrics"].size() == c.value().metrics.size());
  for (const nlohmann::json& metric : json["metrics"]) {
    REQUIRE(metric["low"].is_null());
    REQUIRE(metric["verdict"] == "");
    if (metric["a"] != 0) REQUIRE(metric["difference"] == 0);
  }
}

}  // namespace
}  // namespace engram::tools::bench
