// The engine as its clients see it: what a request gets, what is refused, how requests end.
#include "engine/run/engine.h"

#include <catch2/catch.hpp>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"

namespace engram::engine {
namespace {

using memory::Code;
using memory::Status;
using tests::CollectingSink;
using tests::greedy_request;
using tests::RequestResult;
using tests::submit;

EngineOptions options() {
  EngineOptions o;
  o.model = tests::demo_directory();
  o.device = std::string("cpu");
  o.threads = 2;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 64;
  o.kv_cache_bytes = 64 << 20;
  return o;
}

std::unique_ptr<Engine> demo() {
  return tests::start_engine(options());
}

std::vector<int32_t> encode(const Engine& engine, const std::string& text) {
  return engine.tokenizer().encode(text, true);
}

Status try_submit(Engine& engine, Request request) {
  request.sink = std::make_shared<CollectingSink>(request.sampling.n);
  return engine.submit(std::move(request));
}

}  // namespace

TEST_CASE("engine: the demo model completes a set phrase", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const std::vector<int32_t> prompt = encode(*engine, "The following options are ");
  const RequestResult result = submit(*engine, greedy_request("a", prompt, 12))->wait();
  REQUIRE(result.status.ok());
  CHECK(result.choices[0].ids.size() == 12);
  CHECK(result.choices[0].text == engine->tokenizer().decode(result.choices[0].ids, true));
  CHECK(result.choices[0].finish.reason == FinishReason::kLength);
  const Usage& usage = result.usage;
  CHECK(usage.prompt_tokens == static_cast<int64_t>(prompt.size()));
  CHECK(usage.completion_tokens == 12);
  CHECK(usage.first_token_seconds > 0);
  CHECK(usage.total_seconds >= usage.first_token_seconds);
  // 2 layers of 8 columns; the last id is never computed.
  CHECK(usage.ngram.rows == 16 * (usage.prompt_tokens + 11));
  CHECK(usage.ngram.unique_rows > 0);
  CHECK(usage.ngram.unique_rows <= usage.ngram.rows);
  CHECK(usage.ngram.bytes == usage.ngram.rows * 33);
  CHECK(usage.ngram.gather_seconds > 0);
  REQUIRE(usage.ngram.mean_gate.size() == 2);
  for (const auto& [layer, gate] : usage.ngram.mean_gate) {
    CHECK((layer == 1 || layer == 4));
    CHECK(gate > 0.0);
    CHECK(gate < 1.0);
  }
}

TEST_CASE("engine: log-probabilities, chosen and of the prompt", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const std::vector<int32_t> prompt = encode(*engine, "The GNU General Public ");
  Request request = greedy_request("a", prompt, 6);
  request.sampling.logprobs = 4;
  request.sampling.prompt_logprobs = 2;
  const RequestResult result = submit(*engine, request)->wait();
  const tests::ChoiceResult& choice = result.choices[0];
  REQUIRE(choice.logprobs.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    const PositionLogprobs& p = choice.logprobs[i];
    CHECK(p.id == choice.ids[i]);
    CHECK(p.rank == 1);
    REQUIRE(p.top.size() == 4);
    CHECK(p.top[0].id == p.id);
    CHECK(p.top[0].logprob == p.logprob);
    CHECK(p.logprob < 0.f);
    for (size_t k = 1; k < p.top.size(); ++k) CHECK(p.top[k].logprob <= p.top[k - 1].logprob);
  }
  REQUIRE(choice.prompt_logprobs.size() == prompt.size() - 1);
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    CHECK(choice.prompt_logprobs[i].id == prompt[i + 1]);
    CHECK(choice.prompt_logprobs[i].rank >= 1);
    CHECK(choice.prompt_logprobs[i].top.size() == 2);
  }
  // A text's log-probabilities are the same as prompt and as output.
  std::vector<int32_t> both = prompt;
  both.insert(both.end(), choice.ids.begin(), choice.ids.end());
  Request again = greedy_request("b", both, 1);
  again.sampling.prompt_logprobs = 0;
  const RequestResult scored = submit(*engine, again)->wait();
  for (size_t i = 0; i < 6; ++i) {
    CHECK(
        scored.choices[0].prompt_logprobs[prompt.size() - 1 + i].logprob ==
        choice.logprobs[i].logprob);
  }
}

TEST_CASE("engine: several choices share a prompt and draw apart", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  Request request = greedy_request("a", encode(*engine, std::string(200, 'x').append(" NAME")), 16);
  request.sampling.n = 4;
  request.sampling.temperature = 1.f;
  request.sampling.seed = 11;
  request.sampling.prompt_logprobs = 0;
  const RequestResult result = submit(*engine, request)->wait();
  REQUIRE(result.status.ok());
  std::set<std::vector<int32_t>> distinct;
  for (size_t i = 0; i < 4; ++i) {
    CHECK(result.choices[i].ids.size() == 16);
    CHECK(result.choices[i].prompt_logprobs.size() == request.prompt_ids.size() - 1);
    distinct.insert(result.choices[i].ids);
    // Choice i draws from seed + i.
    Request one = request;
    one.id = tests::numbered("one", static_cast<int64_t>(i));
    one.sampling.n = 1;
    one.sampling.seed = 11 + i;
    CHECK(submit(*engine, one)->wait().choices[0].ids == result.choices[i].ids);
  }
  CHECK(distinct.size() == 4);
  CHECK(result.usage.completion_tokens == 64);
  CHECK(result.usage.cached_tokens == 0);
}

TEST_CASE("engine: requests without a seed draw apart, engines with one seed alike", "[engine]") {
  std::vector<std::vector<int32_t>> first;
  for (int round = 0; round < 2; ++round) {
    const std::unique_ptr<Engine> engine = demo();
    for (int i = 0; i < 3; ++i) {
      Request request = greedy_request(
          tests::numbered("r", static_cast<int64_t>(i)), encode(*engine, "NAME"), 20);
      request.sampling.temperature = 1.f;
      const std::vector<int32_t> ids = submit(*engine, request)->wait().choices[0].ids;
      if (round == 0) {
        first.push_back(ids);
      } else {
        CHECK(ids == first[static_cast<size_t>(i)]);
      }
    }
  }
  CHECK(first[0] != first[1]);
  CHECK(first[1] != first[2]);
}

TEST_CASE("engine: echo, stop strings and ids, min_tokens", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const std::string text = "The following options are ";
  const std::vector<int32_t> prompt = encode(*engine, text);
  const RequestResult plain = submit(*engine, greedy_request("a", prompt, 24))->wait();
  const std::string& full = plain.choices[0].text;
  REQUIRE(full.size() > 12);

  Request request = greedy_request("b", prompt, 24);
  request.sampling.echo = true;
  request.sampling.stop = {full.substr(5, 4)};
  const RequestResult stopped = submit(*engine, request)->wait();
  const size_t at = full.find(request.sampling.stop[0]);
  CHECK(stopped.choices[0].text == engine->tokenizer().decode(prompt, true) + full.substr(0, at));
  CHECK(stopped.choices[0].finish.reason == FinishReason::kStop);
  CHECK(stopped.choices[0].finish.matched_string == request.sampling.stop[0]);

  request = greedy_request("c", prompt, 24);
  request.sampling.stop_token_ids = {plain.choices[0].ids[3]};
  const RequestResult by_id = submit(*engine, request)->wait();
  CHECK(by_id.choices[0].finish.matched_token == plain.choices[0].ids[3]);
  CHECK(by_id.choices[0].ids.size() <= 4);

  request.id = std::string("d");
  request.sampling.min_tokens = 10;
  const RequestResult later = submit(*engine, request)->wait();
  CHECK(later.choices[0].ids.size() >= 10);
  for (size_t i = 0; i < 10; ++i) CHECK(later.choices[0].ids[i] != plain.choices[0].ids[3]);
}

TEST_CASE("engine: max_tokens ends at the context's end", "[engine]") {
  EngineOptions o = options();
  o.max_model_len = 40;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const RequestResult result =
      submit(*engine, greedy_request("a", std::vector<int32_t>(30, 100), -1))->wait();
  CHECK(result.choices[0].ids.size() == 10);
  CHECK(result.choices[0].finish.reason == FinishReason::kLength);
  const Status status = try_submit(*engine, greedy_request("b", std::vector<int32_t>(40, 1), 1));
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK(status.message().find("40") != std::string::npos);
}

TEST_CASE("engine: what submit refuses", "[engine]") {
  EngineOptions o = options();
  o.max_num_seqs = 1;
  o.max_queued_requests = 2;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const auto running = submit(*engine, greedy_request("a", {5, 6}, 1500));
  running->wait_for_deltas(1);
  const auto second = submit(*engine, greedy_request("b", {5, 6}, 2));
  const auto third = submit(*engine, greedy_request("c", {5, 6}, 2));
  CHECK(try_submit(*engine, greedy_request("b", {5, 6}, 2)).code() == Code::kAlreadyExists);
  CHECK(try_submit(*engine, greedy_request("d", {5, 6}, 2)).code() == Code::kResourceExhausted);
  CHECK(try_submit(*engine, greedy_request("d", {5, -6}, 2)).code() == Code::kInvalidArgument);
  engine->abort("c", Code::kCancelled);
  CHECK(third->wait().status.code() == Code::kCancelled);
  engine->abort("nobody", Code::kCancelled);
  CHECK_FALSE(running->done());
  engine->abort("a", Code::kCancelled);
  CHECK(running->wait().status.code() == Code::kCancelled);
  CHECK(second->wait().status.ok());
  CHECK(engine->drain(std::chrono::seconds(100)));
  CHECK(try_submit(*engine, greedy_request("e", {5, 6}, 2)).code() == Code::kUnavailable);
}

TEST_CASE("engine: deadlines end queued and running requests", "[engine]") {
  EngineOptions o = options();
  o.max_num_seqs = 1;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  Request running = greedy_request("a", {5, 6}, 2000);
  running.deadline = Clock::now() + std::chrono::milliseconds(100);
  const auto sink = submit(*engine, running);
  Request queued = greedy_request("b", {5, 6}, 5);
  queued.deadline = Clock::now();
  const RequestResult never = submit(*engine, queued)->wait();
  CHECK(never.status.code() == Code::kDeadlineExceeded);
  CHECK(never.choices[0].ids.empty());
  const RequestResult partly = sink->wait();
  CHECK(partly.status.code() == Code::kDeadlineExceeded);
  CHECK(partly.choices[0].finish.reason == FinishReason::kTimeLimit);
  CHECK(engine->stats().kv_pages_free == engine->stats().kv_pages_total);
}

TEST_CASE("engine: a cancelled request's pages are free at once", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const auto sink = submit(*engine, greedy_request("a", std::vector<int32_t>(300, 9), 1000));
  sink->wait_for_deltas(2);
  engine->abort("a", Code::kCancelled);
  CHECK(sink->wait().status.code() == Code::kCancelled);
  const EngineStats stats = engine->stats();
  CHECK(stats.kv_pages_free == stats.kv_pages_total);
  CHECK(stats.finished.at(FinishReason::kCancelled) == 1);
}

TEST_CASE("engine: drain waits for the last request", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const auto sink = submit(*engine, greedy_request("a", {5, 6, 7}, 300));
  CHECK_FALSE(engine->drain(std::chrono::milliseconds(0)));
  CHECK(engine->drain(std::chrono::seconds(100)));
  CHECK(sink->done());
  CHECK(sink->wait().status.ok());
}

TEST_CASE("engine: its end is the end of its requests", "[engine]") {
  std::unique_ptr<Engine> engine = demo();
  const auto running = submit(*engine, greedy_request("a", {5, 6, 7}, 2000));
  running->wait_for_deltas(1);
  const auto late = submit(*engine, greedy_request("b", {5, 6, 7}, 2000));
  engine.reset();
  CHECK(running->wait().status.code() == Code::kUnavailable);
  CHECK(late->wait().status.code() == Code::kUnavailable);
}

TEST_CASE("engine: statistics add up", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const std::vector<int32_t> prompt(100, 9);
  for (int i = 0; i < 2; ++i) {
    submit(*engine, greedy_request(tests::numbered("r", static_cast<int64_t>(i)), prompt, 10))
        ->wait();
  }
  const EngineStats stats = engine->stats();
  CHECK(stats.prompt_tokens == 200);
  CHECK(stats.generation_tokens == 20);
  CHECK(stats.cached_tokens == 96);
  CHECK(stats.prefix_queries_tokens == 200);
  CHECK(stats.finished.at(FinishReason::kLength) == 2);
  CHECK(stats.heartbeat_ns > 0);
  REQUIRE(stats.layers.size() == 2);
  for (const EngineStats::Layer& layer : stats.layers) {
    CHECK(layer.rows == 8 * (200 - 96 + 18));
    CHECK(layer.bytes == layer.rows * 33);
    CHECK(layer.gather_ns > 0);
  }
  CHECK(stats.steps == static_cast<int64_t>(stats.recent_step_seconds.size()));
  // The first token of an answer is that of the last step with the prompt.
  CHECK(stats.prefill_tokens == 200 - 96);
  CHECK(stats.decode_tokens == 18);
  CHECK(stats.prefill_steps == 2 + 1);
  CHECK(stats.decode_steps == 18);
  CHECK(stats.prefill_step_ns > 0);
  CHECK(stats.decode_step_ns > 0);
  CHECK(stats.recent_step_seconds.size() == stats.recent_exposed_wait_seconds.size());
  CHECK(engine->stats().recent_step_seconds.empty());
}

TEST_CASE("engine: the ops' accounting follows from the shapes", "[engine]") {
  const std::unique_ptr<Engine> engine = demo();
  const ModelConfig& c = engine->info().config;
  submit(*engine, greedy_request("r", std::vector<int32_t>(64, 9), 3))->wait();
  const EngineStats stats = engine->stats();
  const auto op = [&](const std::string& name) {
    for (const EngineStats::Op& o : stats.ops) {
      if (name == o.name) return o;
    }
    FAIL("no op " << name);
    return EngineStats::Op{};
  };
  // Steps of 64, 1 and 1 tokens; activations and cache are float32.
  const int64_t queries = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t keys = int64_t{c.num_key_value_heads} * c.head_dim;
  CHECK(op("attention").calls == 3 * c.num_hidden_layers);
  const int64_t context = 64 + 65 + 66;
  const int64_t cache_bytes = c.num_hidden_layers * context * 2 * keys * 4;
  CHECK(op("attention").bytes == cache_bytes + c.num_hidden_layers * 66 * 2 * queries * 4);
  CHECK(op("attention").flops == c.num_hidden_layers * (64 * 65 / 2 + 65 + 66) * 4 * queries);
  CHECK(op("sample").calls == 3);
  CHECK(op("sample").bytes == 3 * c.vocab_size * 4);
  CHECK(op("short_conv").calls == 3 * 2);
  // Weights are read once a step, whatever its tokens.
  CHECK(op("linear").flops % 2 == 0);
  CHECK(op("linear").bytes > 3 * 2 * c.vocab_size * c.hidden_size);
  CHECK(op("embed").flops == 0);
}

TEST_CASE("engine: options that cannot be", "[engine]") {
  const auto refused = [](const std::function<void(EngineOptions&)>& change) {
    EngineOptions o = options();
    change(o);
    const auto engine = make_engine(o);
    REQUIRE_FALSE(engine.ok());
    return engine.status();
  };
  CHECK(refused([](EngineOptions& o) {
          o.device = std::string("cuda");
        }).code() == Code::kFailedPrecondition);
  CHECK(refused([](EngineOptions& o) {
          o.device = std::string("tpu");
        }).code() == Code::kInvalidArgument);
  CHECK(refused([](EngineOptions& o) {
          o.dtype = std::string("int4");
        }).code() == Code::kInvalidArgument);
  CHECK(refused([](EngineOptions& o) { o.max_model_len = 4096; }).code() == Code::kInvalidArgument);
  CHECK(refused([](EngineOptions& o) { o.kv_cache_bytes = 5; }).code() == Code::kResourceExhausted);
  CHECK_FALSE(refused([](EngineOptions& o) { o.model = "/nowhere"; }).ok());
  const Status few = refused([](EngineOptions& o) { o.max_num_batched_tokens = 4; });
  CHECK(few.message().find("--max-num-batched-tokens") != std::string::npos);
}

}  // namespace engram::engine
