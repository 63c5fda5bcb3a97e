// Reading results back: every field, results of vLLM, several in one file, and what is said about
// files that are broken or hold something else.
#include "tools/bench/result_file.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/bench_results.h"
#include "tests/support/temp_directory.h"
#include "tools/bench/serve_quantiles.h"

namespace engram::tools::bench {
namespace {

ResultSet parsed(const std::string& text) {
  ResultSet results;
  const memory::Status status = parse_results(text, "r.json", &results);
  INFO(status.to_string());
  REQUIRE(status.ok());
  return results;
}

std::string error_of(const std::string& text) {
  ResultSet results;
  const memory::Status status = parse_results(text, "r.json", &results);
  REQUIRE(status.code() == memory::Code::kInvalidArgument);
  return status.message();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("a load run is read back") {
  const ServeResult run = parsed(tests::serve_result_json()).serve.at(0);
  REQUIRE(run.file == "r.json");
  REQUIRE(run.label == "host tables");
  REQUIRE(run.model == "demo");
  REQUIRE(run.request_rate == 4);
  REQUIRE(run.max_concurrency == 8);
  REQUIRE(run.metric("output_throughput") == 4);
  REQUIRE(run.metric("request_throughput") == 1.3333333333333333);
  REQUIRE(run.metric("x_client.cpu_s") == 0.25);
  REQUIRE(!run.metric("request_goodput"));
  REQUIRE(run.settings.size() == 6);  // backend, model, prompts, rate, burstiness, concurrency
}

TEST_CASE("requests are read back; failed ones have no times") {
  const ServeRequests r = parsed(tests::serve_result_json()).serve.at(0).requests;
  REQUIRE(r.size() == 3);
  REQUIRE(r.start_s == std::vector<double>{0, 0.25, 0.5});
  REQUIRE(r.ttft_s[1] == 0.0205);
  REQUIRE(r.latency_s[1] == 0.0325);
  REQUIRE(std::isnan(r.ttft_s[2]));
  REQUIRE(std::isnan(r.latency_s[2]));
  REQUIRE(r.itl_s[0] == std::vector<double>{0.004, 0.006});
  REQUIRE(latencies_ms(r, Latency::kTtft) == std::vector<double>{10, 20.5});
  REQUIRE(latencies_ms(r, Latency::kTpot).size() == 2);
  REQUIRE(latencies_ms(r, Latency::kTpot)[0] == Approx(5));
  REQUIRE(latencies_ms(r, Latency::kItl).size() == 4);
}

TEST_CASE("a run says why it is not to be trusted") {
  REQUIRE(parsed(tests::serve_result_json()).serve[0].warnings.size() == 1);  // a failed request
  const std::string slow = replaced(
      tests::serve_result_json(), R"("x_client_bottleneck":false)",
      R"("x_client_bottleneck":true,"x_client_verdict":"The lag was 3 ms.","x_interrupted":true,
"x_server_lost":"UNAVAILABLE")");
  const std::vector<std::string> warnings = parsed(slow).serve[0].warnings;
  REQUIRE(warnings.size() == 4);
  REQUIRE(warnings[0].find("The client was the bottleneck") == 0);
  REQUIRE(warnings[0].find("The lag was 3 ms.") != std::string::npos);
}

TEST_CASE("a cancelled request is no completed one") {
  const std::string text = replaced(
      tests::serve_result_json(), "\"errors\":[\"\",\"\"",
      "\"x_outcomes\":[\"completed\",\"cancelled\",\"failed\"],\"errors\":[\"\",\"\"");
  const ServeRequests r = parsed(text).serve[0].requests;
  REQUIRE(r.ttft_s[0] == 0.01);
  REQUIRE(std::isnan(r.ttft_s[1]));
  REQUIRE(std::isnan(r.latency_s[1]));
}

TEST_CASE("fields of ours are settings or figures by what they hold") {
  const ServeResult run =
      parsed(replaced(
                 tests::serve_result_json(), "\"x_client\":{\"cpu_s\":0.25}",
                 R"("x_seed":3,"x_dataset":{"name":"random","input_len":"64"},"x_timed_trace":false,
"x_command":"engram bench serve","x_lag_p99_ms":0.5,"x_server_before":{"steps":10,"other":1},
"x_server_after":{"steps":25},"x_server_lost":null)"))
          .serve[0];
  const auto holds = [&](const Setting& setting) {
    return std::find(run.settings.begin(), run.settings.end(), setting) != run.settings.end();
  };
  REQUIRE(holds({"x_seed", "3"}));
  REQUIRE(holds({"x_dataset.name", "random"}));
  REQUIRE(holds({"x_timed_trace", "false"}));
  REQUIRE(run.settings.size() == 10);  // not the command
  REQUIRE(run.metric("x_lag_p99_ms") == 0.5);
  REQUIRE(run.metric("x_server.steps") == 15);
  REQUIRE(!run.metric("x_server.other"));
  REQUIRE(run.metrics.front().name == "output_throughput");
}

TEST_CASE("a result of vllm bench serve is read, NaN and inf included") {
  const ServeResult run = parsed(tests::vllm_result_json()).serve.at(0);
  REQUIRE(std::isinf(run.request_rate));
  REQUIRE(!run.max_concurrency);
  REQUIRE(run.metric("median_ttft_ms") == 12);
  REQUIRE(!run.metric("std_ttft_ms"));
  REQUIRE(run.requests.size() == 0);
  REQUIRE(run.warnings.empty());
  REQUIRE(quantile_ms(run, Latency::kTtft, 99) == 13);
  REQUIRE(!quantile_ms(run, Latency::kTpot, 50));
}

TEST_CASE("without latencies they are the first token and the gaps") {
  const std::string text =
      replaced(tests::serve_result_json(), R"("latencies":[0.02,0.0325,0.5],)", "");
  const ServeRequests r = parsed(text).serve[0].requests;
  REQUIRE(r.latency_s[0] == Approx(0.02));
  REQUIRE(r.latency_s[1] == Approx(0.0325));
  REQUIRE(std::isnan(r.latency_s[2]));
}

TEST_CASE("the file's percentile comes before that of the requests") {
  ServeResult run = parsed(tests::serve_result_json()).serve[0];
  REQUIRE(quantile_ms(run, Latency::kTtft, 50) == 15.25);
  REQUIRE(*quantile_ms(run, Latency::kE2el, 50) == Approx(26.25));
  run.metrics.push_back({"completed", 0});
  run.metrics.front() = {"completed", 0};
  REQUIRE(!quantile_ms(run, Latency::kTtft, 50));
}

TEST_CASE("several results come one after the other or as a list") {
  const std::string one = tests::serve_result_json();
  REQUIRE(parsed(one + "\n" + tests::vllm_result_json() + "\n").serve.size() == 2);
  REQUIRE(parsed(one + tests::overhead_result_json()).size() == 2);
  REQUIRE(parsed("[" + one + "," + one + "]").serve.size() == 2);
  REQUIRE(parsed("[]").size() == 0);
  REQUIRE(
      error_of(one + "\n{\"x_kind\":1}") ==
      "r.json (result 2): x_kind: expected \"serve\", \"overhead\" or \"paper\", or the keys of a "
      "result of `vllm bench serve`, found 1");
}

TEST_CASE("an experiment is read back") {
  const OverheadResult run = parsed(tests::overhead_result_json()).overhead.at(0);
  REQUIRE(run.kind == "overhead");
  REQUIRE(run.label == "demo");
  REQUIRE(run.points.size() == 2);
  const OverheadPoint& p = run.points[0];
  REQUIRE(describe_point(p) == "w3, batch 1, 512 + 16 to 32 tokens, table 1B");
  REQUIRE(p.quiet);
  REQUIRE(!run.points[1].quiet);
  REQUIRE(run.warnings.size() == 1);
  REQUIRE(run.warnings[0].find("12.50 % (limit 10 %)") != std::string::npos);
  REQUIRE(p.arms.size() == 2);
  REQUIRE(p.arms[0].key == "N");  // not the order of the file
  REQUIRE(p.arms[1].rate("output_throughput")->samples.size() == 5);
  REQUIRE(p.arms[1].wait.p99_us == 7.5);
  REQUIRE(p.arms[1].wait.histogram[2].count == 20);
  REQUIRE(p.comparisons[0].low == 0.5);
  REQUIRE(p.split_percent[0].name == "projections_and_gate");
  REQUIRE(!p.split_percent[1].value);  // launches: null, not 0
  const auto holds = [&](const Setting& setting) {
    return std::find(run.settings.begin(), run.settings.end(), setting) != run.settings.end();
  };
  REQUIRE(holds({"machine.cores", "2"}));
  REQUIRE(holds({"model.engram_layers", "1, 3"}));
  REQUIRE(holds({"peaks.link_gbps", "null"}));
}

TEST_CASE("a point whose quietness nobody knows is not quiet") {
  const std::string text =
      replaced(tests::overhead_result_json(), R"("quiet":true)", R"("quiet":null)");
  REQUIRE(!parsed(text).overhead[0].points[0].quiet);
}

TEST_CASE("an experiment whose tables' pages were taken away says so, unless they were touched") {
  const auto warnings = [](const std::string& pages) {
    const std::string with = R"("table_pages":)" + pages + R"(,"quiet":{)";
    return parsed(replaced(tests::overhead_result_json(), R"("quiet":{)", with))
        .overhead[0]
        .warnings;
  };
  REQUIRE(warnings("null").size() == 1);
  REQUIRE(warnings(R"({"touched_before_rounds":null,"taken_away":false})").size() == 1);
  REQUIRE(warnings(R"({"touched_before_rounds":{"ms_p50":1},"taken_away":true})").size() == 1);
  const std::vector<std::string> two =
      warnings(R"({"touched_before_rounds":null,"taken_away":true})");
  REQUIRE(two.size() == 2);
  REQUIRE(two[0].find("took pages of the tables away meanwhile: w3, batch 1") != std::string::npos);
}

TEST_CASE("errors name file, key, expected and found") {
  const std::string serve = tests::serve_result_json();
  const std::string overhead = tests::overhead_result_json();
  struct Case {
    std::string text;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"", "r.json: not valid JSON at byte"},
      {"hello", "r.json: not valid JSON at byte"},
      {"{", "r.json: not valid JSON at byte"},
      {serve + "x", "r.json: not valid JSON at byte"},
      {"3", "r.json: expected a result, found 3"},
      {"{}", "r.json: x_kind: expected \"serve\""},
      {R"({"x_kind":"perf"})", "found \"perf\""},
      {replaced(serve, "\"x_schema\":1", "\"x_schema\":2"),
       "r.json: x_schema: expected an integer in 1..1, found 2"},
      {replaced(serve, "\"duration\":1.5", "\"duration\":\"long\""),
       "r.json: duration: expected a number or null, found \"long\""},
      {replaced(serve, "\"request_rate\":4.0", "\"request_rate\":-4"),
       "r.json: request_rate: expected a positive number or \"inf\", found -4"},
      {replaced(serve, "[10,20,5]", "[10,20]"),
       "r.json: input_lens: expected 3 entries, as ttfts has, found 2"},
      {replaced(serve, "[0.005,0.007]", "[0.005,\"x\"]"),
       "r.json: itls[1][1]: expected a number or null, found \"x\""},
      {replaced(serve, "[0.005,0.007],[]", "[0.005,0.007]"), "r.json: itls: expected 3 lists"},
      {replaced(overhead, "\"points\":[", "\"points\":null,\"other\":["),
       "r.json: points: expected an array, found null"},
      {replaced(overhead, "\"batch\":1", "\"batch\":\"one\""),
       "r.json: points[0].batch: expected a number or null, found \"one\""},
      {replaced(overhead, "[2,60]", "[2]"),
       "r.json: points[0].arms.D.exposed_wait_us.histogram[1]: expected [upper edge in us, count]"},
      {replaced(overhead, "[2,60]", "[9,60]"), "histogram: expected ascending edges"},
      {replaced(overhead, "\"arm\":\"D\"", "\"arm\":4"),
       "r.json: points[0].comparisons[0].arm: expected a string, found 4"},
      {replaced(overhead, "[16,32]", "[16]"), "expected a number or [least, most], found [16]"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text, c.message);
    const std::string message = error_of(c.text);
    CAPTURE(message);
    REQUIRE(message.find(c.message) != std::string::npos);
  }
}

TEST_CASE("a file that is not there is said to be missing") {
  const tests::TempDirectory directory;
  ResultSet results;
  REQUIRE(read_results(directory.file("none.json"), &results).code() == memory::Code::kNotFound);
  directory.write("one.json", tests::serve_result_json());
  REQUIRE(read_results(directory.file("one.json"), &results).ok());
  REQUIRE(results.serve[0].file == directory.file("one.json"));
}

}  // namespace
}  // namespace engram::tools::bench
