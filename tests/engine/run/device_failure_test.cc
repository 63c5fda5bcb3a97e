// A GPU that fails under an engine: requests that run and requests that wait end with what it said,
// nothing of the step is told, nothing blocks, and nobody is served afterwards. Under emulation
// only, whose device can be broken.
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"

namespace engram::engine {
namespace {

using Catch::Contains;
using cuda_emulation::Fault;
using memory::Code;
using tests::RequestResult;

// Two run at a time, so that one waits; its prompt and another take more than one chunk.
std::vector<Request> requests() {
  constexpr uint64_t kSeed = 81;
  std::mt19937_64 random(kSeed);
  std::vector<Request> made;
  for (const size_t prompt : {size_t{5}, size_t{30}, size_t{25}}) {
    made.push_back(tests::greedy_request(
        tests::numbered("f", std::ssize(made)), tests::random_ids(random, prompt), 7));
  }
  return made;
}

EngineOptions options() {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.dtype = "float32";
  o.max_num_seqs = 2;
  o.max_num_batched_tokens = 16;
  return o;
}

const std::vector<RequestResult>& expected() {
  static const std::vector<RequestResult> results = tests::run_all(options(), requests());
  return results;
}

void check_refused(Engine& engine, const std::string& message) {
  Request late = requests()[0];
  late.id = "late";
  late.sink = std::make_shared<tests::CollectingSink>(1);
  const memory::Status refused = engine.submit(std::move(late));
  CHECK(refused.code() == Code::kUnavailable);
  CHECK(refused.message() == message);
  CHECK(engine.swap_tables({}).status().message() == message);
  CHECK(engine.set_ngram_fetch("sync").message() == message);
  CHECK(engine.drain(std::chrono::seconds(10)));  // its requests are answered, or about to be
}

// Tokens that came before the device failed.
int64_t check_failure(const EngineOptions& o, const Fault& fault) {
  CAPTURE(fault.kernel, fault.count, o.cuda_graphs, o.ngram_in_graph, o.ngram_gather);
  expected();
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  CHECK(engine->failure().ok());
  cuda_emulation::arm(fault);
  const std::vector<RequestResult> results = tests::run_all(*engine, requests());
  const memory::Status failure = engine->failure();
  CHECK(failure.code() == Code::kUnavailable);
  CHECK_THAT(
      failure.message(), Contains("the GPU failed: an illegal memory access was encountered") &&
                             Contains(".cu:") && Contains("last launched: "));
  int64_t tokens = 0;
  int unfinished = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    tests::check_begins(results[i], expected()[i]);
    tokens += std::ssize(results[i].choices[0].ids);
    if (results[i].status.ok()) continue;
    ++unfinished;
    CHECK(results[i].status.code() == Code::kUnavailable);
    CHECK(results[i].status.message() == failure.message());
    CHECK(results[i].choices[0].finish.reason == FinishReason::kError);
  }
  CHECK(unfinished > 0);
  CHECK_FALSE(results.back().status.ok());  // it waited
  check_refused(*engine, failure.message());
  tests::check_idle(*engine);
  return tokens;
}

// The device works again.
struct Whole {
  ~Whole() { cuda_emulation::repair(); }
};

}  // namespace

TEST_CASE("device failure: in the first step of a prompt nothing is told", "[failure]") {
  for (const char* kernel : {"rope_append_kernel", "load_rows_kernel", "finish_kernel"}) {
    const Whole whole;
    CHECK(check_failure(options(), {.kernel = kernel}) == 0);
  }
}

TEST_CASE("device failure: decode steps, recorded or not, are told up to it", "[failure]") {
  EngineOptions o = options();
  for (const bool graphs : {true, false}) {
    o.cuda_graphs = graphs;
    for (const char* kernel : {"embed_kernel", "finish_kernel"}) {
      const Whole whole;
      const int64_t tokens = check_failure(o, {.kernel = kernel, .count = 5});
      CHECK(tokens > 0);
    }
  }
}

TEST_CASE("device failure: rows gathered beside the steps", "[failure]") {
  EngineOptions o = options();
  o.ngram_in_graph = false;
  for (const bool graphs : {true, false}) {
    o.cuda_graphs = graphs;
    const Whole whole;
    CHECK(check_failure(o, {.kernel = "load_rows_kernel", .count = 12}) > 0);
  }
  // With work of the host under way in two streams.
  o.ngram_gather = "host";
  const Whole whole;
  CHECK(check_failure(o, {.kernel = "embed_kernel", .count = 4}) > 0);
}

TEST_CASE("device failure: an idle engine tells the next request", "[failure]") {
  const Whole whole;
  const std::unique_ptr<Engine> engine = tests::start_engine(options());
  cuda_emulation::break_device(cudaErrorECCUncorrectable);
  const RequestResult result = tests::submit(*engine, requests()[0])->wait();
  CHECK(result.status.code() == Code::kUnavailable);
  CHECK_THAT(result.status.message(), Contains("ECC"));
  CHECK(result.choices[0].ids.empty());
  check_refused(*engine, result.status.message());
}

TEST_CASE("device failure: at the start it is the reason that there is no engine", "[failure]") {
  const Whole whole;
  cuda_emulation::arm({.kernel = "embed_kernel"});
  const memory::Status status = make_engine(options()).status();
  CHECK(status.code() == Code::kUnavailable);
  CHECK_THAT(status.message(), Contains("the GPU failed"));
}

}  // namespace engram::engine
