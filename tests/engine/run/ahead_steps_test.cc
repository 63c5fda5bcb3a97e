// Decode steps that are enqueued while the one before them runs: the same answers, bit for bit, as
// without, whatever the requests ask for and however they end, and steps that wait for the host
// wherever it has a part in the next one.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/model_tables.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using tests::Ran;
using tests::RequestResult;
using tests::run_and_count;

EngineOptions options(const char* model = "tiny-engram") {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory(model));
  o.dtype = "bfloat16";
  return o;
}

// Each alone in the engine, so that who is in which step does not depend on when requests arrive;
// some have several sequences, which end one after the other.
std::vector<Request> requests() {
  std::mt19937_64 random(61);
  std::vector<Request> made;
  const auto add = [&](size_t prompt, int64_t max_tokens) -> SamplingParams& {
    made.push_back(tests::greedy_request(
        tests::numbered("a", std::ssize(made)), tests::random_ids(random, prompt), max_tokens));
    SamplingParams& s = made.back().sampling;
    s.logprobs = 2;
    s.seed = 5;
    return s;
  };
  add(1, 7);
  SamplingParams& penalised = add(9, 12);
  penalised.temperature = 1.f;
  penalised.repetition_penalty = 1.3f;
  penalised.presence_penalty = 0.5f;
  penalised.frequency_penalty = 0.25f;
  penalised.n = 2;
  SamplingParams& stopped = add(20, 14);
  stopped.temperature = 1.5f;
  stopped.n = 4;
  stopped.min_tokens = 3;
  stopped.stop = {"e", "a"};
  for (int32_t id = 0; id < 60; ++id) stopped.stop_token_ids.push_back(7 * id);
  SamplingParams& prompt = add(23, 2);
  prompt.prompt_logprobs = 1;
  add(5, 1);
  return made;
}

// What a request is charged for does not tell whether steps were ahead.
void check_same_usage(
    const std::vector<RequestResult>& got, const std::vector<RequestResult>& expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    const Usage& mine = got[i].usage;
    const Usage& other = expected[i].usage;
    CHECK(mine.completion_tokens == other.completion_tokens);
    CHECK(mine.cached_tokens == other.cached_tokens);
    CHECK(mine.ngram.rows == other.ngram.rows);
    CHECK(mine.ngram.unique_rows == other.ngram.unique_rows);
    CHECK(mine.ngram.bytes == other.ngram.bytes);
    CHECK(mine.ngram.mean_gate == other.ngram.mean_gate);
  }
}

Ran check_ahead(EngineOptions o, const std::vector<Request>& of = requests()) {
  o.async_scheduling = false;
  const Ran in_turn = run_and_count(o, of);
  CHECK(in_turn.stats.ahead_steps == 0);
  o.async_scheduling = true;
  Ran ahead = run_and_count(o, of);
  tests::check_same(ahead.results, in_turn.results);
  check_same_usage(ahead.results, in_turn.results);
  return ahead;
}

}  // namespace

TEST_CASE("steps ahead: the answers and what they cost are those of steps in turn", "[ahead]") {
  for (const auto& [model, fetch] : std::vector<std::pair<const char*, const char*>>{
           {"tiny-engram", "prefetch"}, {"tiny-engram", "skip"}, {"tiny-dense", "prefetch"}}) {
    CAPTURE(model, fetch);
    EngineOptions o = options(model);
    o.ngram_fetch = fetch;
    const Ran ran = check_ahead(o);
    CHECK(ran.stats.ahead_steps > ran.stats.decode_steps / 2);
    CHECK(ran.stats.generation_tokens <= ran.stats.decode_tokens + 8);
  }
}

TEST_CASE("steps ahead: pages that run out, and prefixes that are found", "[ahead]") {
  EngineOptions o = options();
  o.block_size = 4;
  o.kv_cache_bytes = 16 * 3072;  // pages, fewer than four sequences need
  o.max_model_len = 48;
  Request four = tests::greedy_request("four", {1, 2, 3, 4, 5, 6, 7, 8, 9}, 24);
  four.sampling.n = 4;
  four.sampling.temperature = 1.5f;
  four.sampling.seed = 3;
  four.sampling.logprobs = 1;
  const Ran ran = check_ahead(o, {four});
  CHECK(ran.stats.kv_pages_total == 16);
  CHECK(ran.stats.preemptions > 0);
  CHECK(ran.stats.ahead_steps > 0);
}

TEST_CASE("steps ahead: not where the host has a part in the next step", "[ahead]") {
  EngineOptions o = options();
  o.async_scheduling = false;
  const std::vector<RequestResult> expected = run_and_count(o, requests()).results;
  const auto check_in_turn = [&](const EngineOptions& in_turn) {
    CAPTURE(in_turn.ngram_gather, in_turn.ngram_fetch, in_turn.ngram_in_graph);
    CHECK(in_turn.async_scheduling);
    const Ran ran = run_and_count(in_turn, requests());
    tests::check_same(ran.results, expected);
    CHECK(ran.stats.ahead_steps == 0);
  };
  o = options();
  o.ngram_gather = "host";
  check_in_turn(o);
  o = options();
  o.ngram_fetch = "sync";
  check_in_turn(o);
  o = options();
  o.ngram_in_graph = false;
  check_in_turn(o);
  o = options();
  o.cuda_graphs = false;
  check_in_turn(o);
}

TEST_CASE("steps ahead: requests that arrive and are given up at any time", "[ahead]") {
  constexpr uint64_t kSeed = 63;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  std::vector<Request> all = tests::mixed_requests(kSeed, 9);
  for (Request& r : all) {
    r.sampling.prompt_logprobs = -1;
    r.sampling.temperature = 0.f;
    r.sampling.max_tokens = 6 + static_cast<int64_t>(random() % 8);
  }
  const std::vector<RequestResult> expected = tests::run_alone(options(), all);
  const std::unique_ptr<Engine> engine = tests::start_engine(options());
  std::vector<std::shared_ptr<tests::CollectingSink>> sinks;
  for (size_t i = 0; i < all.size(); ++i) {
    sinks.push_back(tests::submit(*engine, all[i]));
    if (i % 3 != 2) continue;
    sinks[i - 1]->wait_for_deltas(static_cast<int>(random() % 6));
    if (i % 2 == 0) engine->abort(all[i - 1].id, memory::Code::kCancelled);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const RequestResult result = sinks[i]->wait();
    tests::check_begins(result, expected[i]);
    if (result.status.ok()) {
      CHECK(result.choices[0].ids == expected[i].choices[0].ids);
    } else {
      CHECK(result.status.code() == memory::Code::kCancelled);
    }
  }
  CHECK(engine->stats().ahead_steps > 0);
  tests::check_idle(*engine);
}

TEST_CASE("steps ahead: tables are swapped and fetching is changed between steps", "[ahead]") {
  const std::string model = tests::checkpoint_directory("tiny-engram");
  const tests::TempDirectory one;
  const tests::TempDirectory other;
  tests::write_model_tables(model, one.path(), {});
  tests::write_model_tables(model, other.path(), {.rotate = 1});
  EngineOptions o = options();
  o.tables.directory = one.path();
  EngineOptions with_other = o;
  with_other.tables.directory = other.path();
  const std::vector<RequestResult> before = tests::run_alone(o, requests());
  const std::vector<RequestResult> after = tests::run_alone(with_other, requests());
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  // While a sequence decodes, with a step ahead of the one that runs; it may be over before.
  Request endless = tests::greedy_request("endless", {1, 2, 3}, 40);
  const std::shared_ptr<tests::CollectingSink> sink = tests::submit(*engine, endless);
  sink->wait_for_deltas(3);
  const memory::Result<TableSwap> swapped = engine->swap_tables(with_other.tables);
  CAPTURE(swapped.status().to_string());
  REQUIRE(swapped.ok());
  const RequestResult result = sink->wait();
  CHECK(result.choices[0].ids.size() == 40);
  tests::check_same(tests::run_in_turn(*engine, requests()), after);
  REQUIRE(engine->set_ngram_fetch("sync").ok());
  tests::check_same(tests::run_in_turn(*engine, requests()), after);
  REQUIRE(engine->swap_tables(o.tables).ok());
  REQUIRE(engine->set_ngram_fetch("prefetch").ok());
  tests::check_same(tests::run_in_turn(*engine, requests()), before);
  CHECK(engine->stats().ahead_steps > 0);
}

TEST_CASE("steps ahead: an engine is stopped while two steps run", "[ahead]") {
  std::unique_ptr<Engine> engine = tests::start_engine(options());
  const std::shared_ptr<tests::CollectingSink> sink =
      tests::submit(*engine, tests::greedy_request("r", {1, 2, 3}, 200));
  sink->wait_for_deltas(4);
  CHECK(engine->stats().ahead_steps > 0);
  engine.reset();
  CHECK(sink->wait().status.code() == memory::Code::kUnavailable);
}

TEST_CASE("steps ahead: a device that fails with two steps on it", "[ahead]") {
  for (const char* kernel : {"embed_kernel", "feed_kernel", "finish_kernel"}) {
    CAPTURE(kernel);
    const std::unique_ptr<Engine> engine = tests::start_engine(options());
    const std::shared_ptr<tests::CollectingSink> sink =
        tests::submit(*engine, tests::greedy_request("r", {1, 2, 3}, 200));
    sink->wait_for_deltas(4);
    cuda_emulation::arm({.kernel = kernel});
    CHECK(sink->wait().status.code() == memory::Code::kUnavailable);
    CHECK_FALSE(engine->failure().ok());
    tests::check_idle(*engine);
    cuda_emulation::repair();
  }
}

}  // namespace engram::engine
