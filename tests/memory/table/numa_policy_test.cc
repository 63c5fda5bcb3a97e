#include "memory/table/numa_policy.h"

#include <catch2/catch.hpp>

namespace engram::memory {
namespace {

using Kind = NumaPolicy::Kind;

NumaTopology nodes(std::vector<int64_t> available) {
  NumaTopology topology;
  for (size_t i = 0; i < available.size(); ++i) {
    NumaNode node;
    node.id = static_cast<int>(i);
    node.available_bytes = available[i];
    topology.nodes.push_back(node);
  }
  return topology;
}

Result<NumaPlan> plan(
    int64_t bytes, NumaPolicy policy, const NumaTopology& topology, std::vector<int> gpus) {
  return plan_numa("table", bytes, policy, topology, gpus, 1);
}

TEST_CASE("policies are read and printed", "[numa_policy]") {
  for (const char* text : {"auto", "none", "interleave", "replicate", "bind:0", "bind:17"}) {
    CAPTURE(text);
    const Result<NumaPolicy> policy = parse_numa_policy(text);
    REQUIRE(policy.ok());
    CHECK(numa_policy_text(policy.value()) == text);
  }
  for (const char* text : {"", "bind", "bind:", "bind:-1", "bind:1x", "bind:99999999999", "Auto"}) {
    CAPTURE(text);
    CHECK(parse_numa_policy(text).status().code() == Code::kInvalidArgument);
  }
}

TEST_CASE("one node needs no policy", "[numa_policy]") {
  for (const Kind kind : {Kind::kAuto, Kind::kInterleave, Kind::kReplicate, Kind::kNone}) {
    CAPTURE(static_cast<int>(kind));
    const Result<NumaPlan> one = plan(500, {kind, 0}, nodes({100}), {0, 0});
    REQUIRE(one.ok());
    REQUIRE(one.value().copies.size() == 1);
    CHECK(one.value().copies[0].mode == NumaMode::kDefault);
  }
}

TEST_CASE("auto goes near the GPU, replicates over several, else spreads", "[numa_policy]") {
  const NumaPolicy wish{Kind::kAuto, 0};
  const NumaTopology two = nodes({100, 200});

  NumaPlan near = plan(90, wish, two, {0, 0}).value();
  REQUIRE(near.copies.size() == 1);
  CHECK(near.copies[0].mode == NumaMode::kBind);
  CHECK(near.copies[0].nodes == std::vector<int>{0});

  NumaPlan full = plan(150, wish, two, {0}).value();
  REQUIRE(full.copies.size() == 1);
  CHECK(full.copies[0].mode == NumaMode::kInterleave);
  CHECK(full.copies[0].nodes == std::vector<int>{0, 1});

  NumaPlan both = plan(90, wish, two, {0, 1, 0, 1}).value();
  REQUIRE(both.copies.size() == 2);
  CHECK(both.copies[0].nodes == std::vector<int>{0});
  CHECK(both.copies[1].nodes == std::vector<int>{1});
  CHECK(both.copies[1].mode == NumaMode::kBind);

  CHECK(plan(150, wish, two, {0, 1}).value().copies[0].mode == NumaMode::kInterleave);
  // A node nobody knows does not count.
  CHECK(plan(90, wish, two, {-1, 7, 0}).value().copies[0].mode == NumaMode::kBind);
}

TEST_CASE("auto without a GPU stays on the thread's node while it fits", "[numa_policy]") {
  const NumaPolicy wish{Kind::kAuto, 0};
  const NumaPlan local = plan(150, wish, nodes({100, 200}), {}).value();
  CHECK(local.copies[0].mode == NumaMode::kPrefer);
  CHECK(local.copies[0].nodes == std::vector<int>{1});
  CHECK(plan(250, wish, nodes({100, 200}), {}).value().copies[0].mode == NumaMode::kInterleave);
}

TEST_CASE("explicit wishes that cannot be met are refused with numbers", "[numa_policy]") {
  const NumaTopology two = nodes({100, 200});
  const NumaPlan bound = plan(90, {Kind::kBind, 1}, two, {0}).value();
  CHECK(bound.copies[0].nodes == std::vector<int>{1});

  const Status missing = plan(90, {Kind::kBind, 3}, two, {}).status();
  CHECK(missing.code() == Code::kInvalidArgument);
  CHECK_THAT(missing.message(), Catch::Contains("node 3") && Catch::Contains("0, 1"));

  const Status full = plan(150, {Kind::kBind, 0}, two, {}).status();
  CHECK(full.code() == Code::kResourceExhausted);
  CHECK_THAT(full.message(), Catch::Contains("150") && Catch::Contains("100"));

  CHECK(plan(90, {Kind::kReplicate, 0}, two, {}).value().copies.size() == 2);
  CHECK(plan(150, {Kind::kReplicate, 0}, two, {}).status().code() == Code::kResourceExhausted);
}

TEST_CASE("a pool of huge pages is room too", "[numa_policy]") {
  NumaTopology two = nodes({100, 200});
  two.nodes[0].pool_bytes = 500;
  CHECK(plan(450, {Kind::kBind, 0}, two, {}).ok());
  CHECK(plan(450, {Kind::kAuto, 0}, two, {0}).value().copies[0].mode == NumaMode::kBind);
}

}  // namespace
}  // namespace engram::memory
