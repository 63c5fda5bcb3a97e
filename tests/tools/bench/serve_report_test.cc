// The console block character by character, the CSV, and names of files.
#include "tools/bench/serve_report.h"

#include <stdlib.h>
#include <time.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/support/serve_samples.h"

namespace engram::tools::bench {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("the block has vLLM's lines at vLLM's widths") {
  ServeRun run;
  run.max_concurrency = 8;
  run.arrivals.request_rate = 1;
  run.objectives.ttft_ms = 300;
  run.percentiles = {50, 99.9};
  run.percentile_metrics = {"ttft", "tpot", "itl", "e2el"};
  const std::string expected =
      "============ Serving Benchmark Result ============\n"
      "Successful requests:                     2         \n"
      "Failed requests:                         1         \n"
      "Maximum request concurrency:             8         \n"
      "Request rate configured (RPS):           1.00      \n"
      "Benchmark duration (s):                  4.00      \n"
      "Total input tokens:                      200       \n"
      "Total generated tokens:                  8         \n"
      "Request throughput (req/s):              0.50      \n"
      "Request goodput (req/s):                 0.50      \n"
      "Output token throughput (tok/s):         2.00      \n"
      "Peak output token throughput (tok/s):    4.00      \n"
      "Peak concurrent requests:                1.00      \n"
      "Total token throughput (tok/s):          52.00     \n"
      "---------------Time to First Token----------------\n"
      "Mean TTFT (ms):                          249.50    \n"
      "Median TTFT (ms):                        249.50    \n"
      "P50 TTFT (ms):                           249.50    \n"
      "P99.9 TTFT (ms):                         249.50    \n"
      "-----Time per Output Token (excl. 1st token)------\n"
      "Mean TPOT (ms):                          33.33     \n"
      "Median TPOT (ms):                        33.33     \n"
      "P50 TPOT (ms):                           33.33     \n"
      "P99.9 TPOT (ms):                         33.33     \n"
      "---------------Inter-token Latency----------------\n"
      "Mean ITL (ms):                           100.00    \n"
      "Median ITL (ms):                         100.00    \n"
      "P50 ITL (ms):                            100.00    \n"
      "P99.9 ITL (ms):                          100.00    \n"
      "----------------End-to-end Latency----------------\n"
      "Mean E2EL (ms):                          349.50    \n"
      "Median E2EL (ms):                        349.50    \n"
      "P50 E2EL (ms):                           349.50    \n"
      "P99.9 E2EL (ms):                         349.50    \n"
      "----------------------Client----------------------\n"
      "Requests not sent:                       1         \n"
      "Tokens per message:                      2.00      \n"
      "Client CPU per message (us):             250.00    \n"
      "P50 send lag (ms):                       0.50      \n"
      "P99 send lag (ms):                       0.50      \n"
      "Max send lag (ms):                       0.50      \n"
      "==================================================\n";
  REQUIRE(console_block(run, tests::sample_metrics(run, 0.001)) == expected);
}

TEST_CASE("flags choose what the block says") {
  ServeRun run;
  const std::string usual = console_block(run, tests::sample_metrics(run, -1));
  REQUIRE_FALSE(contains(usual, "Maximum request concurrency"));
  REQUIRE_FALSE(contains(usual, "Request rate configured"));
  REQUIRE_FALSE(contains(usual, "goodput"));
  REQUIRE_FALSE(contains(usual, "E2EL"));
  REQUIRE_FALSE(contains(usual, "Probe"));
  REQUIRE_FALSE(contains(usual, "CPU"));
  REQUIRE_FALSE(contains(usual, "warning"));
  REQUIRE(contains(usual, "P99 ITL (ms):"));
  REQUIRE_FALSE(contains(usual, "P95"));
  run.percentile_metrics = {"client_queue_time", "e2el_including_client_queue"};
  REQUIRE_FALSE(contains(console_block(run, tests::sample_metrics(run, -1)), "Queue"));
  run.max_concurrency = 2;
  std::string queues = console_block(run, tests::sample_metrics(run, -1));
  REQUIRE(contains(queues, "P99 Client Queue Time (ms):              250.50    \n"));
  // All planned for one moment: an end-to-end latency from it says nothing.
  REQUIRE_FALSE(contains(queues, "E2EL incl."));
  run.arrivals.request_rate = 5;
  queues = console_block(run, tests::sample_metrics(run, -1));
  REQUIRE(contains(queues, "P99 E2EL incl. Client Queue (ms):        600.00    \n"));
  REQUIRE_FALSE(contains(queues, "TTFT"));
}

TEST_CASE("probes have a section, doubts a warning") {
  ServeRun run;
  run.probe_rate = 1;
  run.probes = tests::sample_records();
  run.interrupted = true;
  run.server_lost = "UNAVAILABLE";
  const std::string block = console_block(run, tests::sample_metrics(run, 3.9));
  REQUIRE(contains(block, "------------------Probe Requests------------------\n"));
  REQUIRE(contains(block, "Probe requests completed:                2         \n"));
  REQUIRE(contains(block, "Probe requests failed:                   1         \n"));
  REQUIRE(contains(block, "Max probe E2EL (ms):                     349.50    \n"));
  REQUIRE(
      contains(block, "=\nwarning: the client was the bottleneck: its threads computed for 98 %"));
  REQUIRE(contains(block, "warning: the server was lost: UNAVAILABLE\n"));
  REQUIRE(contains(block, "warning: interrupted;"));
}

TEST_CASE("one line per request, empty for what did not happen") {
  const std::string csv = records_csv(tests::sample_records());
  const std::string header = csv.substr(0, csv.find('\n'));
  REQUIRE(
      header ==
      "request,outcome,planned_s,ready_s,sent_s,first_token_s,done_s,ttft_s,tpot_s,e2el_s,"
      "prompt_tokens,output_tokens,messages,bytes,error");
  std::vector<std::string> lines;
  for (size_t at = header.size() + 1; at < csv.size(); at = csv.find('\n', at) + 1) {
    lines.push_back(csv.substr(at, csv.find('\n', at) - at));
  }
  REQUIRE(lines.size() == 4);
  REQUIRE(lines[0].find("0,completed,0,0.25,0.2505,0.5,0.6,0.249") == 0);
  REQUIRE(lines[2].find("2,failed,2,2.25,2.2505,,2.6,,,0.349") == 0);
  REQUIRE(contains(lines[2], ",100,0,0,300,\"UNAVAILABLE: \"\"gone\"\", twice\""));
  REQUIRE(lines[3] == "3,not_sent,3,,,,,,,,0,0,0,0,");
  REQUIRE(records_csv({}) == header + "\n");
}

TEST_CASE("results are named as vLLM's") {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  ServeRun run;
  run.started_at = 1'700'000'000;  // 2023-11-14 22:13:20 UTC
  run.model_id = "org/Model-8B";
  REQUIRE(result_file_name(run) == "engram-infqps-Model-8B-20231114-221320.json");
  run.arrivals.request_rate = 8;
  run.max_concurrency = 4;
  run.label = "a/b";
  REQUIRE(result_file_name(run) == "a-b-8.0qps-concurrency4-Model-8B-20231114-221320.json");
  run.arrivals.request_rate = 2.5;
  run.max_concurrency = 0;
  REQUIRE(result_file_name(run) == "a-b-2.5qps-Model-8B-20231114-221320.json");
  run.timed_trace = true;
  REQUIRE(result_file_name(run) == "a-b-trace-Model-8B-20231114-221320.json");
  run.arrivals = {.ramp_up = RampUp::kLinear, .ramp_up_start_rps = 1, .ramp_up_end_rps = 10};
  REQUIRE(result_file_name(run) == "a-b-ramp-up-linear-1qps-10qps-Model-8B-20231114-221320.json");
}

TEST_CASE("words of flags") {
  REQUIRE(
      parse_percentile_metrics("ttft,e2el").value() == std::vector<std::string>{"ttft", "e2el"});
  for (const char* list : {"", "ttft,", "TTFT", "latency", "ttft, itl"}) {
    CAPTURE(list);
    REQUIRE(contains(
        parse_percentile_metrics(list).status().message(), "--percentile-metrics: expected ttft"));
  }
  REQUIRE(parse_metadata("a=b=c").value() == std::pair<std::string, std::string>("a", "b=c"));
  REQUIRE(parse_metadata("a=").value().second.empty());
  REQUIRE(parse_metadata("a").status().message() == "--metadata: expected KEY=VALUE, found \"a\"");
  REQUIRE_FALSE(parse_metadata("=b").ok());
  REQUIRE(
      report_percentiles(std::vector<double>{99.9, 50}) ==
      std::vector<double>{50, 90, 95, 99, 99.9});
  REQUIRE(percentile_word(99) == "99");
  REQUIRE(percentile_word(99.9) == "99.9");
}

}  // namespace
}  // namespace engram::tools::bench
