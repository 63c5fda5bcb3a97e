// JSON and text of `engram bench throughput` and `latency`: vLLM's keys, and null for what was not
// measured.
#include "tools/bench/inproc_report.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace engram::tools::bench {
namespace {

using nlohmann::json;

EngineWork some_work() {
  EngineWork work;
  work.step_seconds = {0.001, 0.003};
  work.wait_seconds = {0, 0.0002};
  work.prefill = {1, 10, 0.003};
  work.decode = {1, 2, 0.001};
  work.rows = 24;
  work.unique_rows = 20;
  work.row_bytes = 1000;
  work.hash_seconds = 1e-5;
  work.gather_seconds = 1e-4;
  work.ops = {{"linear", 7, 1000000, 4000000}};
  return work;
}

RequestRecord record_of(Outcome outcome, int64_t prompt, int64_t output) {
  RequestRecord r;
  r.outcome = outcome;
  r.prompt_tokens = prompt;
  r.output_tokens = output;
  if (output > 0) r.messages.push_back({0.5, static_cast<int32_t>(output)});
  return r;
}

InprocFacts some_facts() {
  InprocFacts facts;
  facts.machine.device = std::string("cpu");
  facts.model.name = std::string("m");
  facts.peaks = {.read_gbps = 10, .copy_gbps = 5, .gflops = 100};
  return facts;
}

}  // namespace

TEST_CASE("inproc report: throughput counts what was answered") {
  const ThroughputResult r = count_throughput(
      {record_of(Outcome::kCompleted, 10, 4), record_of(Outcome::kCancelled, 20, 3),
       record_of(Outcome::kCancelled, 30, 0)},
      2, some_work());
  CHECK(r.asked == 3);
  CHECK(r.completed == 1);
  CHECK(r.prompt_tokens == 30);
  CHECK(r.output_tokens == 7);
  CHECK(r.interrupted);
  const json j = json::parse(throughput_json(some_facts(), r));
  CHECK(j["x_kind"] == "throughput");
  CHECK(j["elapsed_time"] == 2);
  CHECK(j["num_requests"] == 1);
  CHECK(j["total_num_tokens"] == 37);
  CHECK(j["requests_per_second"] == 0.5);
  CHECK(j["tokens_per_second"] == 18.5);
  CHECK(j["x_output_tokens_per_second"] == 3.5);
  CHECK(j["x_interrupted"] == true);
  CHECK(j["x_step_ms"]["p50"].get<double>() == Approx(2));
  CHECK(j["x_prefill"]["tokens"] == 10);
  CHECK(j["x_decode"]["mean_step_ms"].get<double>() == Approx(1));
  CHECK(j["x_sampling_seconds"].is_null());
  CHECK(j["x_ngram"]["exposed_wait_us"]["max"].get<double>() == Approx(200));
  CHECK(j["x_ngram"]["gather_gbps"].get<double>() == Approx(0.01));
  CHECK(j["x_ops"][0]["least_seconds"].get<double>() == Approx(1e-4));
  CHECK(j["x_roofline"]["share"].get<double>() == Approx(1e-4 / 0.004));
  const std::string text = throughput_text(some_facts(), r);
  CHECK_THAT(
      text,
      Catch::StartsWith("Throughput: 0.50 requests/s, 18.50 total tokens/s, 3.50 output tokens/s\n"
                        "Total num prompt tokens:  30\nTotal num output tokens:  7\n"));
  CHECK_THAT(text, Catch::Contains("1 of 3 requests were completed"));
  CHECK_THAT(text, Catch::Contains("2.5 % (of"));
}

TEST_CASE("inproc report: what was not measured is null") {
  const ThroughputResult r = count_throughput({}, 0, {});
  const json j = json::parse(throughput_json({}, r));
  CHECK(j["requests_per_second"].is_null());
  CHECK(j["x_ngram"].is_null());
  CHECK(j["x_roofline"]["share"].is_null());
  CHECK(j["x_peaks"]["read_gbps"].is_null());
  CHECK(j["x_step_ms"]["p99"].is_null());
  CHECK(j["x_decode"]["mean_step_ms"].is_null());
  CHECK_THAT(throughput_text({}, r), Catch::Contains("peaks of this device are not measured"));
}

TEST_CASE("inproc report: latency in vLLM's keys") {
  LatencyResult r;
  r.batch_size = 2;
  r.asked = 4;
  r.latencies = {0.1, 0.2, 0.3, 0.4};
  r.ttft_ms = {10, 20, 30, 40};
  r.worst_ttft_ms = {11, 21, 31, 41};
  r.work = some_work();
  const json j = json::parse(latency_json(some_facts(), r));
  CHECK(j["x_kind"] == "latency");
  CHECK(j["avg_latency"].get<double>() == Approx(0.25));
  CHECK(j["latencies"] == json(r.latencies));
  // numpy.percentile([0.1, 0.2, 0.3, 0.4], ...)
  CHECK(j["percentiles"].size() == 6);
  CHECK(j["percentiles"]["10"].get<double>() == Approx(0.13));
  CHECK(j["percentiles"]["25"].get<double>() == Approx(0.175));
  CHECK(j["percentiles"]["99"].get<double>() == Approx(0.397));
  CHECK(j["x_ttft_ms"]["p50"].get<double>() == Approx(25));
  CHECK(j["x_tpot_ms"]["p50"].is_null());
  const std::string text = latency_text(some_facts(), r);
  CHECK_THAT(text, Catch::StartsWith("Avg latency: 0.250000 seconds\n"));
  CHECK_THAT(text, Catch::Contains("99% percentile latency: 0.397000 seconds\n"));
  CHECK_THAT(text, Catch::Contains("TTFT: median 25.000 ms"));
  r.latencies.clear();
  CHECK(json::parse(latency_json(some_facts(), r))["avg_latency"].is_null());
  CHECK_THAT(latency_text(some_facts(), r), Catch::Contains("interrupted"));
}

}  // namespace engram::tools::bench
