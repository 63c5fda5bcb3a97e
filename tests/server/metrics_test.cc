// The names and labels that dashboards read, against a golden list.
#include "server/metrics.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace engram::server {
namespace {

engine::EngineInfo info_of() {
  engine::EngineInfo info;
  info.page_tokens = 16;
  info.kv_pages = 100;
  info.config.engram.layer_ids = {1, 4};
  return info;
}

engine::EngineStats stats_of() {
  engine::EngineStats stats;
  stats.running = 2;
  stats.waiting = 3;
  stats.kv_pages_total = 100;
  stats.kv_pages_free = 75;
  stats.prompt_tokens = 1000;
  stats.generation_tokens = 500;
  stats.hash_ns = 2000000000;
  stats.rows_verified = 40;
  stats.rows_wrong = 1;
  for (const int layer : {1, 4}) {
    engine::EngineStats::Layer numbers;
    numbers.layer = layer;
    numbers.rows = 16 * layer;
    if (layer == 1) numbers.exposed_wait_ns = 500000000;
    if (layer == 1) numbers.gather_ns = 250000000;
    stats.layers.push_back(numbers);
  }
  stats.recent_step_seconds = {0.01, 0.02};
  stats.recent_exposed_wait_seconds = {0, 1e-6};
  return stats;
}

CallRecord record_of(const std::string& aborted, const std::string& rejected) {
  CallRecord record;
  record.service = "engram.v1.Completions";
  record.method = "Complete";
  record.submitted = rejected.empty();
  record.rejected = rejected;
  record.aborted = aborted;
  record.finished[engine::FinishReason::kStop] = 1;
  record.usage.prompt_tokens = 10;
  record.usage.completion_tokens = 5;
  record.choices = 1;
  record.max_tokens = 5;
  record.first_token_seconds = 0.1;
  record.total_seconds = 0.5;
  record.messages = 6;
  for (int i = 0; i < 4; ++i) record.inter_token.add(0.1);
  return record;
}

void fill(Metrics& metrics) {
  metrics.set_engine(info_of());
  metrics.observe_engine(stats_of());
  memory::TableReport table;
  table.layer = 4;
  table.tiers = {{"host", 100, 12800}};
  metrics.observe_tables({table});
  metrics.call_started();
  metrics.call_ended(record_of("client", ""));
  metrics.call_started();
  metrics.call_ended(record_of("", "queue_full"));
  metrics.tokenized(0.001);
}

// "name{labels} type" of every metric, values left out.
std::set<std::string> names_of(const std::string& text) {
  std::set<std::string> names;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# TYPE ", 0) == 0) names.insert(line.substr(7));
  }
  return names;
}

double value_of(const std::string& text, const std::string& metric) {
  const size_t at = text.find("\n" + metric + " ");
  CAPTURE(metric);
  REQUIRE(at != std::string::npos);
  return std::stod(text.substr(at + metric.size() + 2));
}

}  // namespace

TEST_CASE("metrics: names and types are those of the golden file", "[metrics]") {
  Metrics metrics("demo", "1.2.3");
  fill(metrics);
  std::ifstream file("tests/golden/metrics.txt");
  REQUIRE(file.good());
  std::set<std::string> golden;
  for (std::string line; std::getline(file, line);) golden.insert(line);
  const std::set<std::string> found = names_of(metrics.text());
  for (const std::string& name : golden) {
    CAPTURE(name);
    CHECK(found.count(name) == 1);
  }
  for (const std::string& name : found) {
    CAPTURE(name);
    CHECK(golden.count(name) == 1);
  }
}

TEST_CASE("metrics: values are what was observed", "[metrics]") {
  Metrics metrics("demo", "1.2.3");
  fill(metrics);
  const std::string text = metrics.text();
  const std::string model = R"({model_name="demo"})";
  CHECK(value_of(text, "engram_num_requests_running" + model) == 2);
  CHECK(value_of(text, "engram_num_requests_waiting" + model) == 3);
  CHECK(value_of(text, "engram_kv_cache_usage_perc" + model) == Approx(0.25));
  CHECK(value_of(text, "engram_generation_tokens_total" + model) == 500);
  CHECK(value_of(text, "engram_ngram_hash_seconds_total" + model) == Approx(2));
  CHECK(value_of(text, R"(engram_ngram_rows_total{layer="4",model_name="demo"})") == 64);
  CHECK(
      value_of(text, R"(engram_ngram_exposed_wait_seconds_total{layer="1",model_name="demo"})") ==
      Approx(0.5));
  const std::string untimed = R"({layer="4",model_name="demo"})";
  CHECK(text.find("engram_ngram_exposed_wait_seconds_total" + untimed) == std::string::npos);
  CHECK(text.find("engram_ngram_gather_seconds_total" + untimed) == std::string::npos);
  CHECK(value_of(text, R"(engram_table_rows{layer="4",model_name="demo",tier="host"})") == 100);
  CHECK(value_of(text, "engram_table_rows_verified_total" + model) == 40);
  CHECK(value_of(text, "engram_table_rows_wrong_total" + model) == 1);
  CHECK(value_of(text, "engram_step_seconds_count" + model) == 2);
  CHECK(value_of(text, "engram_inter_token_latency_seconds_count" + model) == 4);
  CHECK(value_of(text, "engram_inter_token_latency_seconds_sum" + model) == Approx(0.4));
  CHECK(value_of(text, "engram_time_to_first_token_seconds_count" + model) == 1);
  CHECK(value_of(text, R"(engram_rejected_total{reason="queue_full"})") == 1);
  CHECK(value_of(text, R"(engram_aborts_total{source="client"})") == 1);
  CHECK(value_of(text, "engram_active_streams") == 0);
  // Totals do not grow when the engine's do not.
  metrics.observe_engine(stats_of());
  CHECK(value_of(metrics.text(), "engram_generation_tokens_total" + model) == 500);
}

TEST_CASE("metrics: a taken port is an error", "[metrics]") {
  Metrics first("a", "1");
  Metrics second("b", "1");
  REQUIRE(first.serve("127.0.0.1", 0).ok());
  const memory::Status status = second.serve("127.0.0.1", first.port());
  CHECK(status.code() == memory::Code::kUnavailable);
  CHECK(status.message().find("--metrics-port") != std::string::npos);
}

TEST_CASE("metrics: times between tokens fall into their buckets", "[metrics]") {
  InterTokenTimes times;
  times.add(0.001);
  times.add(0.002);
  times.add(0.0021);
  times.add(1000);
  CHECK(times.counts[0] == 2);
  CHECK(times.counts[1] == 1);
  CHECK(times.counts.back() == 1);
}

}  // namespace engram::server
