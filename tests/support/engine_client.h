// A client of an engine for tests: submits requests and collects what their sinks are told, with
// the rules every sink may rely on checked on the way.
#pragma once

#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/engine.h"

namespace engram::tests {

struct ChoiceResult {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<engine::PositionLogprobs> logprobs;
  std::vector<engine::PositionLogprobs> prompt_logprobs;
  engine::Finish finish;
  int finishes = 0;
  int deltas = 0;
};

struct RequestResult {
  std::vector<ChoiceResult> choices;
  memory::Status status;
  engine::Usage usage;
  int dones = 0;
  bool broken = false;  // a call after the last one
};

class CollectingSink : public engine::Sink {
 public:
  explicit CollectingSink(int choices) { result_.choices.resize(static_cast<size_t>(choices)); }

  void on_delta(engine::Delta delta) override {
    const std::lock_guard<std::mutex> lock(mu_);
    ChoiceResult& c = result_.choices[static_cast<size_t>(delta.choice)];
    result_.broken |= c.finishes > 0 || result_.dones > 0;
    ++c.deltas;
    c.text += delta.text;
    c.ids.insert(c.ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    c.logprobs.insert(c.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    if (!delta.prompt_logprobs.empty()) c.prompt_logprobs = std::move(delta.prompt_logprobs);
    changed_.notify_all();
  }
  void on_finish(int choice, engine::Finish finish) override {
    const std::lock_guard<std::mutex> lock(mu_);
    ChoiceResult& c = result_.choices[static_cast<size_t>(choice)];
    result_.broken |= c.finishes > 0 || result_.dones > 0;
    ++c.finishes;
    c.finish = std::move(finish);
  }
  void on_done(const memory::Status& status, const engine::Usage& usage) override {
    const std::lock_guard<std::mutex> lock(mu_);
    ++result_.dones;
    result_.status = status;
    result_.usage = usage;
    changed_.notify_all();
  }

  // Blocks until the request ended.
  RequestResult wait() {
    std::unique_lock<std::mutex> lock(mu_);
    REQUIRE(changed_.wait_for(lock, kLimit, [this] { return result_.dones > 0; }));
    REQUIRE(result_.dones == 1);
    REQUIRE_FALSE(result_.broken);
    for (const ChoiceResult& c : result_.choices) REQUIRE(c.finishes == 1);
    return result_;
  }
  // Blocks until the first choice has that many deltas, or the request ended.
  void wait_for_deltas(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    REQUIRE(changed_.wait_for(
        lock, kLimit, [&] { return result_.dones > 0 || result_.choices[0].deltas >= count; }));
  }
  bool done() {
    const std::lock_guard<std::mutex> lock(mu_);
    return result_.dones > 0;
  }

 private:
  static constexpr std::chrono::seconds kLimit{300};  // only a hang takes that long

  std::mutex mu_;
  std::condition_variable changed_;
  RequestResult result_;
};

inline std::unique_ptr<engine::Engine> start_engine(const engine::EngineOptions& options) {
  memory::Result<std::unique_ptr<engine::Engine>> engine = engine::make_engine(options);
  CAPTURE(options.model, engine.status().to_string());
  REQUIRE(engine.ok());
  return std::move(engine).value();
}

// Queues a request; its sink collects.
inline std::shared_ptr<CollectingSink> submit(engine::Engine& engine, engine::Request request) {
  auto sink = std::make_shared<CollectingSink>(request.sampling.n);
  request.sink = sink;
  const memory::Status status = engine.submit(std::move(request));
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
  return sink;
}

inline std::string numbered(const char* prefix, int64_t number) {
  std::string name(prefix);
  return name.append(std::to_string(number));
}

inline engine::Request greedy_request(
    std::string id, std::vector<int32_t> prompt, int64_t max_tokens) {
  engine::Request request;
  request.id = std::move(id);
  request.prompt_ids = std::move(prompt);
  request.sampling.temperature = 0.f;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

}  // namespace engram::tests
