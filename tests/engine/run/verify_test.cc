// Verify mode: a table that changes in memory is found by the lookups that read it, who used the
// row is told so, nobody else is, and a swap to the same table heals it.
#include <catch2/catch.hpp>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/hash_constants.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/model_tables.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Code;
using tests::check_idle;
using tests::check_same;
using tests::mixed_requests;
using tests::RequestResult;
using tests::whole_text;

constexpr int64_t kAll = 1000000000;

// Rings of io_uring that follow each other at one address look like races to ThreadSanitizer.
constexpr memory::IoBackend kIo = memory::IoBackend::kThreads;

EngineOptions verifying(const std::string& model) {
  EngineOptions o = tests::small_engine(model);
  o.tables.io = kIo;
  o.verify_rows = kAll;
  return o;
}

// Waits for a check that is on its way; only a hang takes long.
template <typename Condition>
void wait_until(Condition condition) {
  for (int i = 0; i < 60000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  REQUIRE(condition());
}

// Rows of a table that a text reads, the last id left out: it is never computed.
std::set<int64_t> rows_of(const HashOnly& hash, size_t table, std::vector<int32_t> ids) {
  ids.pop_back();
  for (int32_t& id : ids) id = hash.token_map.of(id);
  const memory::TableGeometry& g = hash.geometries[table];
  std::vector<int64_t> rows(ids.size() * static_cast<size_t>(g.columns()));
  hash_rows(g, ids, 0, std::ssize(ids), rows.data());
  return {rows.begin(), rows.end()};
}

}  // namespace

TEST_CASE("verify: live lookups agree with their source, whatever it is", "[verify]") {
  for (const char* name : {"tiny-engram", "tiny-engram-fp8", "tiny-engram-f16"}) {
    const std::string model = tests::checkpoint_directory(name);
    const std::vector<Request> requests = mixed_requests(61, 8);
    const std::vector<RequestResult> expected =
        tests::run_all(tests::small_engine(model), requests);
    const tests::TempDirectory directory;
    tests::write_model_tables(model, directory.path(), {.layout = memory::RowLayout::kInterleaved});
    for (const bool files : {false, true}) {
      for (const char* dtype : {"float32", "bfloat16"}) {
        CAPTURE(name, files, dtype);
        EngineOptions o = verifying(model);
        o.dtype = dtype;
        if (files) o.tables.directory = directory.path();
        if (!files) o.ngram_fetch = std::string("sync");
        const std::unique_ptr<Engine> engine = tests::start_engine(o);
        const std::vector<RequestResult> got = tests::run_all(*engine, requests);
        if (o.dtype == "float32") check_same(got, expected);
        // Published with the next turn of the loop.
        wait_until([&] { return engine->stats().rows_verified > 1000; });
        CHECK(engine->stats().rows_wrong == 0);
        CHECK(engine->stats().rows_unverified == 0);
      }
    }
  }
}

TEST_CASE("verify: a bit that flips in memory is found, and what used it fails", "[verify]") {
  const std::string model = tests::checkpoint_directory("tiny-engram");
  const std::vector<Request> requests = mixed_requests(62, 8);
  const std::vector<RequestResult> expected = tests::run_all(tests::small_engine(model), requests);
  const tests::TempDirectory directory;
  tests::write_model_tables(model, directory.path(), {});
  EngineOptions o = verifying(model);
  o.tables.directory = directory.path();
  std::vector<const memory::HostRowStore*> stores;
  o.wrap_table_for_test = [&](std::unique_ptr<memory::RowStore> store) {
    stores.push_back(static_cast<const memory::HostRowStore*>(store.get()));
    return store;
  };
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const HashOnly hash = load_hash_only(model, engine->tokenizer().size()).value();

  // A row of the second table that the victim reads and some others do not.
  const size_t victim = 0;
  std::map<int64_t, int> readers;
  std::vector<std::set<int64_t>> reads;
  for (size_t i = 0; i < requests.size(); ++i) {
    reads.push_back(rows_of(hash, 1, whole_text(requests[i], expected[i])));
    for (const int64_t row : reads.back()) ++readers[row];
  }
  int64_t row = *reads[victim].begin();
  for (const int64_t candidate : reads[victim]) {
    if (readers[candidate] < readers[row]) row = candidate;
  }
  CAPTURE(row, readers[row]);
  REQUIRE(readers[row] < static_cast<int>(requests.size()));

  check_same(tests::run_all(*engine, requests), expected);
  const memory::RowPlace& place = stores[1]->place();
  uint8_t* bytes = const_cast<uint8_t*>(place.values) + row * place.value_stride;
  bytes[5] ^= 0x20;
  // The first to read it may be through before the check is; nobody is after it.
  tests::submit(*engine, requests[victim])->wait();
  wait_until([&] { return engine->stats().rows_wrong > 0; });
  for (size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    const RequestResult result = tests::submit(*engine, requests[i])->wait();
    if (!reads[i].contains(row)) {
      check_same({result}, {expected[i]});
      continue;
    }
    CHECK(result.status.code() == Code::kDataLoss);
    CHECK_THAT(
        result.status.message(),
        Catch::Contains("layer " + std::to_string(hash.geometries[1].layer)) &&
            Catch::Contains("row " + std::to_string(row)) &&
            Catch::Contains(memory::table_file_path(directory.path(), hash.geometries[1].layer)) &&
            Catch::Contains("offset"));
    const std::vector<int32_t>& ids = result.choices[0].ids;
    CHECK(std::equal(ids.begin(), ids.end(), expected[i].choices[0].ids.begin()));
  }
  check_idle(*engine);

  memory::TableSetOptions same;
  same.directory = directory.path();
  same.io = kIo;
  REQUIRE(engine->swap_tables(same).ok());
  check_same(tests::run_all(*engine, requests), expected);
  CHECK(engine->stats().rows_unverified == 0);
}

TEST_CASE("verify: a rate is a rate", "[verify]") {
  EngineOptions o = tests::small_engine(tests::checkpoint_directory("tiny-engram"));
  o.verify_rows = 1;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  tests::run_all(*engine, mixed_requests(63, 8));
  const EngineStats stats = engine->stats();
  int64_t rows = 0;
  for (const EngineStats::Layer& layer : stats.layers) rows += layer.rows;
  CHECK(rows > 5000);
  CHECK(stats.rows_verified < rows / 10);
  o.verify_rows = -1;
  CHECK_THAT(make_engine(o).status().message(), Catch::Contains("--verify-rows"));
}

}  // namespace engram::engine
