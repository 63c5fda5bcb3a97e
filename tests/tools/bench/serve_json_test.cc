// The JSON of a run against the full list of keys and types of vLLM's results, in every kind of
// run, and its values against the figures it reports.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/serve_samples.h"
#include "tools/bench/serve_report.h"

namespace engram::tools::bench {
namespace {

using nlohmann::json;
using Types = std::map<std::string, std::string>;

// Keys that every result has, and the types that each may have, parted by '|'.
Types usual_types() {
  Types types = {
      {"date", "string"},
      {"endpoint_type", "string"},
      {"backend", "string"},
      {"label", "string|null"},
      {"model_id", "string"},
      {"tokenizer_id", "string|null"},
      {"num_prompts", "integer"},
      {"request_rate", "float|string"},
      {"burstiness", "float|string"},
      {"max_concurrency", "integer|null"},
      {"duration", "float"},
      {"completed", "integer"},
      {"failed", "integer"},
      {"total_input_tokens", "integer"},
      {"total_output_tokens", "integer"},
      {"request_throughput", "float"},
      {"request_goodput", "float|null"},
      {"output_throughput", "float"},
      {"total_token_throughput", "float"},
      {"max_output_tokens_per_s", "float"},
      {"max_concurrent_requests", "integer"},
      {"rtfx", "float"},
  };
  for (const char* metric : {"ttft", "tpot", "itl", "e2el"}) {
    for (const char* figure : {"mean", "median", "std", "p50", "p90", "p95", "p99"}) {
      types[std::string(figure) + "_" + metric + "_ms"] = "float";
    }
  }
  return types;
}

Types detailed_types() {
  return {
      {"input_lens", "integers"},  {"output_lens", "integers"},    {"ttfts", "floats"},
      {"itls", "lists of floats"}, {"latencies", "floats"},        {"start_times", "floats"},
      {"queue_times", "floats"},   {"generated_texts", "strings"}, {"errors", "strings"},
  };
}

std::string type_of(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_string()) return "string";
  if (value.is_number_integer()) return "integer";
  if (value.is_number_float()) return "float";
  if (value.is_boolean()) return "boolean";
  if (value.is_object()) return "object";
  if (value.empty()) return "empty list";
  const std::string item = type_of(value[0]);
  for (const json& other : value) {
    const std::string type = type_of(other);
    if (type != item && type != "empty list" && item != "empty list") return "mixed list";
  }
  // The first list may be empty, as of a request with one message.
  for (const json& other : value) {
    if (other.is_array() && !other.empty()) return "lists of " + type_of(other[0]) + "s";
  }
  return item + "s";
}

bool is_one_of(const std::string& type, const std::string& types) {
  return ("|" + types + "|").find("|" + type + "|") != std::string::npos;
}

void check_types(const json& result, const Types& types) {
  for (const auto& [key, type] : types) {
    CAPTURE(key, type);
    REQUIRE(result.contains(key));
    REQUIRE(is_one_of(type_of(result[key]), type));
  }
  // And nothing else but ours.
  for (const auto& [key, value] : result.items()) {
    CAPTURE(key);
    REQUIRE((types.contains(key) || key.starts_with("x_")));
  }
}

json result_of(const ServeRun& run, double cpu_s = 0.001) {
  const std::string text =
      result_json(run, tests::sample_metrics(run, cpu_s), tests::sample_records());
  REQUIRE(text.find('\n') == std::string::npos);
  return json::parse(text);
}

TEST_CASE("every key of vLLM's results with its type") {
  ServeRun run;
  run.model_id = "org/model";
  run.num_prompts = 4;
  check_types(result_of(run), usual_types());

  Types detailed = usual_types();
  detailed.merge(detailed_types());
  run.save_detailed = true;
  run.objectives.tpot_ms = 50;
  run.label = "label";
  run.tokenizer_id = "tokenizer";
  run.arrivals.request_rate = 3;
  check_types(result_of(run), detailed);
}

TEST_CASE("a limit on concurrency, probes, a ramp, metadata and percentiles add keys") {
  ServeRun run;
  run.max_concurrency = 2;
  run.probe_rate = 1;
  run.probes = tests::sample_records();
  run.arrivals = {.ramp_up = RampUp::kExponential, .ramp_up_start_rps = 1, .ramp_up_end_rps = 4};
  run.rate_changes = {{1, 0}, {2, 0.25}};
  run.started_at = 1'700'000'000;
  run.metadata = {{"version", "0.3"}, {"backend", "other"}};
  run.percentiles = {99.9};
  Types types = usual_types();
  for (const char* metric :
       {"ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"}) {
    for (const char* figure : {"mean", "median", "std", "p50", "p90", "p95", "p99", "p99.9"}) {
      types[std::string(figure) + "_" + metric + "_ms"] = "float";
    }
  }
  types.insert(
      {{"probe_completed", "integer"},
       {"probe_failed", "integer"},
       {"probe_median_e2el_ms", "float"},
       {"probe_p99_e2el_ms", "float"},
       {"probe_max_e2el_ms", "float"},
       {"ramp_up_strategy", "string"},
       {"ramp_up_start_rps", "integer"},
       {"ramp_up_end_rps", "integer"},
       {"rps_change_events", "objects"},
       {"version", "string"}});
  const json result = result_of(run);
  check_types(result, types);
  REQUIRE(result["backend"] == "engram");
  REQUIRE(result["request_rate"] == "inf");
  REQUIRE(result["ramp_up_strategy"] == "exponential");
  REQUIRE(result["rps_change_events"].size() == 2);
  REQUIRE(result["rps_change_events"][1]["rps"] == 2);
  const std::string time = result["rps_change_events"][1]["timestamp"];
  REQUIRE(time.size() == std::string("2023-11-14T22:13:20.250000").size());
  REQUIRE(time.substr(13) == ":13:20.250000");
}

TEST_CASE("the values are the figures") {
  ServeRun run;
  run.started_at = 1'700'000'000;
  run.num_prompts = 4;
  run.max_concurrency = 9;
  run.save_detailed = true;
  run.server_before = {{"engram_steps_total", 5}};
  run.server_after = {{"engram_steps_total", 7.5}};
  run.dataset = {{"name", "random"}};
  run.interrupted = true;
  const json r = result_of(run);
  REQUIRE(r["num_prompts"] == 4);
  REQUIRE(r["max_concurrency"] == 9);
  REQUIRE(r["completed"] == 2);
  REQUIRE(r["failed"] == 1);
  REQUIRE(r["duration"] == 4.);
  REQUIRE(r["total_output_tokens"] == 8);
  REQUIRE(r["total_token_throughput"] == 52.);
  REQUIRE(r["request_goodput"].is_null());
  REQUIRE(r["mean_ttft_ms"].get<double>() == Approx(249.5));
  REQUIRE(r["p99_client_queue_time_ms"].get<double>() == Approx(250.5));
  // The three that were sent, in order.
  REQUIRE(r["input_lens"] == json({100, 100, 100}));
  REQUIRE(r["output_lens"] == json({4, 4, 0}));
  REQUIRE(r["itls"].size() == 3);
  REQUIRE(r["itls"][0][0].get<double>() == Approx(0.1));
  REQUIRE(r["itls"][2].empty());
  REQUIRE(r["ttfts"][2] == 0.);
  REQUIRE(r["start_times"][1].get<double>() == 1.2505);
  REQUIRE(r["errors"] == json({"", "", "UNAVAILABLE: \"gone\", twice"}));
  REQUIRE(r["x_outcomes"] == json({"completed", "completed", "failed"}));
  REQUIRE(r["x_message_tokens"] == json({{1, 3}, {1, 3}, json::array()}));
  REQUIRE(r["x_kind"] == "serve");
  REQUIRE(r["x_schema"] == 1);
  REQUIRE(r["x_interrupted"] == true);
  REQUIRE(r["x_dropped_sends"] == 1);
  REQUIRE(r["x_messages"] == 4);
  REQUIRE(r["x_bytes"] == 900);
  REQUIRE(r["x_tokens_per_message"] == 2.);
  REQUIRE(r["x_messages_per_s"] == 1.);
  REQUIRE(r["x_client_cpu_s"] == 0.001);
  REQUIRE(r["x_client_cpu_us_per_message"].get<double>() == Approx(250));
  REQUIRE(r["x_lag_p99_ms"].get<double>() == Approx(0.5));
  REQUIRE(r["x_client_bottleneck"] == false);
  REQUIRE(r["x_client_verdict"].is_null());
  REQUIRE(r["x_counts"]["tpot"] == 2);
  REQUIRE(r["x_max_e2el_ms"].get<double>() == Approx(349.5));
  REQUIRE(r["x_p99_itl_per_token_ms"].get<double>() == Approx(100. / 3));
  REQUIRE(r["x_server_before"]["engram_steps_total"] == 5);
  REQUIRE(r["x_server_after"]["engram_steps_total"] == 7.5);
  REQUIRE(r["x_dataset"]["name"] == "random");
}

TEST_CASE("what was not measured is null in our keys and 0 in theirs") {
  const ServeMetrics nothing = serve_metrics({}, 0, {.percentiles = report_percentiles({})}, {});
  ServeRun run;
  run.save_detailed = true;
  const json r = json::parse(result_json(run, nothing, {}));
  REQUIRE(r["mean_ttft_ms"] == 0.);
  REQUIRE(r["p99_itl_ms"] == 0.);
  REQUIRE(r["x_counts"]["ttft"] == 0);
  REQUIRE(r["ttfts"] == json::array());
  for (const char* key :
       {"x_max_ttft_ms", "x_tokens_per_message", "x_messages_per_s", "x_client_cpu_s",
        "x_client_cpu_us_per_message", "x_client_cpu_share", "x_lag_p99_ms", "x_lag_max_ms"}) {
    CAPTURE(key);
    REQUIRE(r[key].is_null());
  }
}

TEST_CASE("texts that are not UTF-8 do not spoil the file") {
  ServeRun run;
  run.save_detailed = true;
  std::vector<RequestRecord> records = tests::sample_records();
  records[0].text = "\xff\xfe";
  const std::string text = result_json(run, tests::sample_metrics(run, -1), records);
  REQUIRE(json::parse(text)["generated_texts"][0] == "\xef\xbf\xbd\xef\xbf\xbd");
}

}  // namespace
}  // namespace engram::tools::bench
