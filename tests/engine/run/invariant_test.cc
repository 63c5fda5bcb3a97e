// What must not change an output: chunking, prefix hits, neighbours, preemption, how rows are
// fetched. Equality is of bits, of ids and of every log-probability: the CPU's ops compute a row
// from that row alone.
#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/model/hash_families.h"
#include "engine/model/model.h"
#include "engine/model/ngram.h"
#include "tests/support/checkpoints.h"
#include "tests/support/edited_checkpoint.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/sanitized.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using tests::check_idle;
using tests::check_same;
using tests::CollectingSink;
using tests::mixed_requests;
using tests::random_ids;
using tests::RequestResult;
using tests::run_all;
using tests::run_alone;
using tests::same_bits;

struct Variant {
  const char* name;
  const char* dtype;
  const char* kv_cache_dtype = "auto";
  const char* quantization = "none";
};
constexpr Variant kModels[] = {
    {"tiny-engram", "float32"},
    {"tiny-engram", "bfloat16", "fp8_e4m3"},
    {"tiny-dense", "bfloat16", "fp8", "fp8"},
    {"tiny-fp8-weights", "float32"},
    {"tiny-engram", "bfloat16"},
    {"tiny-engram", "float32", "fp8"},
    {"tiny-engram-bias", "float32"},
    {"tiny-dense", "float32", "bfloat16"},
    {"tiny-dense", "float32"},
    {"tiny-fp8-weights", "bfloat16"},
    {"tiny-engram", "float32", "auto", "fp8"}};

// The first four together use every kernel.
std::span<const Variant> models() {
  return tests::cases(kModels, 4);
}

EngineOptions options(const Variant& model) {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory(model.name));
  o.dtype = model.dtype;
  o.kv_cache_dtype = model.kv_cache_dtype;
  o.quantization = model.quantization;
  return o;
}

int64_t page_bytes(const Variant& model, int page_tokens) {
  using memory::DType;
  const DType act = std::string(model.dtype) == "bfloat16" ? DType::kBf16 : DType::kF32;
  const std::string cache = model.kv_cache_dtype;
  const DType kv = cache == "auto" ? act : cache == "bfloat16" ? DType::kBf16 : DType::kF8E4m3;
  const ModelConfig config = load_config(tests::checkpoint_directory(model.name)).value();
  return kv_shape(config, page_tokens, act, kv).page_bytes();
}

}  // namespace

TEST_CASE("invariant: one token at a time, any chunk, and the whole are the same", "[invariant]") {
  for (const Variant& model : models()) {
    CAPTURE(model.name, model.dtype, model.kv_cache_dtype);
    const std::vector<Request> requests = mixed_requests(1, 6);
    EngineOptions o = options(model);
    o.max_num_seqs = 1;
    o.max_num_batched_tokens = 256;
    const std::vector<RequestResult> whole = run_alone(o, requests);
    for (const int64_t chunk : {1, 2, 5, 17, 64}) {
      CAPTURE(chunk);
      o.max_num_batched_tokens = chunk;
      check_same(run_alone(o, requests), whole);
    }
  }
}

TEST_CASE("invariant: the page size changes nothing", "[invariant]") {
  const std::vector<Request> requests = mixed_requests(2, 5);
  EngineOptions o = options(kModels[0]);
  const std::vector<RequestResult> expected = run_alone(o, requests);
  for (const int size : {1, 3, 64}) {
    CAPTURE(size);
    o.block_size = size;
    check_same(run_all(o, requests), expected);
  }
}

TEST_CASE("invariant: a prefix hit changes nothing", "[invariant]") {
  for (const Variant& model : models()) {
    CAPTURE(model.name, model.dtype, model.kv_cache_dtype);
    std::mt19937_64 random(3);
    const std::vector<int32_t> prefix = random_ids(random, 70);
    std::vector<Request> requests;
    for (int i = 0; i < 6; ++i) {
      std::vector<int32_t> prompt(prefix.begin(), prefix.begin() + 40 + 5 * i);
      // The last ids differ, so that hits of every length up to the convolution's reach occur.
      for (int k = 0; k < i; ++k) prompt.push_back(static_cast<int32_t>(random() % 40));
      requests.push_back(
          tests::greedy_request(tests::numbered("p", static_cast<int64_t>(i)), prompt, 20));
      requests.back().sampling.logprobs = 3;
    }
    EngineOptions o = options(model);
    o.enable_prefix_caching = false;
    const std::vector<RequestResult> cold = run_alone(o, requests);
    CHECK(cold.back().usage.cached_tokens == 0);
    o.enable_prefix_caching = true;
    const std::vector<RequestResult> warm = run_alone(o, requests);
    check_same(warm, cold);
    CHECK(warm.back().usage.cached_tokens >= 48);

    // Neither another salt nor a bypass sees those pages.
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    tests::submit(*engine, requests[5])->wait();
    Request other = requests[5];
    CHECK(tests::submit(*engine, other)->wait().usage.cached_tokens >= 64);
    other.cache_salt = std::string("salt");
    CHECK(tests::submit(*engine, other)->wait().usage.cached_tokens == 0);
    other.cache_salt.clear();
    other.bypass_prefix_cache = true;
    CHECK(tests::submit(*engine, other)->wait().usage.cached_tokens == 0);
    check_idle(*engine);
  }
}

TEST_CASE("invariant: the company in a batch changes no token", "[invariant]") {
  for (const Variant& model : models()) {
    CAPTURE(model.name, model.dtype, model.kv_cache_dtype);
    const std::vector<Request> requests = mixed_requests(4, 12);
    EngineOptions o = options(model);
    const std::vector<RequestResult> alone = run_alone(o, requests);
    check_same(run_all(o, requests), alone);
    o.threads = 1;
    check_same(run_all(o, requests), alone);
  }
}

TEST_CASE("invariant: preemption changes nothing", "[invariant]") {
  for (const Variant& model : models()) {
    CAPTURE(model.name, model.dtype, model.kv_cache_dtype);
    std::vector<Request> requests = mixed_requests(5, 10);
    for (Request& r : requests) r.sampling.max_tokens = 50;
    EngineOptions o = options(model);
    const std::vector<RequestResult> expected = run_alone(o, requests);
    // Pages for about two of the longest.
    o.block_size = 4;
    o.kv_cache_bytes = 80 * page_bytes(model, o.block_size);
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    check_same(run_all(*engine, requests), expected);
    CHECK(engine->stats().preemptions > 0);
    check_idle(*engine);
  }
}

TEST_CASE("invariant: how rows are fetched changes nothing", "[invariant]") {
  const std::vector<Request> requests = mixed_requests(6, 8);
  EngineOptions o = options(kModels[0]);
  const std::vector<RequestResult> expected = run_all(o, requests);
  o.ngram_fetch = std::string("sync");
  check_same(run_all(o, requests), expected);
  // The module does matter: without it the model is another one.
  o.ngram_fetch = std::string("skip");
  const std::vector<RequestResult> without = run_all(o, requests);
  CHECK_FALSE(same_bits(without[0].choices[0].logprobs, expected[0].choices[0].logprobs));
}

TEST_CASE("invariant: random cancels give everything back", "[invariant]") {
  for (const uint64_t seed : {1u, 2u}) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    std::vector<Request> requests = mixed_requests(seed, 40);
    EngineOptions o = options(kModels[0]);
    o.kv_cache_bytes = 40 * 16 * 2048;
    o.max_num_seqs = 6;
    o.max_queued_requests = 100;
    const std::vector<RequestResult> expected = run_alone(o, requests);
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    std::vector<bool> cancelled(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      sinks.push_back(tests::submit(*engine, requests[i]));
      const size_t victim = random() % sinks.size();
      if (random() % 2 == 0) {
        if (random() % 2 == 0) sinks[victim]->wait_for_deltas(static_cast<int>(random() % 4));
        engine->abort(requests[victim].id, memory::Code::kCancelled);
        cancelled[victim] = true;
      }
    }
    for (size_t i = 0; i < sinks.size(); ++i) {
      const RequestResult result = sinks[i]->wait();
      tests::check_begins(result, expected[i]);
      if (result.status.ok()) {
        CHECK(result.choices[0].ids == expected[i].choices[0].ids);
      } else {
        CHECK(cancelled[i]);
        CHECK(result.status.code() == memory::Code::kCancelled);
        CHECK(result.choices[0].finish.reason == FinishReason::kCancelled);
      }
    }
    check_idle(*engine);
  }
}

namespace {

// Rows of the first bigram column that the sequences use.
std::set<int64_t> used_rows(
    const memory::TableGeometry& geometry,
    const std::function<int32_t(int32_t)>& canonical_of,
    const std::vector<Request>& requests,
    const std::vector<RequestResult>& results) {
  std::set<int64_t> used;
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<int32_t> ids = tests::whole_text(requests[i], results[i]);
    for (int32_t& id : ids) id = canonical_of(id);
    std::vector<int64_t> rows(ids.size() * static_cast<size_t>(geometry.columns()));
    hash_rows(geometry, ids, 0, static_cast<int64_t>(ids.size()), rows.data());
    for (size_t t = 0; t < ids.size(); ++t) {
      used.insert(rows[t * static_cast<size_t>(geometry.columns())]);
    }
  }
  return used;
}

}  // namespace

TEST_CASE("invariant: a poisoned request disturbs no other", "[invariant]") {
  const std::string source = tests::checkpoint_directory("tiny-engram");
  const ModelConfig config = load_config(source).value();
  const std::vector<Request> healthy = mixed_requests(7, 10);
  const std::vector<RequestResult> expected = run_alone(tests::small_engine(source), healthy);

  // One token's embedding is NaN, and a row of a bigram that no healthy sequence reads.
  constexpr int32_t kPoisonToken = 900;
  tests::EditedCheckpoint edited = tests::EditedCheckpoint::read(source);
  edited.at("model.embed_tokens.weight").set<uint16_t>(kPoisonToken * 64 + 5, 0x7fc0);
  const tests::StoredTensor& map = edited.at("model.engram_token_map");
  const auto canonical_of = [&](int32_t id) {
    const size_t size = static_cast<size_t>(map.shape[0]);
    return map.get<int32_t>(static_cast<size_t>(id) < size ? static_cast<size_t>(id) : 2);
  };
  const memory::TableGeometry geometry =
      derive_geometries(config.engram, memory::RowCodec::kBf16, canonical_of(2))[0];
  const std::set<int64_t> used = used_rows(geometry, canonical_of, healthy, expected);
  std::vector<int32_t> bigram = {123, 0};
  std::vector<int64_t> rows(static_cast<size_t>(geometry.columns()));
  do {
    ++bigram[1];
    const std::vector<int32_t> canonical = {canonical_of(bigram[0]), canonical_of(bigram[1])};
    hash_rows(geometry, canonical, 1, 2, rows.data());
  } while (used.contains(rows[0]));
  const std::string table =
      tests::numbered("model.layers.", geometry.layer).append(".engram.embedding.weight");
  edited.at(table).set<uint16_t>(static_cast<size_t>(rows[0] * geometry.row_width), 0x7fc0);
  const tests::TempDirectory directory;
  const std::string model = directory.file("poisoned");
  std::filesystem::copy(source, model);
  edited.write(model);

  EngineOptions o = tests::small_engine(model);
  o.max_num_seqs = 16;
  o.max_queued_requests = 1000;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  std::vector<std::shared_ptr<CollectingSink>> poisoned;
  for (size_t i = 0; i < healthy.size(); ++i) {
    const std::string id = tests::numbered("poison", static_cast<int64_t>(i));
    std::vector<int32_t> prompt(20, static_cast<int32_t>(i));
    prompt.insert(prompt.end(), bigram.begin(), bigram.end());
    if (i % 3 == 0) prompt.push_back(kPoisonToken);
    poisoned.push_back(tests::submit(*engine, tests::greedy_request(id, prompt, 30)));
    sinks.push_back(tests::submit(*engine, healthy[i]));
    // All ids banned: nothing can be drawn.
    Request nothing = tests::greedy_request(std::string(id).append("-banned"), {1, 2, 3}, 30);
    for (int32_t banned = 0; banned < config.vocab_size; ++banned) {
      nothing.sampling.logit_bias.emplace_back(banned, -std::numeric_limits<float>::infinity());
    }
    poisoned.push_back(tests::submit(*engine, nothing));
    Request outside = tests::greedy_request(std::string(id).append("-outside"), {1, -7, 3}, 30);
    outside.sink = std::make_shared<CollectingSink>(1);
    CHECK(engine->submit(outside).code() == memory::Code::kInvalidArgument);
  }
  for (const std::shared_ptr<CollectingSink>& sink : poisoned) {
    const RequestResult result = sink->wait();
    CHECK(result.status.code() == memory::Code::kInternal);
    CHECK(result.choices[0].finish.reason == FinishReason::kError);
    CHECK(result.choices[0].ids.empty());
  }
  std::vector<RequestResult> got;
  for (const std::shared_ptr<CollectingSink>& sink : sinks) got.push_back(sink->wait());
  check_same(got, expected);
  // Pages that held NaNs are used again.
  check_same(run_all(*engine, healthy), expected);
  check_idle(*engine);
}

}  // namespace engram::engine
