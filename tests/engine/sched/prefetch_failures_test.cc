// Rows that could not be read: whose step it was, and what becomes of it.
#include <atomic>
#include <catch2/catch.hpp>
#include <set>
#include <thread>
#include <vector>

#include "engine/sched/prefetch.h"
#include "tests/support/prefetch_rig.h"

namespace engram::engine {
namespace {

void run_gathers(Rig& rig) {
  run_step(
      rig, {}, [] {}, [] {});
}

std::vector<MissingRows> run_and_commit(Rig& rig, const OneStep& step) {
  rig.prefetch->prepare(step.plan, step.tokens_of());
  run_gathers(rig);
  return rig.prefetch->commit(step.plan).missing;
}

}  // namespace

TEST_CASE("prefetch: a gather that fails is known when its step was run", "[prefetch]") {
  for (const FetchMode mode : {FetchMode::kPrefetch, FetchMode::kSync}) {
    Rig rig(mode, kSmall, [] {});
    OneStep step(7);
    rig.prefetch->add(1, 9);
    const std::set<int32_t> slots = {3, 5};
    rig.store(1).fail(&slots);
    const std::vector<MissingRows> missing = run_and_commit(rig, step);
    REQUIRE(missing.size() == 1);
    CHECK(missing[0].sequence == 1);
    CHECK_FALSE(missing[0].fetched_ahead);
    CHECK(missing[0].status.code() == memory::Code::kDataLoss);
    CHECK_THAT(
        missing[0].status.message(),
        Catch::Contains("layer 1 ") && Catch::Contains("table test") && Catch::Contains("failed"));
    const PrefetchStats stats = rig.prefetch->stats();
    CHECK(stats.layers[0].failed_tokens == 0);
    CHECK(stats.layers[1].failed_tokens == 2);
    // The slots are free and hold no grudge.
    CHECK(rig.prefetch->free_slots() == rig.prefetch->slots());
    rig.store(1).fail(nullptr);
    CHECK(run_and_commit(rig, step).empty());
  }
}

TEST_CASE("prefetch: what failed ahead of its step is fetched again with it", "[prefetch]") {
  Rig rig(FetchMode::kPrefetch, kSmall, [] {});
  OneStep step(7);
  const std::vector<int32_t> tokens(step.tokens_of()[0].begin(), step.tokens_of()[0].end());
  rig.prefetch->add(1, 1);
  const std::set<int32_t> slots = {2, 3, 4};
  rig.store(0).fail(&slots);
  rig.prefetch->look_ahead(std::vector<FetchRange>{{1, tokens, 0, 7}});
  rig.prefetch->synchronize_for_test();
  rig.store(0).fail(nullptr);
  CHECK(run_and_commit(rig, step).empty());
  CHECK(rig.prefetch->stats().late_tokens == 3);

  // Not known before the step was run: then it is worth another.
  std::atomic<bool> go = false;
  Rig slow(FetchMode::kPrefetch, kSmall, [&] {
    while (!go) std::this_thread::yield();
  });
  slow.prefetch->add(1, 1);
  slow.store(0).fail(&slots);
  slow.prefetch->look_ahead(std::vector<FetchRange>{{1, tokens, 0, 7}});
  slow.prefetch->prepare(step.plan, step.tokens_of());
  go = true;
  run_gathers(slow);
  const std::vector<MissingRows> missing = slow.prefetch->commit(step.plan).missing;
  REQUIRE(missing.size() == 1);
  CHECK(missing[0].fetched_ahead);
  CHECK(slow.prefetch->stats().late_tokens == 0);
}

TEST_CASE("prefetch: a failure is not inherited with the slot", "[prefetch]") {
  std::atomic<bool> go = false;
  Rig rig(FetchMode::kPrefetch, kSmall, [&] {
    while (!go) std::this_thread::yield();
  });
  OneStep step(7);
  const std::vector<int32_t> tokens(16, 5);
  rig.prefetch->add(1, 1);
  rig.prefetch->add(2, 2);
  const std::set<int32_t> slots = {0, 1, 2, 3, 4, 5, 6};
  rig.store(0).fail(&slots);
  rig.prefetch->look_ahead(std::vector<FetchRange>{{2, tokens, 0, 7}});
  rig.prefetch->forget(2);
  go = true;
  rig.prefetch->synchronize_for_test();
  rig.store(0).fail(nullptr);
  CHECK(run_and_commit(rig, step).empty());
}

}  // namespace engram::engine
