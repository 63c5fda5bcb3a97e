// How many kernels a decode step is made of: the budget of the CUDA backend.
#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "tests/support/checkpoints.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"

namespace engram::engine {
namespace {

// Of a layer: norm, q-k-v, rotation and append, attention, output, add and norm, gate-up, SwiGLU,
// down.
constexpr int64_t kDenseLayer = 9;
// Of an Engram layer: key and value, gate (which adds what the layer before left), convolution; and
// on the side stream the reading of the rows.
constexpr int64_t kEngramLayer = 3;
constexpr int64_t kRowsOfLayer = 1;
// Embedding, angles, last norm, logits, and two of sampling.
constexpr int64_t kAroundLayers = 6;

// Launches of one decode step of one sequence: those of a run with a step more less those without.
int64_t launches_of_step(const std::string& fetch) {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.dtype = "bfloat16";
  o.ngram_fetch = fetch;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const auto launches_of = [&](int64_t tokens) {
    const int64_t before = cuda_emulation::launches();
    const auto id = tests::numbered("launches", tokens);
    Request request = tests::greedy_request(id, {3, 1, 4, 1, 5, 9, 2, 6}, tokens);
    request.sampling.ignore_eos = true;
    const tests::RequestResult result = tests::submit(*engine, request)->wait();
    REQUIRE(result.choices[0].ids.size() == static_cast<size_t>(tokens));
    return cuda_emulation::launches() - before;
  };
  launches_of(4);  // the prompt's pages are in the prefix cache from here on
  const int64_t shorter = launches_of(4);
  return launches_of(5) - shorter;
}

}  // namespace

TEST_CASE("a decode step launches what the budget says", "[launches]") {
  const ModelConfig config = load_config(tests::checkpoint_directory("tiny-engram")).value();
  const int64_t layers = config.num_hidden_layers;
  const int64_t engrams = static_cast<int64_t>(config.engram.layer_ids.size());
  const int64_t without = launches_of_step("skip");
  const int64_t with = launches_of_step("prefetch");
  std::printf(
      "a decode step: %lld launches, %lld of them for %lld Engram layers of %lld\n",
      static_cast<long long>(with), static_cast<long long>(with - without),
      static_cast<long long>(engrams), static_cast<long long>(layers));
  CHECK(without == layers * kDenseLayer + kAroundLayers);
  CHECK(with - without == engrams * (kEngramLayer + kRowsOfLayer));
}

}  // namespace engram::engine
