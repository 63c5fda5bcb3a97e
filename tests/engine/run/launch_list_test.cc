// How many kernels a decode step is made of: the budget of the CUDA backend.
#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "engine/ops/cuda/launch.cuh"
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
// Of a graph: ids that the step before sampled.
constexpr int64_t kFeed = 1;

struct Launches {
  int64_t kernels = 0;  // of graphs too
  int64_t graphs = 0;
};

Launches launches_so_far() {
  return {cuda_emulation::launches(), cuda_emulation::graph_launches()};
}

// Of one decode step of one sequence: those of a run with a step more less those without.
Launches launches_of_step(const std::string& fetch, bool graphs) {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.dtype = "bfloat16";
  o.ngram_fetch = fetch;
  o.cuda_graphs = graphs;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const auto launches_of = [&](int64_t tokens) {
    const Launches before = launches_so_far();
    const auto id = tests::numbered("launches", tokens);
    Request request = tests::greedy_request(id, {3, 1, 4, 1, 5, 9, 2, 6}, tokens);
    request.sampling.ignore_eos = true;
    const tests::RequestResult result = tests::submit(*engine, request)->wait();
    REQUIRE(result.choices[0].ids.size() == static_cast<size_t>(tokens));
    const Launches after = launches_so_far();
    return Launches{after.kernels - before.kernels, after.graphs - before.graphs};
  };
  launches_of(4);  // the prompt's pages are in the prefix cache from here on
  const Launches shorter = launches_of(4);
  const Launches longer = launches_of(5);
  return {longer.kernels - shorter.kernels, longer.graphs - shorter.graphs};
}

}  // namespace

TEST_CASE("a decode step launches what the budget says", "[launches]") {
  const ModelConfig config = load_config(tests::checkpoint_directory("tiny-engram")).value();
  const int64_t layers = config.num_hidden_layers;
  const int64_t engrams = static_cast<int64_t>(config.engram.layer_ids.size());
  for (const bool graphs : {false, true}) {
    CAPTURE(graphs);
    const Launches without = launches_of_step("skip", graphs);
    const Launches with = launches_of_step("prefetch", graphs);
    std::printf(
        "a decode step%s: %lld launches, %lld of them for %lld Engram layers of %lld\n",
        graphs ? " in a graph" : "", static_cast<long long>(with.kernels),
        static_cast<long long>(with.kernels - without.kernels), static_cast<long long>(engrams),
        static_cast<long long>(layers));
    CHECK(without.kernels == layers * kDenseLayer + kAroundLayers + (graphs ? kFeed : 0));
    CHECK(with.kernels - without.kernels == engrams * (kEngramLayer + kRowsOfLayer));
    CHECK(with.graphs == (graphs ? 1 : 0));
  }
}

TEST_CASE("kernels start early unless they are told not to", "[launches]") {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-dense"));
  for (const bool early : {true, false, true}) {
    o.pdl = early;
    tests::start_engine(o);
    CHECK(cuda::started_early() == early);
  }
}

}  // namespace engram::engine
