// Tables that change while requests run: nobody is dropped, who ran on one side of the swap got
// exactly what an engine with that table alone gives, and no cached prefix crosses it.
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/model_tables.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Code;
using memory::Result;
using tests::check_idle;
using tests::check_same;
using tests::CollectingSink;
using tests::mixed_requests;
using tests::RequestResult;
using tests::run_alone;
using tests::same_bits;

const std::string kModel = tests::checkpoint_directory("tiny-engram");

// liburing maps its rings by system calls that ThreadSanitizer does not see: a ring at the address
// of an earlier one, used by another thread, looks like a race. Hence threads that read.
constexpr memory::IoBackend kIo = memory::IoBackend::kThreads;

// Two versions of the model's tables on disk.
struct TwoTables {
  TwoTables() {
    for (const std::string& path : {a, b}) std::filesystem::create_directory(path);
    tests::write_model_tables(kModel, a, {});
    tests::write_model_tables(kModel, b, {.layout = memory::RowLayout::kInterleaved, .rotate = 1});
  }
  EngineOptions options(const std::string& path) const {
    EngineOptions o = tests::small_engine(kModel);
    o.tables.directory = path;
    o.tables.io = kIo;
    return o;
  }

  tests::TempDirectory directory;
  std::string a = directory.file("a");
  std::string b = directory.file("b");
};

std::string swap(Engine& engine, const std::string& path) {
  memory::TableSetOptions options;
  options.directory = path;
  options.io = kIo;
  const Result<TableSwap> swapped = engine.swap_tables(options);
  CAPTURE(swapped.status().to_string());
  REQUIRE(swapped.ok());
  CHECK(swapped.value().old_version != swapped.value().new_version);
  return swapped.value().new_version;
}

}  // namespace

TEST_CASE("swap: requests on either side get what one table alone gives", "[swap]") {
  const TwoTables tables;
  const std::vector<Request> requests = mixed_requests(41, 10);
  const std::vector<RequestResult> with_a = run_alone(tables.options(tables.a), requests);
  const std::vector<RequestResult> with_b = run_alone(tables.options(tables.b), requests);
  CHECK_FALSE(same_bits(with_a[0].choices[0].logprobs, with_b[0].choices[0].logprobs));
  for (const char* fetch : {"prefetch", "sync"}) {
    CAPTURE(fetch);
    EngineOptions o = tables.options(tables.a);
    o.ngram_fetch = fetch;
    o.max_num_seqs = 4;
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    const std::string version_a = engine->tables()[0].version + "+" + engine->tables()[1].version;
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (const Request& r : requests) sinks.push_back(tests::submit(*engine, r));
    sinks[2]->wait();
    const std::string version_b = swap(*engine, tables.b);
    CHECK(version_b == engine->tables()[0].version + "+" + engine->tables()[1].version);
    const RequestResult after = tests::submit(
                                    *engine,
                                    [&] {
                                      Request r = requests[1];
                                      r.id = std::string("after");
                                      return r;
                                    }())
                                    ->wait();
    check_same({after}, {with_b[1]});
    CHECK(after.usage.table_versions == std::vector<std::string>{version_b});
    for (size_t i = 0; i < sinks.size(); ++i) {
      CAPTURE(i);
      const RequestResult result = sinks[i]->wait();
      const std::vector<std::string>& versions = result.usage.table_versions;
      REQUIRE(result.status.ok());
      if (versions == std::vector<std::string>{version_a}) {
        check_same({result}, {with_a[i]});
      } else if (versions == std::vector<std::string>{version_b}) {
        check_same({result}, {with_b[i]});
      } else {
        CHECK(versions == std::vector<std::string>{version_a, version_b});
        CHECK(
            static_cast<int64_t>(result.choices[0].ids.size()) == requests[i].sampling.max_tokens);
      }
    }
    CHECK(engine->stats().table_swaps == 1);
    check_idle(*engine);
  }
}

TEST_CASE("swap: no cached prefix crosses it, and it is there again after the way back", "[swap]") {
  const TwoTables tables;
  const std::unique_ptr<Engine> engine = tests::start_engine(tables.options(tables.a));
  const Request request = tests::greedy_request("a", std::vector<int32_t>(70, 7), 4);
  const auto cached = [&] { return tests::submit(*engine, request)->wait().usage.cached_tokens; };
  CHECK(cached() == 0);
  CHECK(cached() == 64);
  swap(*engine, tables.b);
  CHECK(cached() == 0);
  CHECK(cached() == 64);
  swap(*engine, tables.a);
  CHECK(cached() == 64);
}

TEST_CASE("swap: a sequence in flight goes on, and leaves nothing mixed behind", "[swap]") {
  const TwoTables tables;
  const Request request = tests::greedy_request("a", std::vector<int32_t>(40, 7), 200);
  const std::unique_ptr<Engine> engine = tests::start_engine(tables.options(tables.a));
  const auto sink = tests::submit(*engine, request);
  sink->wait_for_deltas(20);
  swap(*engine, tables.b);
  const RequestResult mixed = sink->wait();
  REQUIRE(mixed.status.ok());
  CHECK(mixed.choices[0].ids.size() == 200);
  // It may have ended before the swap came; then there is nothing mixed to look for.
  if (mixed.usage.table_versions.size() == 2) {
    Request again = tests::greedy_request("b", request.prompt_ids, 1);
    const std::vector<int32_t>& ids = mixed.choices[0].ids;
    again.prompt_ids.insert(again.prompt_ids.end(), ids.begin(), ids.end() - 1);
    again.sampling.logprobs = 3;
    const RequestResult expected = run_alone(tables.options(tables.b), {again})[0];
    const RequestResult got = tests::submit(*engine, again)->wait();
    CHECK(got.usage.cached_tokens == 0);
    check_same({got}, {expected});
  }
}

TEST_CASE("swap: what cannot be swapped to leaves the old tables serving", "[swap]") {
  const TwoTables tables;
  const std::unique_ptr<Engine> engine = tests::start_engine(tables.options(tables.a));
  const std::vector<Request> requests = mixed_requests(42, 2);
  const std::vector<RequestResult> before = tests::run_all(*engine, requests);
  memory::TableSetOptions options;
  options.directory = tables.directory.file("none");
  CHECK(engine->swap_tables(options).status().code() == Code::kNotFound);
  options.directory = tables.directory.file("other");
  std::filesystem::create_directory(options.directory);
  tests::write_model_tables(tests::checkpoint_directory("tiny-engram-fp8"), options.directory, {});
  const memory::Status other = engine->swap_tables(options).status();
  CHECK(other.code() == Code::kInvalidArgument);
  CHECK_THAT(other.message(), Catch::Contains("the model's is"));
  check_same(tests::run_all(*engine, requests), before);
  CHECK(engine->stats().table_swaps == 0);

  const std::unique_ptr<Engine> dense =
      tests::start_engine(tests::small_engine(tests::checkpoint_directory("tiny-dense")));
  CHECK(dense->swap_tables(options).status().code() == Code::kFailedPrecondition);
}

TEST_CASE("swap: back and forth under load, by two at a time", "[swap]") {
  const TwoTables tables;
  EngineOptions o = tables.options(tables.a);
  o.max_queued_requests = 100;
  o.kv_cache_bytes = 40 * 16 * 2048;  // preemption, too
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const std::vector<Request> requests = mixed_requests(43, 40);
  std::atomic<bool> over = false;
  std::atomic<int> swaps = 0;
  std::atomic<int> strange = 0;
  std::vector<std::thread> swappers;
  for (int t = 0; t < 2; ++t) {
    swappers.emplace_back([&, t] {
      for (int i = t; !over; ++i) {
        memory::TableSetOptions options;
        options.directory = i % 2 == 0 ? tables.b : tables.a;
        options.io = kIo;
        options.start_early = t == 1;
        const Result<TableSwap> swapped = engine->swap_tables(options);
        if (swapped.ok()) ++swaps;
        if (!swapped.ok() && swapped.status().code() != Code::kUnavailable) ++strange;
        for (const memory::TableReport& report : engine->tables()) {
          if (report.version.size() != 16) ++strange;
        }
      }
    });
  }
  for (int round = 0; round < 3 || swaps < 2; ++round) {  // a slow machine may swap once a round
    for (const RequestResult& result : tests::run_all(*engine, requests)) {
      CHECK(result.status.ok());
      CHECK_FALSE(result.usage.table_versions.empty());
    }
  }
  over = true;
  for (std::thread& thread : swappers) thread.join();
  CHECK(strange == 0);
  CHECK(swaps > 1);
  CHECK(engine->stats().table_swaps == swaps);
  check_idle(*engine);
}

}  // namespace engram::engine
