// What must not change an output on a GPU: chunking, company, page size, how rows are fetched,
// whether steps are recorded. Its
// kernels choose by the number of tokens, so log-probabilities agree within rounding, not in bits;
// the greedy ids of these models have leads far above that.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"

namespace engram::engine {
namespace {

using tests::RequestResult;

constexpr float kLargestDifference = 2e-4f;

// Greedy requests whose prompts are longer than a chunk and shorter than one.
std::vector<Request> greedy_requests(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Request> requests;
  for (const size_t prompt : {size_t{1}, size_t{9}, size_t{23}, size_t{40}}) {
    Request r = tests::greedy_request(
        tests::numbered("g", std::ssize(requests)), tests::random_ids(random, prompt), 6);
    r.sampling.logprobs = 2;
    requests.push_back(std::move(r));
  }
  return requests;
}

void check_near(const std::vector<RequestResult>& got, const std::vector<RequestResult>& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i, got[i].status.to_string());
    const tests::ChoiceResult& a = got[i].choices[0];
    const tests::ChoiceResult& b = expected[i].choices[0];
    REQUIRE(a.ids == b.ids);
    REQUIRE(a.logprobs.size() == b.logprobs.size());
    for (size_t t = 0; t < a.logprobs.size(); ++t) {
      CHECK(std::abs(a.logprobs[t].logprob - b.logprobs[t].logprob) < kLargestDifference);
    }
  }
}

TEST_CASE("invariant on CUDA: chunks, company, pages and fetching change no id", "[invariant]") {
  constexpr uint64_t kSeed = 11;
  CAPTURE(kSeed);
  const std::vector<Request> requests = greedy_requests(kSeed);
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.dtype = "float32";
  o.max_num_seqs = 1;
  o.max_num_batched_tokens = 64;
  const std::vector<RequestResult> whole = tests::run_alone(o, requests);
  for (const int64_t chunk : {1, 5, 17}) {
    CAPTURE(chunk);
    o.max_num_batched_tokens = chunk;
    check_near(tests::run_alone(o, requests), whole);
  }
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 24;
  check_near(tests::run_all(o, requests), whole);
  o.block_size = 3;
  check_near(tests::run_all(o, requests), whole);
  o.cuda_graphs = false;
  check_near(tests::run_all(o, requests), whole);
  o.cuda_graphs = true;
  o.ngram_fetch = "sync";
  check_near(tests::run_all(o, requests), whole);
  const std::vector<Request> few(requests.begin(), requests.begin() + 3);
  for (const char* way : {"bulk", "distinct", "host", "auto"}) {
    CAPTURE(way);
    o.ngram_gather = way;
    check_near(tests::run_all(o, few), {whole.begin(), whole.begin() + 3});
    o.ngram_fetch = "prefetch";
  }
  o.ngram_gather = "loads";
  o.kv_cache_dtype = "fp8";
  const std::vector<RequestResult> coarse = tests::run_all(o, requests);
  o.max_num_seqs = 1;
  o.max_num_batched_tokens = 5;
  check_near(tests::run_alone(o, requests), coarse);
  o.kv_cache_dtype = "auto";
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 24;
  // The module does matter: without it the model is another one.
  o.ngram_fetch = "skip";
  CHECK(tests::run_all(o, requests)[3].choices[0].ids != whole[3].choices[0].ids);
}

TEST_CASE("invariant on CUDA: chunks and company change no id with fp8 weights", "[invariant]") {
  constexpr uint64_t kSeed = 12;
  CAPTURE(kSeed);
  const std::vector<Request> requests = greedy_requests(kSeed);
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.dtype = "float32";
  o.quantization = "fp8";
  o.max_num_seqs = 1;
  o.max_num_batched_tokens = 64;
  const std::vector<RequestResult> whole = tests::run_alone(o, requests);
  o.max_num_batched_tokens = 5;
  check_near(tests::run_alone(o, requests), whole);
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 24;
  check_near(tests::run_all(o, requests), whole);
}

}  // namespace
}  // namespace engram::engine
