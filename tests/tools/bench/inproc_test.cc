// Plans served by an engine in this process: what is refused before it starts, what a run counts,
// and what a stop leaves.
#include "tools/bench/inproc.h"

#include <atomic>
#include <catch2/catch.hpp>

#include "engine/model/weights.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_load.h"
#include "tools/bench/inproc_report.h"

namespace engram::tools::bench {
namespace {

using memory::Code;
using memory::Status;

engine::EngineOptions options() {
  return tests::small_engine(tests::checkpoint_directory("tiny-engram"));
}

std::vector<PlannedRequest> plan_of(int requests, int64_t input, int64_t output) {
  std::vector<PlannedRequest> plan(static_cast<size_t>(requests));
  for (PlannedRequest& r : plan) {
    r.prompt_ids.assign(static_cast<size_t>(input), 11);
    r.prompt_tokens = input;
    r.max_tokens = output;
    r.ignore_eos = true;
  }
  return plan;
}

}  // namespace

TEST_CASE("inproc: texts become ids, and every request has to fit") {
  engine::EngineOptions o = options();
  o.model = tests::demo_directory();
  const auto outline = read_outline(o);
  REQUIRE(outline.ok());
  std::vector<PlannedRequest> plan(1);
  plan[0].prompt_text = "The following options are available";
  plan[0].max_tokens = 5;
  plan[0].at_s = 3;
  REQUIRE(prepare_plan(outline.value(), 0, &plan).ok());
  const auto ids = outline.value().tokenizer->encode(plan[0].prompt_text, true);
  CHECK(plan[0].prompt_ids == std::vector<uint32_t>(ids.begin(), ids.end()));
  CHECK(plan[0].prompt_tokens == std::ssize(ids));
  CHECK(plan[0].at_s == 0);
  fit_to_plan(plan, &o);
  CHECK(o.max_queued_requests == 2);
  CHECK(o.max_model_len == 256);  // as it was asked for
  o.max_model_len = 0;
  fit_to_plan(plan, &o);
  CHECK(o.max_model_len == std::ssize(ids) + 5);

  std::vector<PlannedRequest> long_plan = plan_of(2, 100, 50);
  CHECK(prepare_plan(outline.value(), 150, &long_plan).ok());
  const Status status = prepare_plan(outline.value(), 149, &long_plan);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("request 0: 100 tokens in and 50 out"));
  o.load_format = "dummy";  // bytes: no token begins a text
  std::vector<PlannedRequest> empty(1);
  CHECK(prepare_plan(read_outline(o).value(), 0, &empty).code() == Code::kInvalidArgument);
}

TEST_CASE("inproc: memory is asked for before it is taken") {
  engine::EngineOptions o = options();
  o.load_format = "dummy";
  const auto outline = read_outline(o);
  REQUIRE(outline.ok());
  int64_t tables = 0;
  const auto request = engine::dummy_table_request(outline.value().config);
  REQUIRE(request.ok());
  for (const auto& s : request.value().sources) tables += s->image_bytes();
  const int64_t exactly = 2 * outline.value().parameters + tables + o.kv_cache_bytes;
  CHECK(check_memory(o, outline.value(), exactly).ok());
  const Status status = check_memory(o, outline.value(), exactly - 1);
  CHECK(status.code() == Code::kResourceExhausted);
  CHECK_THAT(status.message(), Catch::Contains("n-gram tables") && Catch::Contains("are there"));
  // Rows of half the bytes.
  o.dummy_table_codec = "f8_e4m3";
  const int64_t half = exactly - tables / 2;
  CHECK(check_memory(o, outline.value(), half + 8192).ok());
  CHECK_FALSE(check_memory(o, outline.value(), half - 8192).ok());
  o.dummy_table_codec = "int3";
  CHECK(check_memory(o, outline.value(), exactly).code() == Code::kInvalidArgument);
  o.dummy_table_codec.clear();
  // Tables elsewhere are none of the host's memory.
  o.tables.placement = "host:1MiB,nvme";
  CHECK(check_memory(o, outline.value(), exactly - tables).ok());
  o.load_format = "auto";
  o.tables.placement.clear();
  CHECK(check_memory(o, outline.value(), exactly - tables).ok());
  o.model = "/nowhere";
  CHECK(read_outline(o).status().code() == Code::kNotFound);
}

TEST_CASE("inproc: a run counts its tokens and its steps") {
  engine::EngineOptions o = options();
  const std::vector<PlannedRequest> plan = plan_of(12, 20, 6);
  const auto engine = tests::start_engine(o);
  const auto run = serve_in_process(engine.get(), plan, {});
  REQUIRE(run.ok());
  CHECK_FALSE(run.value().interrupted);
  CHECK(run.value().seconds > 0);
  CHECK(run.value().work.prefill.tokens == 12 * 20);
  CHECK(run.value().work.decode.tokens == 12 * 5);
  const ThroughputResult result =
      count_throughput(run.value().records, run.value().seconds, run.value().work);
  CHECK(result.completed == 12);
  CHECK(result.prompt_tokens == 240);
  CHECK(result.output_tokens == 72);
}

TEST_CASE("inproc: a prefix cache is used only where it is asked for") {
  const auto engine = tests::start_engine(options());
  for (const bool use : {false, true}) {
    CAPTURE(use);
    InprocOptions serve;
    serve.use_prefix_cache = use;
    REQUIRE(serve_in_process(engine.get(), plan_of(1, 64, 2), serve).ok());
    const auto run = serve_in_process(engine.get(), plan_of(1, 64, 2), serve);
    REQUIRE(run.ok());
    CHECK((run.value().work.cached_tokens > 0) == use);
  }
}

TEST_CASE("inproc: a stop cancels what is left and keeps the rest") {
  engine::EngineOptions o = options();
  o.max_num_seqs = 1;
  o.max_queued_requests = 100;
  const auto engine = tests::start_engine(o);
  std::vector<PlannedRequest> plan = plan_of(40, 10, 240);
  plan[0].max_tokens = 1;
  std::atomic<bool> stop = false;
  InprocOptions serve;
  serve.stop = &stop;
  serve.on_progress = [&](size_t done) {
    if (done > 0) stop = true;
  };
  const auto run = serve_in_process(engine.get(), plan, serve);
  REQUIRE(run.ok());
  CHECK(run.value().interrupted);
  const ThroughputResult result =
      count_throughput(run.value().records, run.value().seconds, run.value().work);
  CHECK(result.interrupted);
  CHECK(result.completed >= 1);
  CHECK(result.completed < 40);
  CHECK(result.output_tokens >= 1);
  CHECK(run.value().records.back().outcome == Outcome::kCancelled);
  CHECK(engine->stats().running == 0);
}

}  // namespace engram::tools::bench
