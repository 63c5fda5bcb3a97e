// Requests for engines over the small checkpoints of the tests, and the comparison of what came
// back, bit for bit.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/engine_client.h"
#include "tests/support/test_device.h"

namespace engram::tests {

inline engine::EngineOptions small_engine(const std::string& model) {
  engine::EngineOptions o;
  o.model = model;
  o.device = kDevice;
  o.threads = 2;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 64;
  o.kv_cache_bytes = 8 << 20;
  o.max_model_len = 256;
  o.ngram_gather = "loads";  // nothing is measured
  return o;
}

inline std::vector<int32_t> random_ids(std::mt19937_64& random, size_t size) {
  std::vector<int32_t> ids;
  // Ids of one small set, so that n-grams and prefixes repeat.
  for (size_t i = 0; i < size; ++i) ids.push_back(static_cast<int32_t>(random() % 40));
  return ids;
}

// Some greedy, some drawn; all with log-probabilities of everything.
inline std::vector<engine::Request> mixed_requests(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::vector<engine::Request> requests;
  for (int i = 0; i < count; ++i) {
    engine::Request r = greedy_request(
        numbered("r", static_cast<int64_t>(i)), random_ids(random, 1 + random() % 90),
        1 + static_cast<int64_t>(random() % 40));
    if (i % 2 == 1) {
      r.sampling.temperature = 0.9f;
      r.sampling.top_p = 0.95f;
      r.sampling.top_k = 50;
      r.sampling.seed = seed + static_cast<uint64_t>(i);
      r.sampling.repetition_penalty = 1.1f;
      r.sampling.frequency_penalty = 0.1f;
    }
    r.sampling.logprobs = 3;
    r.sampling.prompt_logprobs = 2;
    requests.push_back(std::move(r));
  }
  return requests;
}

inline std::vector<RequestResult> run_all(
    engine::Engine& engine, const std::vector<engine::Request>& requests) {
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const engine::Request& r : requests) sinks.push_back(submit(engine, r));
  std::vector<RequestResult> results;
  for (const std::shared_ptr<CollectingSink>& sink : sinks) results.push_back(sink->wait());
  return results;
}

inline std::vector<RequestResult> run_all(
    const engine::EngineOptions& o, const std::vector<engine::Request>& requests) {
  return run_all(*start_engine(o), requests);
}

inline std::vector<RequestResult> run_in_turn(
    engine::Engine& engine, const std::vector<engine::Request>& requests) {
  std::vector<RequestResult> results;
  for (const engine::Request& r : requests) results.push_back(submit(engine, r)->wait());
  return results;
}

inline std::vector<RequestResult> run_alone(
    const engine::EngineOptions& o, const std::vector<engine::Request>& requests) {
  return run_in_turn(*start_engine(o), requests);
}

inline bool same_bits(
    const std::vector<engine::PositionLogprobs>& a,
    const std::vector<engine::PositionLogprobs>& b) {
  const auto same_top = [](const engine::TopLogprob& x, const engine::TopLogprob& y) {
    return x.id == y.id && x.logprob == y.logprob;
  };
  const auto same = [&](const engine::PositionLogprobs& x, const engine::PositionLogprobs& y) {
    return x.id == y.id && x.logprob == y.logprob && x.rank == y.rank &&
           std::ranges::equal(x.top, y.top, same_top);
  };
  return std::ranges::equal(a, b, same);
}

inline void check_same(
    const std::vector<RequestResult>& got, const std::vector<RequestResult>& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i, got[i].status.to_string());
    REQUIRE(got[i].status.ok());
    REQUIRE(got[i].choices.size() == expected[i].choices.size());
    for (size_t c = 0; c < got[i].choices.size(); ++c) {
      CHECK(got[i].choices[c].ids == expected[i].choices[c].ids);
      CHECK(got[i].choices[c].text == expected[i].choices[c].text);
      CHECK(same_bits(got[i].choices[c].logprobs, expected[i].choices[c].logprobs));
      CHECK(same_bits(got[i].choices[c].prompt_logprobs, expected[i].choices[c].prompt_logprobs));
    }
  }
}

// The ids of the prompt and of the first answer to it.
inline std::vector<int32_t> whole_text(
    const engine::Request& request, const RequestResult& result) {
  std::vector<int32_t> ids = request.prompt_ids;
  ids.insert(ids.end(), result.choices[0].ids.begin(), result.choices[0].ids.end());
  return ids;
}

// Of a request that may have ended early: what was delivered is the begin of the right answer.
inline void check_begins(const RequestResult& got, const RequestResult& expected) {
  const std::vector<int32_t>& ids = got.choices[0].ids;
  const std::vector<int32_t>& all = expected.choices[0].ids;
  REQUIRE(ids.size() <= all.size());
  CHECK(std::equal(ids.begin(), ids.end(), all.begin()));
}

// What every engine must look like once all its requests ended.
inline void check_idle(engine::Engine& engine) {
  const engine::EngineStats stats = engine.stats();
  CHECK(stats.running == 0);
  CHECK(stats.waiting == 0);
  CHECK(stats.kv_pages_free == stats.kv_pages_total);
}

// Results, and what the engine counted for them.
struct Ran {
  std::vector<RequestResult> results;
  engine::EngineStats stats;
};

inline Ran run_and_count(
    const engine::EngineOptions& o, const std::vector<engine::Request>& requests) {
  const std::unique_ptr<engine::Engine> engine = start_engine(o);
  Ran ran;
  ran.results = run_in_turn(*engine, requests);
  ran.stats = engine->stats();
  check_idle(*engine);
  return ran;
}

}  // namespace engram::tests
