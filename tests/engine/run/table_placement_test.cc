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
#include "tests/support/table_daemon.h"
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

TEST_CASE(
    "placement: NVMe, split, half loaded and swapped answer like host memory", "[placement]") {
  for (const char* name : kModels) {
    const std::string model = tests::checkpoint_directory(name);
    const std::vector<Request> requests = mixed_requests(32, 8);
    EngineOptions o = tests::small_engine(model);
    const std::vector<RequestResult> expected = run_all(o, requests);
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      const tests::TempDirectory directory;
      tests::write_model_tables(model, directory.path(), {.layout = layout, .extent_bytes = 16384});
      o.tables.directory = directory.path();
      for (const char* placement : {"host", "nvme", "host:120KiB,nvme", "host:400KiB,nvme"}) {
        for (const int64_t cache_bytes : {0, 1 << 16}) {
          CAPTURE(name, memory::row_layout_name(layout), placement, cache_bytes);
          o.tables.placement = placement;
          o.tables.cache_bytes = cache_bytes;
          const std::unique_ptr<Engine> engine = tests::start_engine(o);
          check_same(run_all(*engine, requests), expected);
          int64_t rows = 0;
          for (const memory::TableReport& report : engine->tables()) {
            int64_t placed = 0;
            for (const memory::TableReport::Tier& tier : report.tiers) placed += tier.rows;
            CHECK(placed == report.rows);
            rows += report.stats.rows_read;
            if (placement == std::string("nvme")) CHECK(report.stats.file_reads > 0);
            if (placement == std::string("host")) CHECK(report.stats.file_reads == 0);
          }
          CHECK(rows > 0);
          // From this placement into host memory while it serves.
          memory::TableSetOptions host;
          host.directory = directory.path();
          REQUIRE(engine->swap_tables(host).ok());
          check_same(run_all(*engine, requests), expected);
        }
      }
      o.tables.cache_bytes = 0;
      o.tables.placement.clear();
    }
  }
}

TEST_CASE("placement: tables of a daemon answer like host memory, and outlive it", "[placement]") {
  const std::string model = tests::checkpoint_directory("tiny-engram-fp8");
  const tests::TempDirectory directory;
  tests::write_model_tables(model, directory.path(), {});
  memory::TableDaemonOptions serve;
  serve.tables = {directory.path()};
  serve.socket = directory.file("socket");
  tests::TableDaemon daemon(serve);  // forks: before there are threads
  REQUIRE(daemon.answers());
  const std::vector<Request> requests = mixed_requests(33, 8);
  EngineOptions o = tests::small_engine(model);
  const std::vector<RequestResult> expected = run_all(o, requests);
  o.tables.socket = serve.socket;
  o.verify_rows = 1000000;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  check_same(run_all(*engine, requests), expected);
  for (const memory::TableReport& report : engine->tables()) {
    CHECK(report.shared);
    CHECK_THAT(report.placement, Catch::StartsWith("shared"));
    CHECK_THAT(report.source, Catch::Contains(serve.socket));
  }
  daemon.kill();
  check_same(run_all(*engine, requests), expected);
  CHECK(engine->stats().rows_wrong == 0);
  CHECK(make_engine(o).status().code() == memory::Code::kUnavailable);
  // From a dead daemon's pages to memory of its own.
  memory::TableSetOptions own;
  own.directory = directory.path();
  REQUIRE(engine->swap_tables(own).ok());
  CHECK_FALSE(engine->tables()[0].shared);
  check_same(run_all(*engine, requests), expected);
}

TEST_CASE("placement: what cannot be placed is refused", "[placement]") {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  const auto refused = [&](const char* placement, memory::Code code, const char* text) {
    CAPTURE(placement);
    o.tables.placement = placement;
    const memory::Status status = make_engine(o).status();
    CHECK(status.code() == code);
    CHECK_THAT(status.message(), Catch::Contains(text));
  };
  refused("nvme", memory::Code::kFailedPrecondition, "table file");
  refused("hbm,host", memory::Code::kFailedPrecondition, "no memory of its own");
  refused("tape", memory::Code::kInvalidArgument, "tape");
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
