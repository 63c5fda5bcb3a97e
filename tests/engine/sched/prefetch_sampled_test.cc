// Rows that the compute stream hashes and gathers as soon as it has sampled their tokens.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "engine/sched/prefetch.h"
#include "tests/support/prefetch_rig.h"

namespace engram::engine {
namespace {

constexpr int64_t kRowsOfToken = 4;  // of one layer
constexpr PrefetchLimits kThree{.max_num_batched_tokens = 16, .max_num_seqs = 3};

// A step of sequences that each run one token, sampled on the compute stream.
struct Decodes {
  explicit Decodes(const std::vector<std::vector<int32_t>>& texts) : pool(16, 4), tokens(texts) {
    for (size_t i = 0; i < texts.size(); ++i) {
      const int64_t size = std::ssize(texts[i]);
      plan.sequences.push_back(
          {.sequence = i + 1,
           .begin = size - 1,
           .count = 1,
           .token_begin = static_cast<int64_t>(i)});
      plan.ids.push_back(texts[i].back());
      plan.positions.push_back(static_cast<int32_t>(size - 1));
    }
  }
  std::vector<std::span<const int32_t>> tokens_of() const { return {tokens.begin(), tokens.end()}; }

  memory::PagePool pool;
  std::vector<std::vector<int32_t>> tokens;
  BatchPlan plan;
};

// As the engine does: the step is run, and samples `ids`. Returns which of them go on.
void sample(Rig& rig, Decodes& step, std::span<const int32_t> ids, std::vector<int32_t>* written) {
  rig.prefetch->prepare(step.plan, step.tokens_of());
  for (Ticket& ticket : rig.prefetch->tickets()) ticket.redeem();
  written->assign(ids.size(), -1);
  memory::as_cpu(*rig.compute).enqueue([ids, written] {
    std::ranges::copy(ids, written->begin());
  });
  std::vector<SamplingSequence> sampling;
  for (size_t i = 0; i < ids.size(); ++i) {
    sampling.push_back({i + 1, step.tokens[i], written->data() + i});
  }
  rig.prefetch->fetch_when_sampled(sampling);
}

}  // namespace

TEST_CASE("prefetch: sampled tokens have their rows before the host asks", "[prefetch]") {
  std::atomic<int> gathers = 0;
  Rig rig(
      FetchMode::kPrefetch, kThree, [&] { ++gathers; }, true);
  Decodes step({{1, 2, 3}, {4}, {5, 6, 7, 8, 9, 10}});
  for (const uint64_t id : {1u, 2u, 3u}) rig.prefetch->add(id, id);
  const std::array<int32_t, 3> ids = {11, 12, 13};
  std::vector<int32_t> written;
  sample(rig, step, ids, &written);
  rig.compute->synchronize();
  CHECK(gathers == 4);  // two layers, two steps
  CHECK(rig.prefetch->commit(step.plan).missing.empty());
  // The second one ends with its token.
  for (size_t i = 0; i < 3; ++i) step.tokens[i].push_back(ids[i]);
  rig.prefetch->fetch_sampled(
      std::vector<FetchRange>{{1, step.tokens[0], 3, 4}, {3, step.tokens[2], 6, 7}});
  rig.prefetch->forget(2);
  CHECK(gathers == 4);
  CHECK(rig.prefetch->free_slots() == rig.prefetch->slots() - 2);
  CHECK(rig.prefetch->usage(1).rows == 2 * kRowsOfToken * 2);
  CHECK(rig.prefetch->usage(2).rows == 2 * kRowsOfToken);
  const PrefetchStats stats = rig.prefetch->stats();
  CHECK(stats.early_tokens == 2);
  CHECK(stats.layers[0].rows == kRowsOfToken * 5);
  CHECK(stats.layers[0].unique_rows <= kRowsOfToken * 5);
  CHECK(stats.hash_ns > 0);

  Decodes next({step.tokens[0], step.tokens[2]});
  next.plan.sequences[1].sequence = 3;
  const std::span<const int32_t> slots = rig.prefetch->prepare(next.plan, next.tokens_of());
  const auto seen = run_step(
      rig, slots, [] {}, [] {});
  for (size_t layer = 0; layer < 2; ++layer) {
    std::vector<float> expected = rig.expected(layer, next.tokens[0], 3);
    const std::vector<float> second = rig.expected(layer, next.tokens[1], 6);
    expected.insert(expected.end(), second.begin(), second.end());
    CHECK(seen[layer] == expected);
  }
  CHECK(gathers == 4);
  const StepFetch fetched = rig.prefetch->commit(next.plan);
  CHECK(fetched.missing.empty());
  CHECK(fetched.exposed_wait_ns == 0);
  CHECK(rig.prefetch->usage(1).gather_ns > 0);
  CHECK(rig.prefetch->free_slots() == rig.prefetch->slots());
}

TEST_CASE("prefetch: a step waits for rows that are being gathered, and says so", "[prefetch]") {
  std::atomic<bool> hold = false;
  std::atomic<bool> holding = false;
  const auto before = [&] {
    if (hold) holding = true;
    while (hold) std::this_thread::yield();
  };
  Rig rig(FetchMode::kPrefetch, kThree, before, true);
  Decodes step({{1, 2, 3}});
  rig.prefetch->add(1, 1);
  const int32_t sampled = 11;
  rig.prefetch->prepare(step.plan, step.tokens_of());
  rig.compute->synchronize();
  for (Ticket& ticket : rig.prefetch->tickets()) ticket.redeem();
  hold = true;
  rig.prefetch->fetch_when_sampled(std::vector<SamplingSequence>{{1, step.tokens[0], &sampled}});
  while (!holding) std::this_thread::yield();
  // The step of before does not wait for them, nor does the host.
  CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns == 0);
  step.tokens[0].push_back(sampled);
  rig.prefetch->fetch_sampled(std::vector<FetchRange>{{1, step.tokens[0], 3, 4}});
  CHECK(rig.prefetch->stats().layers[0].rows == kRowsOfToken);  // so far
  Decodes next({step.tokens[0]});
  const std::span<const int32_t> slots = rig.prefetch->prepare(next.plan, next.tokens_of());
  const auto seen = run_step(
      rig, slots, [] {}, [&] { hold = false; });
  CHECK(seen[0] == rig.expected(0, next.tokens[0], 3));
  CHECK(seen[1] == rig.expected(1, next.tokens[0], 3));
  CHECK(rig.prefetch->commit(next.plan).exposed_wait_ns > 0);
  CHECK(rig.prefetch->usage(1).rows == 2 * kRowsOfToken * 2);
}

TEST_CASE("prefetch: who is not to go on after all frees the slots", "[prefetch]") {
  Rig rig(
      FetchMode::kPrefetch, kThree, [] {}, true);
  Decodes step({{1, 2, 3}, {4, 5}});
  rig.prefetch->add(1, 1);
  rig.prefetch->add(2, 2);
  const std::array<int32_t, 2> ids = {11, 12};
  std::vector<int32_t> written;
  sample(rig, step, ids, &written);
  rig.compute->synchronize();
  rig.prefetch->commit(step.plan);
  rig.prefetch->fetch_sampled({});
  CHECK(rig.prefetch->free_slots() == rig.prefetch->slots());
  CHECK(rig.prefetch->stats().early_tokens == 0);
  CHECK(rig.prefetch->usage(1).rows == 2 * kRowsOfToken);
  // The same place again, with another token.
  sample(rig, step, ids, &written);
  rig.compute->synchronize();
  CHECK(rig.prefetch->commit(step.plan).missing.empty());
  rig.prefetch->fetch_sampled({});
}

TEST_CASE("prefetch: many rows, or rows elsewhere, are not fetched so early", "[prefetch]") {
  const auto early_tokens = [](size_t sequences, bool in_memory, FetchMode mode) {
    Rig rig(
        mode, {.max_num_batched_tokens = 16, .max_num_seqs = 9}, [] {}, in_memory);
    Decodes step(std::vector<std::vector<int32_t>>(sequences, {1, 2, 3}));
    for (uint64_t id = 1; id <= sequences; ++id) rig.prefetch->add(id, id);
    const std::vector<int32_t> ids(sequences, 7);
    std::vector<int32_t> written;
    sample(rig, step, ids, &written);
    rig.compute->synchronize();
    rig.prefetch->synchronize_for_test();
    rig.prefetch->commit(step.plan);
    std::vector<FetchRange> ranges;
    for (size_t i = 0; i < sequences; ++i) {
      step.tokens[i].push_back(7);
      ranges.push_back({i + 1, step.tokens[i], 3, 4});
    }
    rig.prefetch->fetch_sampled(ranges);
    CHECK(rig.prefetch->usage(1).rows == 2 * kRowsOfToken * (mode == FetchMode::kSync ? 1 : 2));
    return rig.prefetch->stats().early_tokens;
  };
  CHECK(early_tokens(8, true, FetchMode::kPrefetch) == 8);
  CHECK(early_tokens(9, true, FetchMode::kPrefetch) == 0);
  CHECK(early_tokens(2, false, FetchMode::kPrefetch) == 0);
  CHECK(early_tokens(2, true, FetchMode::kSync) == 0);
}

}  // namespace engram::engine
