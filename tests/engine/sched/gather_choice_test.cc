// Which way rows take, from made-up times.
#include "engine/sched/gather_choice.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <utility>

namespace engram::engine {
namespace {

GatherTimes times(int64_t tokens, double loads, double bulk, double host) {
  return {.tokens = tokens, .us = {loads, bulk, std::nullopt, host}};
}

TEST_CASE("gather choice: the fastest way of each size, up to the middle to the next", "[gather]") {
  const std::vector<GatherTimes> measured = {
      times(1, 4, 5, 12), times(8, 6, 6.1, 14), times(64, 30, 11, 30), times(512, 200, 80, 300),
      times(8192, 4000, 1300, 1000)};
  const GatherChoice choice(measured);
  for (const int64_t tokens : {0, 1, 8, 22}) CHECK(choice.way(tokens) == GatherWay::kLoads);
  for (const int64_t tokens : {23, 64, 512, 2047}) CHECK(choice.way(tokens) == GatherWay::kBulk);
  for (const int64_t tokens : {2048, 8192, 100000}) CHECK(choice.way(tokens) == GatherWay::kHost);
  CHECK(choice.text() == "loads; from 23 tokens bulk; from 2048 tokens host");
}

TEST_CASE("gather choice: a way is not left for one that is hardly faster", "[gather]") {
  CHECK(GatherChoice(std::vector{times(1, 100, 96, 96)}).way(1) == GatherWay::kLoads);
  CHECK(GatherChoice(std::vector{times(1, 100, 94, 90)}).way(1) == GatherWay::kBulk);
  CHECK(GatherChoice(std::vector{times(1, 100, 94, 50)}).way(1) == GatherWay::kHost);
  CHECK(GatherChoice(std::vector{times(1, 1, 1, 1), times(9, 1, 1, 1)}).text() == "loads");
}

TEST_CASE("gather choice: what was not measured is not chosen", "[gather]") {
  const std::vector<GatherTimes> measured = {
      {.tokens = 1, .us = {5., 3., std::nullopt, std::nullopt}},
      {.tokens = 4, .us = {std::nullopt, 9., std::nullopt, 8.}},
      {.tokens = 100, .us = {std::nullopt, 90., 70., 80.}}};
  CHECK(GatherChoice(measured).text() == "bulk; from 2 tokens host; from 20 tokens distinct");
  CHECK(GatherChoice(GatherWay::kHost).way(1) == GatherWay::kHost);
  CHECK(GatherChoice().text() == "loads");
}

TEST_CASE("gather choice: names", "[gather]") {
  for (const GatherWay way : kGatherWays) {
    CHECK(parse_gather_way(gather_way_name(way)).value() == way);
  }
  CHECK_FALSE(parse_gather_way("auto").value().has_value());
  const memory::Status status = parse_gather_way("kernel").status();
  CHECK(status.code() == memory::Code::kInvalidArgument);
  CHECK(
      status.message() ==
      "--ngram-gather must be one of auto, loads, bulk, distinct, host, got kernel");
}

TEST_CASE("gather measurement: sizes up to the largest step", "[gather]") {
  CHECK(gather_sizes(100000) == std::vector<int64_t>{1, 8, 64, 512, 8192});
  CHECK(gather_sizes(512) == std::vector<int64_t>{1, 8, 64, 512});
  CHECK(gather_sizes(100) == std::vector<int64_t>{1, 8, 64, 100});
  CHECK(gather_sizes(1) == std::vector<int64_t>{1});
}

TEST_CASE("gather measurement: each size by each way, until the time is over", "[gather]") {
  constexpr GatherWay kTwo[] = {GatherWay::kLoads, GatherWay::kHost};
  std::vector<std::pair<GatherWay, int64_t>> calls;
  const auto measure = [&](GatherWay way, int64_t tokens) {
    calls.emplace_back(way, tokens);
    return static_cast<double>(10 * tokens + (way == GatherWay::kHost ? 3 : 0));
  };
  const std::vector<int64_t> sizes = {1, 10, 100};
  std::vector<GatherTimes> measured = measure_gathers(sizes, kTwo, 1e9, measure);
  REQUIRE(measured.size() == 3);
  CHECK(calls.size() == 6);
  CHECK(measured[1].tokens == 10);
  CHECK(measured[1].us[static_cast<size_t>(GatherWay::kLoads)] == 100.);
  CHECK_FALSE(measured[1].us[static_cast<size_t>(GatherWay::kBulk)].has_value());
  CHECK(measured[1].us[static_cast<size_t>(GatherWay::kHost)] == 103.);
  CHECK(
      gather_times_text(measured) ==
      "1: loads 10.0, host 13.0; 10: loads 100.0, host 103.0; 100: loads 1000.0, host 1003.0");
  // The first size takes kGatherRepeats * 23 us.
  calls.clear();
  measured = measure_gathers(sizes, kTwo, kGatherRepeats * 23. - 1, measure);
  CHECK(measured.size() == 1);
  CHECK(calls.size() == 2);
  measured = measure_gathers(sizes, kTwo, kGatherRepeats * 23. + 1, measure);
  CHECK(measured.size() == 2);
}

}  // namespace
}  // namespace engram::engine
