// The simulator keeps the contract of engine.h: every sink hears its end, every page returns.
#include <catch2/catch.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/run/engine.h"

namespace engram::engine {
namespace {

// What a sink heard; checked on the test's thread.
class Recorder : public Sink {
 public:
  void on_delta(Delta delta) override {
    const std::lock_guard lock(mu_);
    late_ |= done_;
    if (texts_.size() <= static_cast<size_t>(delta.choice)) {
      texts_.resize(static_cast<size_t>(delta.choice) + 1);
    }
    texts_[static_cast<size_t>(delta.choice)] += delta.text;
    tokens_ += static_cast<int64_t>(delta.token_ids.size());
  }
  void on_finish(int, Finish finish) override {
    const std::lock_guard lock(mu_);
    late_ |= done_;
    reasons_.push_back(finish.reason);
  }
  void on_done(const memory::Status& status, const Usage& usage) override {
    const std::lock_guard lock(mu_);
    late_ |= done_;
    done_ = true;
    status_ = status;
    usage_ = usage;
    ended_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mu_);
    return ended_.wait_for(lock, std::chrono::seconds(30), [this] { return done_; });
  }

  // After wait().
  std::vector<std::string> texts_;
  std::vector<FinishReason> reasons_;
  int64_t tokens_ = 0;
  memory::Status status_;
  Usage usage_;
  bool late_ = false;  // something came after on_done()

 private:
  std::mutex mu_;
  std::condition_variable ended_;
  bool done_ = false;
};

Request request_of(const std::string& id, int64_t tokens, std::shared_ptr<Sink> sink) {
  Request request;
  request.id = id;
  request.prompt_ids = {1, 2, 3};
  request.sampling.max_tokens = tokens;
  request.sampling.seed = 4;
  request.sink = std::move(sink);
  return request;
}

std::string id_of(int index) {
  return std::string("r").append(std::to_string(index));
}

std::unique_ptr<Engine> engine_of(const FakeEngineOptions& options) {
  memory::Result<std::unique_ptr<Engine>> engine = make_fake_engine(options);
  REQUIRE(engine.ok());
  return std::move(engine).value();
}

}  // namespace

TEST_CASE("simulator: equal requests get equal answers", "[fake]") {
  const std::unique_ptr<Engine> engine = engine_of({});
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (int i = 0; i < 20; ++i) {
    sinks.push_back(std::make_shared<Recorder>());
    REQUIRE(engine->submit(request_of(id_of(i), 100, sinks.back())).ok());
  }
  for (const std::shared_ptr<Recorder>& sink : sinks) {
    REQUIRE(sink->wait());
    CHECK(sink->status_.ok());
    CHECK(!sink->late_);
    CHECK(sink->tokens_ == 100);
    CHECK(sink->usage_.completion_tokens == 100);
    CHECK(sink->texts_ == sinks[0]->texts_);
    CHECK(sink->reasons_ == std::vector<FinishReason>{FinishReason::kLength});
  }
}

TEST_CASE("simulator: aborts, deadlines and ends give every page back", "[fake]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  FakeEngineOptions options;
  options.step_ms = 0.2;
  options.kv_pages = 300;
  options.max_queued_requests = 1000;
  options.max_num_seqs = 8;
  const std::unique_ptr<Engine> engine = engine_of(options);
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (int i = 0; i < 200; ++i) {
    const std::string id = id_of(i);
    sinks.push_back(std::make_shared<Recorder>());
    Request request = request_of(id, 1 + random() % 300, sinks.back());
    request.sampling.n = 1 + static_cast<int>(random() % 3);
    if (random() % 3 == 0) {
      request.deadline = Clock::now() + std::chrono::microseconds(random() % 20000);
    }
    REQUIRE(engine->submit(std::move(request)).ok());
    if (random() % 3 == 0) engine->abort(id, memory::Code::kCancelled);
    engine->abort("nobody", memory::Code::kCancelled);
  }
  for (const std::shared_ptr<Recorder>& sink : sinks) {
    REQUIRE(sink->wait());
    CHECK(!sink->late_);
  }
  const EngineStats stats = engine->stats();
  CHECK(stats.running == 0);
  CHECK(stats.waiting == 0);
  CHECK(stats.kv_pages_free == stats.kv_pages_total);
}

TEST_CASE("simulator: refusals", "[fake]") {
  FakeEngineOptions options;
  options.step_ms = 50;
  options.max_num_seqs = 1;
  options.max_queued_requests = 1;
  options.kv_pages = 10;
  const std::unique_ptr<Engine> engine = engine_of(options);
  const auto sink = std::make_shared<Recorder>();
  const auto code = [&](const std::string& id, int64_t tokens) {
    return engine->submit(request_of(id, tokens, sink)).code();
  };
  CHECK(code("a", 0) == memory::Code::kInvalidArgument);
  CHECK(code("a", 1000) == memory::Code::kFailedPrecondition);
  CHECK(code("a", 100) == memory::Code::kOk);
  CHECK(code("a", 100) == memory::Code::kAlreadyExists);
  while (engine->stats().running == 0) std::this_thread::yield();
  const auto second = std::make_shared<Recorder>();
  CHECK(engine->submit(request_of("b", 100, second)).ok());
  CHECK(code("c", 100) == memory::Code::kResourceExhausted);
  CHECK(!engine->drain(std::chrono::milliseconds(1)));
  CHECK(code("d", 1) == memory::Code::kUnavailable);
  engine->abort("a", memory::Code::kCancelled);
  engine->abort("b", memory::Code::kCancelled);
  CHECK(engine->drain(std::chrono::seconds(30)));
  CHECK(sink->status_.code() == memory::Code::kCancelled);
}

TEST_CASE("simulator: destruction ends what is left", "[fake]") {
  FakeEngineOptions options;
  options.step_ms = 20;
  const auto sink = std::make_shared<Recorder>();
  {
    const std::unique_ptr<Engine> engine = engine_of(options);
    REQUIRE(engine->submit(request_of("a", 1000, sink)).ok());
  }
  REQUIRE(sink->wait());
  CHECK(sink->status_.code() == memory::Code::kUnavailable);
}

TEST_CASE("simulator: a freeze holds up what runs and what waits", "[fake]") {
  FakeEngineOptions options;
  options.step_ms = 1;
  options.freeze_at_seconds = 0.1;
  options.freeze_seconds = 0.2;
  const std::unique_ptr<Engine> engine = engine_of(options);
  const auto sink = std::make_shared<Recorder>();
  REQUIRE(engine->submit(request_of("a", 400, sink)).ok());
  REQUIRE(sink->wait());
  CHECK(sink->tokens_ == 400);
  // At most 101 steps fit before it; a step is never shorter than it should be.
  CHECK(sink->usage_.first_token_seconds < sink->usage_.total_seconds);
  CHECK(sink->usage_.total_seconds > 0.55);

  options.freeze_at_seconds = 0;
  const std::unique_ptr<Engine> frozen = engine_of(options);
  const auto early = std::make_shared<Recorder>();
  REQUIRE(frozen->submit(request_of("a", 1, early)).ok());
  REQUIRE(early->wait());
  CHECK(early->usage_.queue_seconds >= 0.2);
  CHECK(early->usage_.first_token_seconds >= 0.2);
}

TEST_CASE("simulator: destruction ends a freeze", "[fake]") {
  FakeEngineOptions options;
  options.freeze_seconds = 1000;
  const auto sink = std::make_shared<Recorder>();
  {
    const std::unique_ptr<Engine> engine = engine_of(options);
    REQUIRE(engine->submit(request_of("a", 1, sink)).ok());
  }
  REQUIRE(sink->wait());
  CHECK(sink->status_.code() == memory::Code::kUnavailable);
}

}  // namespace engram::engine
