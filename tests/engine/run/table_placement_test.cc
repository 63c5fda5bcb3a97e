// Where a table lives changes no output bit: the engine's answers are those of an engine with the
// checkpoint's own tables in host memory, bit for bit.
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
using tests::check_same;
using tests::mixed_requests;
using tests::ModelTables;
using tests::RequestResult;
using tests::run_all;
using tests::same_bits;

constexpr const char* kModels[] = {"tiny-engram", "tiny-engram-fp8"};

}  // namespace

TEST_CASE("placement: table files of either layout answer like the checkpoint", "[placement]") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const std::string model = tests::checkpoint_directory(name);
    const std::vector<Request> requests = mixed_requests(31, 8);
    EngineOptions o = tests::small_engine(model);
    const std::vector<RequestResult> expected = run_all(o, requests);
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      CAPTURE(memory::row_layout_name(layout));
      const tests::TempDirectory directory;
      tests::write_model_tables(model, directory.path(), {.layout = layout});
      o.tables.directory = directory.path();
      o.tables.start_early = true;
      check_same(run_all(o, requests), expected);
      o.tables.start_early = false;
      const std::unique_ptr<Engine> engine = tests::start_engine(o);
      check_same(run_all(*engine, requests), expected);
      const std::vector<memory::TableReport> reports = engine->tables();
      REQUIRE(reports.size() == 2);
      for (const memory::TableReport& report : reports) {
        CHECK(report.version.size() == 16);
        CHECK(report.stats.rows_read > 0);
        CHECK_THAT(report.source, Catch::StartsWith(directory.path()));
      }
    }
    // The rows do matter: another table gives other answers.
    const tests::TempDirectory directory;
    tests::write_model_tables(model, directory.path(), {.rotate = 1});
    o.tables.directory = directory.path();
    const std::vector<RequestResult> other = run_all(o, requests);
    CHECK_FALSE(same_bits(other[0].choices[0].logprobs, expected[0].choices[0].logprobs));
  }
}

TEST_CASE("placement: a model refuses the tables of another", "[placement]") {
  const tests::TempDirectory directory;
  tests::write_model_tables(tests::checkpoint_directory("tiny-engram"), directory.path(), {});
  EngineOptions o = tests::small_engine(tests::demo_directory());
  o.tables.directory = directory.path();
  const memory::Status status = make_engine(o).status();
  CHECK(status.code() == memory::Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("layer-1.engram-table: "));
}

}  // namespace engram::engine
