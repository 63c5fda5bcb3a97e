// Recorded decode steps that hash and gather their n-gram rows themselves: the same answers and the
// same counts as with rows gathered by the side stream, wherever the tables lie and whatever
// becomes of them.
#include "engine/sched/step_rows.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/model_tables.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using tests::RequestResult;

// Each alone in the engine: one has three sequences.
std::vector<Request> requests() {
  std::mt19937_64 random(51);
  std::vector<Request> made;
  for (const size_t prompt : {size_t{1}, size_t{9}, size_t{20}}) {
    Request r = tests::greedy_request(
        tests::numbered("s", std::ssize(made)), tests::random_ids(random, prompt), 4);
    r.sampling.n = prompt == 9 ? 3 : 1;
    r.sampling.temperature = 1.f;
    r.sampling.seed = 7;
    r.sampling.logprobs = 2;
    made.push_back(std::move(r));
  }
  return made;
}

// Small tables in files, to be read from host memory or elsewhere.
struct Files {
  explicit Files(const std::string& name, int64_t rotate = 0)
      : model(tests::checkpoint_directory(name)) {
    tests::write_model_tables(model, directory.path(), {.extent_bytes = 16384, .rotate = rotate});
  }
  EngineOptions options() const {
    EngineOptions o = tests::small_engine(model);
    o.dtype = "bfloat16";
    o.async_scheduling = false;  // no work in vain
    o.tables.directory = directory.path();
    return o;
  }

  std::string model;
  tests::TempDirectory directory;
};

int64_t rows_read(Engine& engine) {
  int64_t rows = 0;
  for (const memory::TableReport& report : engine.tables()) rows += report.stats.rows_read;
  return rows;
}

void check_same_counts(Engine& got, Engine& expected) {
  const EngineStats mine = got.stats();
  const EngineStats other = expected.stats();
  REQUIRE(mine.layers.size() == other.layers.size());
  for (size_t i = 0; i < mine.layers.size(); ++i) {
    CAPTURE(i);
    CHECK(mine.layers[i].rows == other.layers[i].rows);
    CHECK(mine.layers[i].bytes == other.layers[i].bytes);
    CHECK(mine.layers[i].failed_tokens == 0);
  }
  CHECK(mine.hash_ns > 0);
  CHECK(mine.graph_steps == other.graph_steps);
  CHECK(rows_read(got) == rows_read(expected));
}

void check_same_usage(
    const std::vector<RequestResult>& got, const std::vector<RequestResult>& expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    const NgramUsage& mine = got[i].usage.ngram;
    const NgramUsage& other = expected[i].usage.ngram;
    CHECK(mine.rows == other.rows);
    CHECK(mine.unique_rows == other.unique_rows);
    CHECK(mine.bytes == other.bytes);
    CHECK(mine.hash_seconds > 0);
  }
}

}  // namespace

TEST_CASE("step rows: the answers are those of rows from the side stream", "[step_rows]") {
  for (const auto& [name, placement, gather] :
       std::vector<std::tuple<const char*, const char*, const char*>>{
           {"tiny-engram", "host", "loads"},
           {"tiny-engram", "host", "bulk"},
           {"tiny-engram-fp8", "hbm", "distinct"},
           {"tiny-engram", "hbm:120KiB,host", "bulk"}}) {
    CAPTURE(name, placement, gather);
    const Files files(name);
    EngineOptions o = files.options();
    o.tables.placement = placement;
    o.ngram_gather = gather;
    o.ngram_in_graph = false;
    const std::unique_ptr<Engine> beside = tests::start_engine(o);
    const std::vector<RequestResult> expected = tests::run_in_turn(*beside, requests());
    o.ngram_in_graph = true;
    const std::unique_ptr<Engine> within = tests::start_engine(o);
    const std::vector<RequestResult> got = tests::run_in_turn(*within, requests());
    tests::check_same(got, expected);
    check_same_usage(got, expected);
    check_same_counts(*within, *beside);
    CHECK(beside->stats().self_fed_steps == 0);
    CHECK(within->stats().self_fed_steps == within->stats().graph_steps);
    CHECK(within->stats().self_fed_steps >= 9);
    tests::check_idle(*within);
  }
}

TEST_CASE("step rows: they and waits for them are timed where that is asked for", "[step_rows]") {
  const Files files("tiny-engram");
  const auto run = [](const EngineOptions& o, EngineStats* stats) {
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    std::vector<RequestResult> results = tests::run_in_turn(*engine, requests());
    *stats = engine->stats();
    return results;
  };
  EngineStats stats;
  EngineOptions o = files.options();
  const std::vector<RequestResult> expected = run(o, &stats);
  CHECK_FALSE(expected[0].usage.ngram.exposed_wait_seconds.has_value());
  CHECK_FALSE(expected[0].usage.ngram.gather_seconds.has_value());
  CHECK_FALSE(stats.recent_step_seconds.empty());
  CHECK(stats.recent_exposed_wait_seconds.empty());
  for (const EngineStats::Layer& layer : stats.layers) {
    CHECK_FALSE(layer.exposed_wait_ns.has_value());
    CHECK_FALSE(layer.gather_ns.has_value());
  }
  o.time_ngram_waits = true;
  for (const bool graphs : {true, false}) {
    for (const bool within : {true, false}) {
      CAPTURE(graphs, within);
      o.cuda_graphs = graphs;
      o.ngram_in_graph = within;
      const std::vector<RequestResult> got = run(o, &stats);
      tests::check_same(got, expected);
      CHECK(got[0].usage.ngram.exposed_wait_seconds.has_value());
      CHECK((stats.self_fed_steps > 0) == (graphs && within));
      CHECK(stats.recent_step_seconds.size() == stats.recent_exposed_wait_seconds.size());
      double layers_ns = 0;
      for (const EngineStats::Layer& layer : stats.layers) {
        layers_ns += static_cast<double>(layer.exposed_wait_ns.value());
        CHECK(layer.gather_ns.value() > 0);
      }
      double steps_s = 0;
      for (const double s : stats.recent_exposed_wait_seconds) steps_s += s;
      CHECK(layers_ns > 0);
      CHECK(steps_s == Approx(layers_ns * 1e-9));
    }
  }
  // Rows that the GPU gathers within the step hold it up.
  o.ngram_fetch = "sync";
  tests::check_same(run(o, &stats), expected);
  CHECK(stats.recent_exposed_wait_seconds.size() == stats.recent_step_seconds.size());
  for (const EngineStats::Layer& layer : stats.layers) {
    CHECK(layer.gather_ns.value() > 0);
    CHECK(layer.exposed_wait_ns.value() >= layer.gather_ns.value());
  }
}

TEST_CASE("step rows: after a swap they are read from the new tables", "[step_rows]") {
  const Files files("tiny-engram");
  const Files others("tiny-engram", 1);
  const std::vector<RequestResult> with_others = tests::run_alone(others.options(), requests());
  const std::unique_ptr<Engine> engine = tests::start_engine(files.options());
  const std::vector<RequestResult> before = tests::run_in_turn(*engine, requests());
  CHECK_FALSE(tests::same_bits(before[2].choices[0].logprobs, with_others[2].choices[0].logprobs));
  REQUIRE(engine->swap_tables(others.options().tables).ok());
  const int64_t steps = engine->stats().self_fed_steps;
  tests::check_same(tests::run_in_turn(*engine, requests()), with_others);
  CHECK(engine->stats().self_fed_steps == 2 * steps);
  CHECK(engine->stats().graph_steps == engine->stats().self_fed_steps);
  REQUIRE(engine->swap_tables(files.options().tables).ok());
  tests::check_same(tests::run_in_turn(*engine, requests()), before);
}

TEST_CASE("step rows: not where the host has a part in the rows", "[step_rows]") {
  const Files files("tiny-engram");
  const std::vector<RequestResult> expected = tests::run_alone(files.options(), requests());
  const auto check_beside = [&](const EngineOptions& o) {
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    tests::check_same(tests::run_in_turn(*engine, requests()), expected);
    CHECK(engine->stats().self_fed_steps == 0);
    return engine->stats();
  };
  EngineOptions o = files.options();
  o.ngram_gather = "host";
  check_beside(o);
  o = files.options();
  o.ngram_fetch = "sync";
  check_beside(o);
  o = files.options();
  o.tables.placement = "nvme";
  check_beside(o);
  o = files.options();
  o.verify_rows = 1000000;
  const EngineStats stats = check_beside(o);
  CHECK(stats.rows_wrong == 0);
}

}  // namespace engram::engine
