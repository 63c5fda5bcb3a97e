// An engine whose way to fetch rows is changed between requests gives what one gives that was
// started that way, bit for bit, and mixes nothing through its cache.
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/model_tables.h"
#include "tests/support/store_wrapper.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Code;
using tests::check_idle;
using tests::check_same;
using tests::mixed_requests;
using tests::RequestResult;
using tests::run_all;
using tests::same_bits;

const std::string kModel = tests::checkpoint_directory("tiny-engram");

// See table_swap_test.cc.
constexpr memory::IoBackend kIo = memory::IoBackend::kThreads;

}  // namespace

TEST_CASE("fetch switch: as an engine started in that mode, with cached prefixes", "[switch]") {
  constexpr uint64_t kSeed = 51;
  CAPTURE(kSeed);
  const std::vector<Request> requests = mixed_requests(kSeed, 8);
  std::map<std::string, std::vector<RequestResult>> expected;
  for (const char* mode : {"prefetch", "sync", "skip", "zero"}) {
    EngineOptions o = tests::small_engine(kModel);
    o.ngram_fetch = mode;
    expected[mode] = run_all(o, requests);
  }
  const auto logprobs = [&](const char* mode) { return expected[mode][0].choices[0].logprobs; };
  check_same(expected["sync"], expected["prefetch"]);
  CHECK_FALSE(same_bits(logprobs("skip"), logprobs("prefetch")));
  CHECK_FALSE(same_bits(logprobs("zero"), logprobs("prefetch")));

  const std::unique_ptr<Engine> engine = tests::start_engine(tests::small_engine(kModel));
  for (const char* mode :
       {"skip", "prefetch", "zero", "sync", "prefetch", "skip", "zero", "zero", "prefetch"}) {
    CAPTURE(mode);
    REQUIRE(engine->set_ngram_fetch(mode).ok());
    check_same(run_all(*engine, requests), expected[mode]);
    check_idle(*engine);
  }
}

TEST_CASE("fetch switch: zero is a table of zeros", "[switch]") {
  // An all-zero table file is out of reach, but rows of zeros are what a store can hand out.
  class ZeroStore : public tests::StoreWrapper {
    using StoreWrapper::StoreWrapper;

   private:
    memory::Status do_gather(
        const int64_t*,
        const int32_t* slots,
        int64_t tokens,
        memory::View out,
        std::vector<int32_t>*) override {
      const int64_t bytes = out.cols * memory::dtype_bytes(out.dtype);
      for (int64_t t = 0; t < tokens; ++t) {
        std::fill_n(out.as<uint8_t>() + slots[t] * bytes, bytes, uint8_t{0});
      }
      return {};
    }
  };
  constexpr uint64_t kSeed = 52;
  CAPTURE(kSeed);
  const std::vector<Request> requests = mixed_requests(kSeed, 6);
  for (const char* dtype : {"float32", "bfloat16"}) {
    CAPTURE(dtype);
    EngineOptions o = tests::small_engine(kModel);
    o.dtype = dtype;
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    run_all(*engine, requests);  // staging holds other rows
    REQUIRE(engine->set_ngram_fetch("zero").ok());
    const std::vector<RequestResult> got = run_all(*engine, requests);
    o.wrap_table_for_test = [](std::unique_ptr<memory::RowStore> store) {
      return std::unique_ptr<memory::RowStore>(std::make_unique<ZeroStore>(std::move(store)));
    };
    check_same(got, run_all(o, requests));
    CHECK(got[0].usage.ngram.rows == 0);
    CHECK(got[0].usage.ngram.mean_gate.size() == 2);
  }
}

TEST_CASE("fetch switch: what cannot be done is refused and changes nothing", "[switch]") {
  const std::unique_ptr<Engine> engine = tests::start_engine(tests::small_engine(kModel));
  const memory::Status unknown = engine->set_ngram_fetch("never");
  CHECK(unknown.code() == Code::kInvalidArgument);
  CHECK_THAT(unknown.message(), Catch::Contains("prefetch, sync, skip, zero, got never"));
  const Request request = tests::greedy_request("a", std::vector<int32_t>(40, 7), 200);
  const auto sink = tests::submit(*engine, request);
  const memory::Status busy = engine->set_ngram_fetch("skip");
  // On a slow machine the request may have ended before.
  if (busy.ok()) {
    CHECK(sink->done());
  } else {
    CHECK(busy.code() == Code::kFailedPrecondition);
    const RequestResult result = sink->wait();
    check_same({result}, run_all(tests::small_engine(kModel), {request}));
  }
  sink->wait();
  CHECK(engine->set_ngram_fetch("zero").ok());  // the request is gone once its sink knows
  CHECK(engine->exchange_tables(0).status().code() == Code::kFailedPrecondition);

  EngineOptions skipping = tests::small_engine(kModel);
  skipping.ngram_fetch = std::string("skip");
  CHECK(tests::start_engine(skipping)->set_ngram_fetch("sync").code() == Code::kFailedPrecondition);
  const std::unique_ptr<Engine> dense =
      tests::start_engine(tests::small_engine(tests::checkpoint_directory("tiny-dense")));
  CHECK(dense->set_ngram_fetch("skip").code() == Code::kFailedPrecondition);
  CHECK(dense->open_idle_tables({}).status().code() == Code::kFailedPrecondition);
  CHECK(dense->touch_tables().status().code() == Code::kFailedPrecondition);
  const std::unique_ptr<Engine> fake = make_fake_engine({}).value();
  CHECK(fake->set_ngram_fetch("skip").code() == Code::kFailedPrecondition);
}

TEST_CASE("fetch switch: idle tables on NVMe take turns with those in memory", "[switch]") {
  constexpr uint64_t kSeed = 53;
  CAPTURE(kSeed);
  const tests::TempDirectory directory;
  tests::write_model_tables(kModel, directory.path(), {});
  const std::vector<Request> requests = mixed_requests(kSeed, 6);
  const std::unique_ptr<Engine> engine = tests::start_engine(tests::small_engine(kModel));
  const std::vector<RequestResult> expected = run_all(*engine, requests);
  memory::TableSetOptions idle;
  idle.directory = directory.file("none");
  CHECK(engine->open_idle_tables(idle).status().code() == Code::kNotFound);
  idle.directory = directory.path();
  idle.placement = "nvme";
  idle.io = kIo;
  REQUIRE(engine->open_idle_tables(idle).ok());
  idle.placement.clear();
  CHECK(engine->open_idle_tables(idle).value() == 1);
  CHECK(engine->exchange_tables(2).status().code() == Code::kFailedPrecondition);
  for (int turn = 0; turn < 4; ++turn) {
    CAPTURE(turn);
    if (turn == 2) {  // the other ones, and back
      REQUIRE(engine->exchange_tables(1).ok());
      check_same(run_all(*engine, requests), expected);
      REQUIRE(engine->exchange_tables(1).ok());
    }
    REQUIRE(engine->exchange_tables(0).ok());
    const std::string placement = engine->tables()[0].placement;
    CHECK(
        (placement.find("NVMe") != std::string::npos ||
         placement.find("nvme") != std::string::npos) == (turn % 2 == 0));
    check_same(run_all(*engine, requests), expected);
  }
  check_idle(*engine);
}

TEST_CASE("fetch switch: tables are touched wherever they lie in memory", "[switch]") {
  const tests::TempDirectory directory;
  tests::write_model_tables(kModel, directory.path(), {});
  const std::unique_ptr<Engine> engine = tests::start_engine(tests::small_engine(kModel));
  const auto pages = [&] {
    const memory::Result<TableTouch> touch = engine->touch_tables();
    REQUIRE(touch.ok());
    CHECK(touch.value().seconds > 0);
    return touch.value().pages;
  };
  int64_t bytes = 0;
  for (const memory::TableReport& table : engine->tables()) bytes += table.bytes;
  const int64_t own = pages();
  CHECK(own >= bytes / 4096);
  CHECK(own <= bytes / 4096 + 4);
  memory::TableSetOptions idle;
  idle.directory = directory.path();
  idle.placement = "nvme";
  idle.io = kIo;
  REQUIRE(engine->open_idle_tables(idle).ok());
  CHECK(pages() == own);
  idle.placement.clear();
  REQUIRE(engine->open_idle_tables(idle).ok());
  CHECK(pages() == 2 * own);
  REQUIRE(engine->exchange_tables(0).ok());
  CHECK(pages() == 2 * own);
}

TEST_CASE("fetch switch: changed, exchanged and asked by several threads", "[switch]") {
  constexpr uint64_t kSeed = 54;
  CAPTURE(kSeed);
  const tests::TempDirectory directory;
  tests::write_model_tables(kModel, directory.path(), {});
  EngineOptions o = tests::small_engine(kModel);
  o.max_queued_requests = 100;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  memory::TableSetOptions idle;
  idle.directory = directory.path();
  idle.io = kIo;
  REQUIRE(engine->open_idle_tables(idle).ok());
  std::atomic<bool> over = false;
  std::atomic<int> strange = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; !over; ++i) {
        const Code code = engine->set_ngram_fetch(i % 2 == 0 ? "skip" : "prefetch").code();
        if (code != Code::kOk && code != Code::kFailedPrecondition) ++strange;
        const Code exchange = engine->exchange_tables(0).status().code();
        if (exchange != Code::kOk && exchange != Code::kUnavailable) ++strange;
      }
    });
  }
  const std::vector<Request> requests = mixed_requests(kSeed, 20);
  for (int round = 0; round < 5; ++round) {
    for (const RequestResult& result : run_all(*engine, requests)) CHECK(result.status.ok());
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(strange == 0);
  check_idle(*engine);
}

}  // namespace engram::engine
