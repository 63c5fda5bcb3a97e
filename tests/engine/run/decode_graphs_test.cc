// Recorded decode steps: the same answers, bit for bit, as steps that are launched kernel by
// kernel, the same work in the statistics, and what happens when nothing can be recorded.
#include "engine/run/decode_graphs.h"

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"

namespace engram::engine {
namespace {

using tests::Ran;
using tests::run_and_count;

// Each is one request, so that who is in which step does not depend on when requests arrive.
// Sequences join when the first has computed the prompt, and leave at drawn tokens and strings.
std::vector<Request> branching_requests(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request r = tests::greedy_request(
        tests::numbered("d", static_cast<int64_t>(i)), tests::random_ids(random, 3 + 17 * i),
        4 + static_cast<int64_t>(random() % 6));
    r.sampling.n = 1 + static_cast<int>(3 * i);
    r.sampling.temperature = i == 0 ? 0.f : 1.5f;
    r.sampling.seed = seed + static_cast<uint64_t>(i);
    r.sampling.logprobs = 2;
    r.sampling.stop = {"e", "a"};
    for (int32_t id = 0; id < 60; ++id) r.sampling.stop_token_ids.push_back(7 * id);
    requests.push_back(std::move(r));
  }
  return requests;
}

// But for rows that are one after the other and yet not in the place where a recording has them,
// and those that a recording gathers in the right order itself.
void check_same_work(const EngineStats& got, const EngineStats& expected) {
  REQUIRE(got.ops.size() == expected.ops.size());
  for (size_t i = 0; i < got.ops.size(); ++i) {
    CAPTURE(got.ops[i].name);
    if (got.ops[i].name == std::string("gather_rows")) {
      if (got.self_fed_steps == 0) CHECK(got.ops[i].calls >= expected.ops[i].calls);
      continue;
    }
    CHECK(got.ops[i].calls == expected.ops[i].calls);
    CHECK(got.ops[i].bytes == expected.ops[i].bytes);
    CHECK(got.ops[i].flops == expected.ops[i].flops);
  }
}

int64_t calls_of(const EngineStats& stats, const std::string& name) {
  for (const EngineStats::Op& op : stats.ops) {
    if (op.name == name) return op.calls;
  }
  return -1;
}

EngineOptions options(const char* model, const char* dtype) {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory(model));
  o.dtype = dtype;
  o.async_scheduling = false;  // no work in vain
  return o;
}

// With and without recorded steps.
void check_recorded(EngineOptions o, const std::vector<Request>& requests) {
  o.cuda_graphs = false;
  const Ran launched = run_and_count(o, requests);
  CHECK(launched.stats.graph_steps == 0);
  o.cuda_graphs = true;
  const Ran recorded = run_and_count(o, requests);
  tests::check_same(recorded.results, launched.results);
  check_same_work(recorded.stats, launched.stats);
  CHECK(recorded.stats.graph_steps > recorded.stats.decode_steps / 2);
}

// The lines of the log that `work` writes.
std::string log_of(const std::function<void()>& work) {
  std::ostringstream text;
  const std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  work();
  spdlog::set_default_logger(before);
  return text.str();
}

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("graphs: the batch sizes rise to the most there may be", "[graphs]") {
  CHECK(decode_batch_sizes(1) == std::vector<int64_t>{1});
  CHECK(decode_batch_sizes(8) == std::vector<int64_t>{1, 2, 4, 8});
  CHECK(decode_batch_sizes(50) == std::vector<int64_t>{1, 2, 4, 8, 16, 24, 32, 48, 50});
  const std::vector<int64_t> sizes = decode_batch_sizes(512);
  CHECK(sizes.size() == 37);
  CHECK(sizes[sizes.size() - 2] == 496);
  CHECK(decode_batch_sizes(600).back() == 600);
}

TEST_CASE("graphs: sequences that join and leave are answered as without", "[graphs]") {
  constexpr uint64_t kSeed = 21;
  CAPTURE(kSeed);
  const std::vector<Request> requests = branching_requests(kSeed, 3);
  for (const auto& [model, dtype] : std::vector<std::pair<const char*, const char*>>{
           {"tiny-engram", "bfloat16"}, {"tiny-engram", "float32"}, {"tiny-dense", "bfloat16"}}) {
    CAPTURE(model, dtype);
    check_recorded(options(model, dtype), requests);
  }
}

TEST_CASE("graphs: rows out of their usual place are found", "[graphs]") {
  // A stop string is found after the rows of the next step were asked for: they leave a gap.
  constexpr uint64_t kSeed = 22;
  CAPTURE(kSeed);
  std::vector<Request> requests = branching_requests(kSeed, 3);
  requests.erase(requests.begin(), requests.end() - 1);
  EngineOptions o = options("tiny-engram", "bfloat16");
  o.ngram_in_graph = false;
  const Ran ran = run_and_count(o, requests);
  CHECK(calls_of(ran.stats, "gather_rows") > 0);
  check_recorded(o, requests);
}

TEST_CASE("graphs: however rows are fetched", "[graphs]") {
  constexpr uint64_t kSeed = 23;
  CAPTURE(kSeed);
  const std::vector<Request> requests = branching_requests(kSeed, 2);
  for (const char* fetch : {"sync", "zero", "skip"}) {
    CAPTURE(fetch);
    EngineOptions o = options("tiny-engram", "bfloat16");
    o.ngram_fetch = fetch;
    check_recorded(o, requests);
  }
}

TEST_CASE("graphs: preemption and prefix hits", "[graphs]") {
  constexpr uint64_t kSeed = 24;
  CAPTURE(kSeed);
  std::vector<Request> requests = branching_requests(kSeed, 2);
  for (Request& r : requests) {
    r.sampling.n = 4;
    r.sampling.max_tokens = 16;
    r.sampling.stop.clear();
    r.sampling.stop_token_ids.clear();
    r.sampling.ignore_eos = true;
  }
  requests.push_back(requests.back());
  requests.back().id = "again";
  EngineOptions o = options("tiny-engram", "bfloat16");
  o.block_size = 4;
  o.kv_cache_bytes = int64_t{13} * 3072;  // pages for some two of the sequences
  o.max_model_len = 48;
  const Ran ran = run_and_count(o, requests);
  CHECK(ran.stats.preemptions > 0);
  CHECK(ran.stats.cached_tokens > 0);
  check_recorded(o, requests);
}

TEST_CASE("graphs: batches of more rows than the kernels for few take", "[graphs]") {
  constexpr uint64_t kSeed = 25;
  CAPTURE(kSeed);
  std::vector<Request> requests = branching_requests(kSeed, 1);
  requests[0].sampling.n = 11;
  requests[0].sampling.temperature = 1.5f;
  EngineOptions o = options("tiny-engram", "bfloat16");
  o.max_num_seqs = 13;
  check_recorded(o, requests);
}

TEST_CASE("graphs: a refused recording is said once and costs no answer", "[graphs]") {
  constexpr uint64_t kSeed = 26;
  CAPTURE(kSeed);
  const std::vector<Request> requests = branching_requests(kSeed, 2);
  EngineOptions o = options("tiny-engram", "bfloat16");
  o.cuda_graphs = false;
  const Ran expected = run_and_count(o, requests);
  o.cuda_graphs = true;
  cuda_emulation::Machine& machine = cuda_emulation::machine();
  for (cudaError_t* refusal : {&machine.capture_error, &machine.instantiate_error}) {
    Ran ran;
    *refusal = cudaErrorMemoryAllocation;
    const std::string log = log_of([&] { ran = run_and_count(o, requests); });
    *refusal = cudaSuccess;
    CAPTURE(log);
    CHECK(count_of(log, "no CUDA graph of a decode step of 1 sequences") == 1);
    CHECK(count_of(log, "CUDA graph") == 1);
    CHECK(count_of(log, "out of memory") == 1);
    CHECK(ran.stats.graph_steps == 0);
    tests::check_same(ran.results, expected.results);
    check_same_work(ran.stats, expected.stats);
  }
}

TEST_CASE("graphs: the log says which there are", "[graphs]") {
  EngineOptions o = options("tiny-engram", "bfloat16");
  const std::string with = log_of([&] { tests::start_engine(o); });
  CHECK_THAT(with, Catch::Contains("decode steps of 1, 2, 4, 8 sequences"));
  o.cuda_graphs = false;
  const std::string without = log_of([&] { tests::start_engine(o); });
  CHECK_THAT(without, !Catch::Contains("CUDA graphs"));
}

}  // namespace engram::engine
