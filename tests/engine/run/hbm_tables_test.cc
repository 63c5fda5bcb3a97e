// Tables in the device's memory, whole or in part: the same answers as from host memory, bit for
// bit, and what cannot be is refused before anything is served.
#include <catch2/catch.hpp>
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

using memory::RowLayout;
using tests::RequestResult;

std::vector<Request> few_requests() {
  std::mt19937_64 random(41);
  std::vector<Request> requests;
  for (const size_t prompt : {size_t{1}, size_t{7}, size_t{30}}) {
    Request r = tests::greedy_request(
        tests::numbered("h", std::ssize(requests)), tests::random_ids(random, prompt), 4);
    r.sampling.logprobs = 2;
    requests.push_back(std::move(r));
  }
  return requests;
}

int64_t rows_read(Engine& engine) {
  int64_t rows = 0;
  for (const memory::TableReport& report : engine.tables()) rows += report.stats.rows_read;
  return rows;
}

TEST_CASE("hbm: tables in the device's memory answer like those in host memory", "[placement]") {
  const std::vector<Request> requests = few_requests();
  const std::pair<const char*, RowLayout> cases[] = {
      {"tiny-engram", RowLayout::kSplit}, {"tiny-engram-fp8", RowLayout::kInterleaved}};
  for (const auto& [name, layout] : cases) {
    const std::string model = tests::checkpoint_directory(name);
    EngineOptions o = tests::small_engine(model);
    o.verify_rows = 1000000;
    const std::vector<RequestResult> expected = tests::run_alone(o, requests);
    // The checkpoint's own tensors.
    o.tables.placement = "hbm";
    tests::check_same(tests::run_alone(o, requests), expected);
    const tests::TempDirectory directory;
    tests::write_model_tables(model, directory.path(), {.layout = layout, .extent_bytes = 16384});
    o.tables.directory = directory.path();
    for (const char* placement : {"hbm", "hbm:400KiB,host", "hbm:120KiB,host", "host"}) {
      CAPTURE(name, memory::row_layout_name(layout), placement);
      o.tables.placement = placement;
      o.ngram_gather = std::string(placement) == "hbm" ? "auto" : "host";
      const std::unique_ptr<Engine> engine = tests::start_engine(o);
      tests::check_same(tests::run_in_turn(*engine, requests), expected);
      CHECK(rows_read(*engine) > 0);
      CHECK(engine->stats().rows_verified > 0);
      CHECK(engine->stats().rows_wrong == 0);
      CHECK(engine->tables().back().tiers.size() >= 1);
      CHECK(engine->tables()[0].loaded_bytes == engine->tables()[0].load_bytes);
      CHECK_FALSE(engine->tables()[0].gather.empty());
      if (std::string(placement) == "host") {
        CHECK(engine->tables()[0].gather == "host");
        continue;
      }
      // Its memory is given out before the engine serves.
      const memory::Result<TableSwap> swap = engine->swap_tables(o.tables);
      REQUIRE_FALSE(swap.ok());
      CHECK(swap.status().code() == memory::Code::kFailedPrecondition);
      CHECK_THAT(swap.status().message(), Catch::Contains("not while it serves"));
    }
  }
}

TEST_CASE("hbm: a table is not cut where its rows would have two readers", "[placement]") {
  const std::string model = tests::checkpoint_directory("tiny-engram");
  EngineOptions o = tests::small_engine(model);
  o.tables.placement = "hbm:120KiB,host";
  CHECK_THAT(make_engine(o).status().message(), Catch::Contains("in no table file"));
  const tests::TempDirectory directory;
  tests::write_model_tables(model, directory.path(), {.extent_bytes = 16384});
  o.tables.directory = directory.path();
  o.tables.placement = "hbm:120KiB,nvme";
  CHECK_THAT(make_engine(o).status().message(), Catch::Contains("cut between hbm"));
}

}  // namespace
}  // namespace engram::engine
