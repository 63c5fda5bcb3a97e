// Prefetch with a slow row store and a compute stream that checks every row it reads. Overlap is
// proved by cause, never by time: layer 0 refuses to end before the gather has begun.
#include "engine/sched/prefetch.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/hash_families.h"
#include "engine/sched/scheduler.h"
#include "memory/device/device_cpu.h"
#include "tests/support/dies.h"
#include "tests/support/prefetch_rig.h"
#include "tests/support/sanitized.h"

namespace engram::engine {
namespace {

// The engine's loop around Scheduler and Prefetch with random requests.
void random_load(FetchMode mode, bool in_memory, uint64_t seed) {
  CAPTURE(seed, in_memory, static_cast<int>(mode));
  std::mt19937_64 random(seed);
  std::mt19937_64 pauses(seed + 1);
  const PrefetchLimits limits{.max_num_batched_tokens = 16, .max_num_seqs = 5};
  const auto pause = [&pauses] {
    std::this_thread::sleep_for(std::chrono::microseconds(pauses() % 300));
  };
  // Of two steps in turn; the compute stream writes them.
  std::array<std::vector<int32_t>, 2> sampled_ids;
  Rig rig(mode, limits, pause, in_memory);
  memory::PagePool pool(24, 4);
  Scheduler scheduler({.max_num_seqs = 5, .max_num_batched_tokens = 16}, pool);
  std::map<uint64_t, int64_t> targets;
  uint64_t next_id = 1;
  const auto range = [&](uint64_t id, int64_t begin, int64_t end) {
    return FetchRange{id, scheduler.find(id)->tokens, begin, end};
  };
  const auto end = [&](uint64_t id) {
    scheduler.finish(id);
    rig.prefetch->forget(id);
    rig.prefetch->forget_usage(id);
    targets.erase(id);
  };
  const auto look_ahead = [&] {
    std::vector<FetchRange> expected;
    for (const UpcomingTokens& u : scheduler.upcoming(16)) {
      expected.push_back(range(u.sequence, u.begin, u.end));
    }
    rig.prefetch->look_ahead(expected);
  };
  while (next_id < 60 || !scheduler.empty()) {
    while (next_id < 60 && random() % 3 == 0) {
      Sequence s;
      s.id = next_id++;
      const uint64_t size = 1 + random() % 50;
      for (uint64_t i = 0; i < size; ++i) s.tokens.push_back(static_cast<int32_t>(random() % 32));
      if (random() % 2 == 0) s.tokens.assign(s.tokens.size(), 3);
      s.prompt_tokens = s.size();
      targets[s.id] = s.size() + 1 + static_cast<int64_t>(random() % 40);
      rig.prefetch->add(s.id, s.id);
      scheduler.add(std::move(s));
    }
    if (!targets.empty() && random() % 8 == 0) {
      auto victim = targets.begin();
      std::advance(victim, static_cast<int64_t>(random() % targets.size()));
      end(victim->first);
    }
    const BatchPlan plan = scheduler.plan();
    for (const uint64_t id : plan.preempted) rig.prefetch->drop(id);
    std::vector<std::span<const int32_t>> tokens_of;
    for (const PlannedSequence& p : plan.sequences) {
      tokens_of.emplace_back(scheduler.find(p.sequence)->tokens);
    }
    const std::span<const int32_t> slots = rig.prefetch->prepare(plan, tokens_of);
    REQUIRE(static_cast<int64_t>(slots.size()) == plan.tokens());
    std::vector<int32_t> ids;
    std::vector<uint64_t> sampled;
    for (const PlannedSequence& p : plan.sequences) {
      if (!p.samples) continue;
      ids.push_back(static_cast<int32_t>(random() % 32));
      sampled.push_back(p.sequence);
    }
    std::vector<int32_t>& written = sampled_ids[static_cast<size_t>(rig.steps % 2)];
    written.assign(ids.size(), -1);
    const bool when_sampled = random() % 4 != 0;
    const auto meanwhile = [&] {
      memory::as_cpu(*rig.compute).enqueue([ids, &written] {
        std::ranges::copy(ids, written.begin());
      });
      look_ahead();
      std::vector<SamplingSequence> sampling;
      for (size_t i = 0; i < sampled.size() && when_sampled; ++i) {
        sampling.push_back({sampled[i], scheduler.find(sampled[i])->tokens, &written[i]});
      }
      rig.prefetch->fetch_when_sampled(sampling);
    };
    const std::vector<std::vector<float>> seen = run_step(
        rig, slots, [] {}, meanwhile);
    for (size_t layer = 0; layer < seen.size(); ++layer) {
      std::vector<float> expected;
      for (int64_t t = 0; t < plan.tokens(); ++t) {
        const size_t sequence = static_cast<size_t>(plan.sequence_of[static_cast<size_t>(t)]);
        const std::vector<float> row =
            rig.expected(layer, tokens_of[sequence], plan.positions[static_cast<size_t>(t)]);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      REQUIRE(seen[layer] == expected);
    }
    CHECK(rig.prefetch->commit(plan).missing.empty());
    scheduler.commit(plan, ids);
    std::vector<FetchRange> ranges;
    for (const uint64_t id : sampled) {
      const int64_t size = scheduler.find(id)->size();
      if (size < targets.at(id)) {
        ranges.push_back(range(id, size - 1, size));
      } else {
        end(id);
      }
    }
    rig.prefetch->fetch_sampled(ranges);
  }
  REQUIRE(rig.prefetch->free_slots() == rig.prefetch->slots());
  const PrefetchStats stats = rig.prefetch->stats();
  REQUIRE(stats.layers.size() == 2);
  CHECK(stats.layers[0].rows > stats.layers[0].unique_rows);
  CHECK(stats.layers[0].bytes == stats.layers[0].rows * kRowWidth * 4);
  // Rows lie in order whenever they can, and are read right when they do not.
  CHECK(rig.steps_in_order * 3 > rig.steps);
  CHECK(rig.steps_in_order < rig.steps);
  // Most tokens were on their way before their step was planned.
  if (mode == FetchMode::kPrefetch) CHECK(stats.late_tokens * 4 < stats.layers[0].rows);
  CHECK((stats.early_tokens > 0) == (in_memory && mode == FetchMode::kPrefetch));
}

}  // namespace

TEST_CASE("prefetch: random load reads the right rows and returns every slot", "[prefetch]") {
  for (const uint64_t seed : {1u, 2u, 3u}) {
    for (const bool in_memory : {false, true}) {
      random_load(FetchMode::kPrefetch, in_memory, seed);
      random_load(FetchMode::kSync, in_memory, seed);
    }
  }
}

TEST_CASE("prefetch: the gather begins while layer 0 runs, and the layer waits", "[prefetch]") {
  std::atomic<bool> gather_began = false;
  std::atomic<bool> layer_0_ended = false;
  Rig rig(FetchMode::kPrefetch, kSmall, [&] {
    gather_began = true;
    // Rows arrive only after layer 0: a reader that does not wait reads stale memory.
    while (!layer_0_ended) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
  OneStep step(7);
  rig.prefetch->add(1, 9);
  const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
  const auto layer_0 = [&] {
    while (!gather_began) std::this_thread::yield();
    layer_0_ended = true;
  };
  const std::vector<std::vector<float>> seen = run_step(rig, slots, layer_0, [] {});
  for (size_t layer = 0; layer < 2; ++layer) {
    std::vector<float> expected;
    for (int64_t position = 0; position < 7; ++position) {
      const std::vector<float> row = rig.expected(layer, step.tokens_of()[0], position);
      expected.insert(expected.end(), row.begin(), row.end());
    }
    CHECK(seen[layer] == expected);
  }
  CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns > 0);
  CHECK(rig.prefetch->usage(9).exposed_wait_ns > 0);
  CHECK(rig.prefetch->usage(9).gather_ns > 0);
  CHECK(rig.prefetch->usage(9).rows == 2 * 7 * 4);
  CHECK(rig.prefetch->usage(9).unique.size() <= 2 * 7 * 4);
}

// Prompts are fetched ahead from tables that are swapped before their steps are run.
TEST_CASE("prefetch: a million rows after swaps are the new table's", "[prefetch]") {
  constexpr uint64_t kSeed = 91;
  CAPTURE(kSeed);
  constexpr int64_t kTokens = 512;
  constexpr float kShift = 1 << 20;  // above every row's values
  const int64_t wanted = tests::kSanitized ? 20'000 : 1'000'000;
  std::mt19937_64 random(kSeed);
  const PrefetchLimits limits{.max_num_batched_tokens = kTokens, .max_num_seqs = 1};
  Rig rig(FetchMode::kPrefetch, limits, [] {});
  std::vector<std::unique_ptr<memory::RowStore>> others;
  for (const auto& store : rig.stores) {
    others.push_back(std::make_unique<SlowStore>(
        store->geometry(), [] {}, kShift));
  }
  memory::PagePool pool(kTokens / 4 + 1, 4);
  int64_t rows = 0;
  for (uint64_t id = 1; rows < wanted; ++id) {
    CAPTURE(id);
    Scheduler scheduler({.max_num_seqs = 1, .max_num_batched_tokens = kTokens}, pool);
    Sequence s;
    s.id = id;
    for (int64_t i = 0; i < kTokens; ++i) s.tokens.push_back(static_cast<int32_t>(random() % 30));
    s.prompt_tokens = kTokens;
    scheduler.add(std::move(s));
    const std::vector<std::span<const int32_t>> tokens = {scheduler.find(id)->tokens};
    rig.prefetch->add(id, id);
    const int64_t ahead = static_cast<int64_t>(random() % kTokens);
    rig.prefetch->look_ahead(std::vector<FetchRange>{{id, tokens[0], 0, ahead}});
    const bool other = id % 2 == 1;
    const int64_t forgotten = rig.prefetch->use_stores(other ? others : rig.stores);
    CHECK(forgotten <= ahead);
    const BatchPlan plan = scheduler.plan();
    REQUIRE(plan.tokens() == kTokens);
    const std::span<const int32_t> slots = rig.prefetch->prepare(plan, tokens);
    const std::vector<std::vector<float>> seen = run_step(
        rig, slots, [] {}, [] {});
    for (size_t layer = 0; layer < 2; ++layer) {
      std::vector<float> expected;
      for (int64_t position = 0; position < kTokens; ++position) {
        for (const float value : rig.expected(layer, tokens[0].first(position + 1), position)) {
          expected.push_back(value + (other ? kShift : 0));
        }
      }
      REQUIRE(seen[layer] == expected);
      rows += kTokens * rig.stores[layer]->geometry().columns();
    }
    rig.prefetch->commit(plan);
    scheduler.finish(id);
    rig.prefetch->forget(id);
    rig.prefetch->forget_usage(id);
  }
}

TEST_CASE("prefetch: the compute stream gathers a few rows of host memory", "[prefetch]") {
  std::atomic<std::thread::id> gathered_by;
  std::atomic<bool> step_begins = false;
  const auto before = [&] {
    gathered_by = std::this_thread::get_id();
    while (!step_begins) std::this_thread::yield();
  };
  Rig rig(FetchMode::kPrefetch, kSmall, before, true);
  std::thread::id computes;
  memory::as_cpu(*rig.compute).enqueue([&] { computes = std::this_thread::get_id(); });
  rig.compute->synchronize();
  OneStep step(3);
  rig.prefetch->add(1, 9);
  const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
  std::vector<Ticket> tickets = rig.prefetch->tickets();
  step_begins = true;
  rig.compute->synchronize();
  CHECK(gathered_by.load() == computes);
  for (size_t layer = 0; layer < 2; ++layer) {
    const StagedRows rows = tickets[layer].redeem();
    CHECK(rows.ready == nullptr);
    const std::vector<float> expected = rig.expected(layer, step.tokens_of()[0], 1);
    const float* row = staged_row(rows, slots, 1);
    CHECK(std::vector<float>(row, row + rows.rows.cols) == expected);
  }
  CHECK(rig.prefetch->usage(9).rows == 2 * 3 * 4);
  CHECK(rig.prefetch->stats().layers[0].unique_rows > 0);
  // The gathers ended when the step was to begin already.
  CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns > 0);
  CHECK(rig.prefetch->usage(9).gather_ns > 0);
}

TEST_CASE("prefetch: what is gathered before the step begins holds up nothing", "[prefetch]") {
  Rig rig(
      FetchMode::kPrefetch, kSmall, [] {}, true);
  OneStep step(3);
  // A step of zeros, which fetches nothing, leaves nothing behind for the next.
  for (const FetchMode mode : {FetchMode::kPrefetch, FetchMode::kZero, FetchMode::kPrefetch}) {
    REQUIRE(rig.prefetch->set_mode(mode).ok());
    rig.prefetch->add(1, 9);
    const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
    rig.compute->synchronize();
    run_step(
        rig, slots, [] {}, [] {});
    CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns == 0);
    rig.prefetch->forget(1);
  }
}

TEST_CASE("prefetch: the streams do not gather behind each other's back", "[prefetch]") {
  std::atomic<bool> hold = true;
  const auto wait = [&] {
    while (hold) std::this_thread::yield();
  };
  const std::vector<int32_t> others(16, 5);
  const std::vector<int32_t> first = {7, 8, 9};
  for (const bool side_first : {true, false}) {
    CAPTURE(side_first);
    hold = true;
    Rig rig(FetchMode::kPrefetch, kSmall, wait, true);
    rig.prefetch->add(1, 1);
    // Their slots are free again while their rows are on the way.
    for (const uint64_t other : {2u, 3u}) {
      rig.prefetch->add(other, other);
      if (side_first) {
        rig.prefetch->look_ahead(std::vector<FetchRange>{{other, others, 0, 16}});
      } else {
        rig.prefetch->fetch_sampled(std::vector<FetchRange>{{other, first, 2, 3}});
      }
      rig.prefetch->forget(other);
    }
    // Few rows after many by the side stream; many after few by the compute stream.
    OneStep step(side_first ? 3 : 16);
    const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
    hold = false;
    const std::vector<std::vector<float>> seen = run_step(
        rig, slots, [] {}, [] {});
    for (size_t layer = 0; layer < 2; ++layer) {
      const std::vector<float> expected = rig.expected(layer, step.tokens_of()[0], 0);
      CHECK(std::equal(expected.begin(), expected.end(), seen[layer].begin()));
    }
    CHECK(rig.prefetch->commit(step.plan).missing.empty());
  }
}

TEST_CASE("prefetch: a missing wait would be noticed", "[prefetch]") {
  std::atomic<bool> was_read = false;
  Rig rig(FetchMode::kPrefetch, kSmall, [&] {
    while (!was_read) std::this_thread::yield();
  });
  OneStep step(3);
  rig.prefetch->add(1, 1);
  const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
  std::vector<Ticket> tickets = rig.prefetch->tickets();
  for (Ticket& ticket : tickets) {
    const StagedRows rows = ticket.redeem();
    REQUIRE(rows.ready != nullptr);
    if (!was_read) {
      const float first = staged_row(rows, slots, 0)[1];
      was_read = true;
      CHECK(first != rig.expected(0, step.tokens_of()[0], 0)[1]);
    }
  }
  rig.compute->synchronize();
}

TEST_CASE("prefetch: slots of tokens that are expected no more are freed", "[prefetch]") {
  Rig rig(FetchMode::kPrefetch, kSmall, [] {});
  const std::vector<int32_t> tokens(40, 5);
  rig.prefetch->add(1, 1);
  rig.prefetch->add(2, 2);
  const int64_t all = rig.prefetch->slots();
  rig.prefetch->look_ahead(std::vector<FetchRange>{{1, tokens, 0, 10}, {2, tokens, 0, 40}});
  // A chunk ahead at most.
  CHECK(rig.prefetch->free_slots() == all - 16);
  rig.prefetch->look_ahead(std::vector<FetchRange>{{2, tokens, 4, 8}});
  CHECK(rig.prefetch->free_slots() == all - 4);
  rig.prefetch->drop(2);
  CHECK(rig.prefetch->free_slots() == all);
  rig.prefetch->look_ahead(std::vector<FetchRange>{{1, tokens, 0, 3}});
  rig.prefetch->forget(1);
  rig.prefetch->forget(2);
  CHECK(rig.prefetch->free_slots() == all);
}

TEST_CASE("prefetch: skipped, there are neither slots nor tickets", "[prefetch]") {
  Rig rig(FetchMode::kSkip, kSmall, [] {});
  OneStep step(3);
  rig.prefetch->add(1, 1);
  CHECK(rig.prefetch->prepare(step.plan, step.tokens_of()).empty());
  CHECK(rig.prefetch->tickets().empty());
  CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns == 0);
  CHECK(rig.prefetch->staging_bytes() == 0);
}

TEST_CASE("prefetch: zero, every slot of a step holds zeros and nothing is fetched", "[prefetch]") {
  Rig rig(FetchMode::kPrefetch, kSmall, [] {});
  const int64_t all = rig.prefetch->slots();
  OneStep step(9);
  const auto run = [&] {
    rig.prefetch->add(1, 1);
    const std::span<const int32_t> slots = rig.prefetch->prepare(step.plan, step.tokens_of());
    const auto seen = run_step(
        rig, slots, [] {}, [] {});
    CHECK(rig.prefetch->commit(step.plan).missing.empty());
    rig.prefetch->forget(1);
    CHECK(rig.prefetch->free_slots() == all);
    return seen;
  };
  const auto rows = run();
  CHECK(rows[0] != std::vector<float>(rows[0].size()));
  for (int turn = 0; turn < 2; ++turn) {
    const int64_t fetches = rig.prefetch->stats().fetches;
    REQUIRE(rig.prefetch->set_mode(FetchMode::kZero).ok());
    const auto zeros = run();
    REQUIRE(zeros.size() == 2);
    for (size_t layer = 0; layer < 2; ++layer) {
      CHECK(zeros[layer] == std::vector<float>(rows[layer].size()));
    }
    CHECK(rig.prefetch->stats().fetches == fetches);
    REQUIRE(rig.prefetch->set_mode(FetchMode::kSkip).ok());
    rig.prefetch->add(1, 1);
    CHECK(rig.prefetch->prepare(step.plan, step.tokens_of()).empty());
    CHECK(rig.prefetch->tickets().empty());
    CHECK(rig.prefetch->commit(step.plan).exposed_wait_ns == 0);
    rig.prefetch->forget(1);
    CHECK(rig.prefetch->stats().fetches == fetches);
    REQUIRE(rig.prefetch->set_mode(turn == 0 ? FetchMode::kSync : FetchMode::kPrefetch).ok());
    CHECK(run() == rows);
  }
}

TEST_CASE("prefetch: begun without staging, it stays without", "[prefetch]") {
  Rig rig(FetchMode::kSkip, kSmall, [] {});
  CHECK(rig.prefetch->set_mode(FetchMode::kSkip).ok());
  CHECK(rig.prefetch->set_mode(FetchMode::kPrefetch).code() == memory::Code::kFailedPrecondition);
  CHECK_FALSE(rig.prefetch->has_tickets());
}

TEST_CASE("ticket: moves, and is redeemed exactly once", "[prefetch]") {
  Ticket a{StagedRows{}};
  Ticket b = std::move(a);
  CHECK(b.redeem().ready == nullptr);
  CHECK(tests::dies([] { Ticket dropped{StagedRows{}}; }));
  CHECK(tests::dies([] {
    Ticket twice{StagedRows{}};
    twice.redeem();
    twice.redeem();
  }));
  CHECK_FALSE(tests::dies([] { Ticket{StagedRows{}}.redeem(); }));
}

}  // namespace engram::engine
