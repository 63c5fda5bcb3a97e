// Shares of disturbed requests, warm-ups and probes are what was asked for.
#include "tools/bench/load_plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

namespace engram::tools::bench {
namespace {

std::vector<PlannedRequest> plan_of(size_t count) {
  std::vector<PlannedRequest> plan(count);
  for (size_t i = 0; i < count; ++i) {
    plan[i].at_s = static_cast<double>(i);
    plan[i].prompt_tokens = static_cast<int64_t>(i);
  }
  return plan;
}

int64_t cancelled(const std::vector<PlannedRequest>& plan) {
  return std::count_if(
      plan.begin(), plan.end(), [](const PlannedRequest& r) { return r.cancel_after_s >= 0; });
}

int64_t slow(const std::vector<PlannedRequest>& plan) {
  return std::count_if(
      plan.begin(), plan.end(), [](const PlannedRequest& r) { return r.read_pause_s > 0; });
}

}  // namespace

TEST_CASE("load plan: so many are disturbed", "[bench]") {
  for (const uint64_t seed : {0, 1, 2, 3}) {
    CAPTURE(seed);
    std::vector<PlannedRequest> plan = plan_of(10000);
    disturb({0.25, 0.5, 0.1, 0.2}, seed, &plan);
    // Five standard deviations of a binomial count.
    CHECK(std::abs(cancelled(plan) - 2500) < 217);
    CHECK(std::abs(slow(plan) - 1000) < 150);
    int64_t both = 0;
    for (const PlannedRequest& request : plan) {
      CHECK((request.cancel_after_s == -1 || request.cancel_after_s == 0.5));
      CHECK((request.read_pause_s == 0 || request.read_pause_s == 0.2));
      both += request.cancel_after_s >= 0 && request.read_pause_s > 0;
    }
    CHECK(std::abs(both - 250) < 79);  // independent of each other
  }
  std::vector<PlannedRequest> plan = plan_of(1000);
  disturb({}, 7, &plan);
  CHECK(cancelled(plan) + slow(plan) == 0);
  disturb({1, 0, 1, 0.1}, 7, &plan);
  CHECK(cancelled(plan) == 1000);
  CHECK(slow(plan) == 1000);
}

TEST_CASE("load plan: what the server would refuse is left out", "[bench]") {
  std::vector<PlannedRequest> plan = plan_of(100);
  CHECK(leave_out_too_long(1000, &plan) == 0);
  CHECK(leave_out_too_long(60, &plan) == 40);
  CHECK(plan.size() == 60);
  CHECK(plan.back().prompt_tokens == 59);
  CHECK(leave_out_too_long(0, &plan) == 60);
  CHECK(plan.empty());
}

TEST_CASE("load plan: warm-ups are the first requests, undisturbed", "[bench]") {
  std::vector<PlannedRequest> plan = plan_of(3);
  disturb({1, 0, 1, 0.1}, 7, &plan);
  const std::vector<PlannedRequest> warm_up = warm_up_plan(plan, 5);
  REQUIRE(warm_up.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(warm_up[i].prompt_tokens == static_cast<int64_t>(i % 3));
    CHECK(warm_up[i].at_s == 0);
  }
  CHECK(cancelled(warm_up) + slow(warm_up) == 0);
  CHECK(warm_up_plan(plan, 0).empty());
}

TEST_CASE("load plan: probes fit and differ", "[bench]") {
  for (const int64_t max_model_len : {2, 9, 4096}) {
    CAPTURE(max_model_len);
    const std::vector<PlannedRequest> probes = probe_plan(1000, max_model_len, 3);
    std::set<std::vector<uint32_t>> prompts;
    for (const PlannedRequest& probe : probes) {
      CHECK(probe.max_tokens == 1);
      CHECK(!probe.prompt_ids.empty());
      CHECK(static_cast<int64_t>(probe.prompt_ids.size()) < max_model_len);
      CHECK(probe.prompt_tokens == static_cast<int64_t>(probe.prompt_ids.size()));
      for (const uint32_t id : probe.prompt_ids) CHECK(id < 1000);
      prompts.insert(probe.prompt_ids);
    }
    if (max_model_len > 4) CHECK(prompts.size() == probes.size());
  }
}

}  // namespace engram::tools::bench
