// Engines with made-up weights for benchmarks, and requests that keep them busy.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/or_die.h"

namespace engram::bench {

class WaitingSink : public engine::Sink {
 public:
  void on_delta(engine::Delta) override {}
  void on_finish(int, engine::Finish) override {}
  void on_done(const memory::Status& status, const engine::Usage&) override {
    const std::lock_guard<std::mutex> lock(mu_);
    done_ = true;
    status_ = status;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return done_; });
    tests::ok_or_die(status_);
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool done_ = false;
  memory::Status status_;
};

inline engine::EngineOptions dummy_engine(const std::string& model, int threads) {
  engine::EngineOptions o;
  o.model = model;
  o.load_format = std::string("dummy");
  o.device = std::string("cpu");
  o.threads = threads;
  o.max_model_len = 1024;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 512;
  o.kv_cache_bytes = int64_t{256} << 20;
  return o;
}

inline std::unique_ptr<engine::Engine> start_engine(const engine::EngineOptions& o) {
  return tests::value_or_die(engine::make_engine(o));
}

using Prompts = std::vector<std::vector<int32_t>>;

// Of byte-like ids, the same every time.
inline Prompts plain_prompts(int batch, int64_t tokens) {
  Prompts prompts(static_cast<size_t>(batch));
  for (int i = 0; i < batch; ++i) {
    for (int64_t t = 0; t < tokens; ++t) {
      prompts[static_cast<size_t>(i)].push_back(
          static_cast<int32_t>(3 + (t * 7919 + i * 31) % 250));
    }
  }
  return prompts;
}

// Of any ids: n-grams do not repeat, which is the worst case for every cache of rows.
inline Prompts random_prompts(uint64_t seed, int64_t vocab_size, int batch, int64_t tokens) {
  std::mt19937_64 random(seed);
  Prompts prompts(static_cast<size_t>(batch));
  for (std::vector<int32_t>& prompt : prompts) {
    for (int64_t t = 0; t < tokens; ++t) {
      prompt.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size)));
    }
  }
  return prompts;
}

// One request per prompt, all at once.
inline void serve(engine::Engine& engine, const Prompts& prompts, int64_t max_tokens) {
  std::vector<std::shared_ptr<WaitingSink>> sinks;
  for (const std::vector<int32_t>& prompt : prompts) {
    engine::Request request;
    request.id = std::to_string(sinks.size());
    request.prompt_ids = prompt;
    request.sampling.temperature = 0.f;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = max_tokens;
    request.bypass_prefix_cache = true;
    sinks.push_back(std::make_shared<WaitingSink>());
    request.sink = sinks.back();
    tests::ok_or_die(engine.submit(std::move(request)));
  }
  for (const std::shared_ptr<WaitingSink>& sink : sinks) sink->wait();
}

}  // namespace engram::bench
