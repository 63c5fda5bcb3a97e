// The arithmetic of the roofline, and that a meter counts what was done meanwhile and no more.
#include "tools/bench/engine_work.h"

#include <catch2/catch.hpp>
#include <string>

#include "tests/support/checkpoints.h"
#include "tests/support/engine_load.h"

namespace engram::tools::bench {
namespace {

using tests::greedy_request;

OpWork find(const EngineWork& work, const std::string& name) {
  for (const OpWork& op : work.ops) {
    if (op.name == name) return op;
  }
  FAIL("no op " << name);
  return {};
}

}  // namespace

TEST_CASE("engine work: an op takes as long as the slower of memory and arithmetic") {
  const MachinePeaks peaks = {.read_gbps = 10, .copy_gbps = 5, .gflops = 100};
  CHECK(least_seconds({"a", 1, 20'000'000'000, 100'000'000'000}, peaks) == Approx(2));
  CHECK(least_seconds({"b", 1, 20'000'000'000, 300'000'000'000}, peaks) == Approx(3));
  CHECK(least_seconds({"c", 1, 20'000'000'000, 0}, {.read_gbps = 10}) == 0);
  CHECK(least_seconds({"d", 1, 20'000'000'000, 0}, {}) == 0);
}

TEST_CASE("engine work: the roofline is the sum over the ops, by the time of the steps") {
  const MachinePeaks peaks = {.read_gbps = 10, .copy_gbps = 5, .gflops = 100};
  EngineWork work;
  work.prefill = {2, 100, 3};
  work.decode = {10, 10, 5};
  work.ops = {{"linear", 3, 10'000'000'000, 300'000'000'000}, {"attention", 1, 10'000'000'000, 0}};
  const Roofline r = hold_against(work, peaks);
  CHECK(r.least_seconds == Approx(3 + 1));
  CHECK(r.share == Approx(0.5));
  CHECK(r.memory_share == Approx(20. / 8 / 10));
  CHECK(r.compute_share == Approx(300. / 8 / 100));
  CHECK(hold_against(work, {}).share == 0);
  CHECK(hold_against({}, peaks).share == 0);
}

TEST_CASE("engine work: sums") {
  EngineWork a;
  a.step_seconds = {1};
  a.wait_seconds = {0.5};
  a.prefill = {1, 10, 1};
  a.rows = 5;
  a.hash_seconds = 1;
  a.ops = {{"linear", 1, 2, 3}};
  EngineWork b = a;
  b.ops.push_back({"add", 1, 1, 1});
  b.decode = {3, 3, 2};
  add_work(b, &a);
  CHECK(a.step_seconds == std::vector<double>{1, 1});
  CHECK(a.wait_seconds.size() == 2);
  CHECK(a.prefill.tokens == 20);
  CHECK(a.decode.seconds == 2);
  CHECK(a.seconds() == 4);
  CHECK(a.rows == 10);
  CHECK(a.hash_seconds == 2);
  REQUIRE(a.ops.size() == 2);
  CHECK(find(a, "linear").flops == 6);
  CHECK(find(a, "add").calls == 1);
}

TEST_CASE("engine work: a meter counts from its making on") {
  const auto engine =
      tests::start_engine(tests::small_engine(tests::checkpoint_directory("tiny-engram")));
  tests::submit(*engine, greedy_request("before", std::vector<int32_t>(30, 7), 9))->wait();
  WorkMeter meter(engine.get());
  CHECK(meter.read().ops.empty());
  CHECK(meter.read().seconds() == 0);
  tests::submit(*engine, greedy_request("a", std::vector<int32_t>(40, 8), 5))->wait();
  meter.poll();
  tests::submit(*engine, greedy_request("b", std::vector<int32_t>(40, 9), 5))->wait();
  const EngineWork work = meter.read();
  CHECK(work.prefill.tokens == 80);
  CHECK(work.decode.tokens == 8);
  CHECK(work.prefill.steps + work.decode.steps == std::ssize(work.step_seconds));
  CHECK(work.step_seconds.size() == work.wait_seconds.size());
  double seconds = 0;
  for (const double s : work.step_seconds) seconds += s;
  CHECK(work.seconds() == Approx(seconds));
  const auto& engram = engine->info().config.engram;
  CHECK(work.rows == 88 * engram.columns() * std::ssize(engram.layer_ids));
  CHECK(find(work, "sample").calls == 10);
  CHECK(work.hash_seconds > 0);
}

}  // namespace engram::tools::bench
