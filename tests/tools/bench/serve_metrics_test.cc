// Every figure against values computed by hand from a few requests, and against plain loops over
// random ones.
#include "tools/bench/serve_metrics.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tools/bench/random.h"
#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

RequestRecord request(double sent, std::vector<MessageTime> messages) {
  RequestRecord r;
  r.outcome = Outcome::kCompleted;
  r.planned_s = r.ready_s = r.sent_s = sent;
  r.messages = std::move(messages);
  for (const MessageTime& m : r.messages) r.output_tokens += m.tokens;
  r.done_s = r.messages.empty() ? sent : r.messages.back().at_s;
  r.prompt_tokens = 10;
  r.bytes = 100;
  return r;
}

ServeMetrics metrics_of(const std::vector<RequestRecord>& records, MetricOptions options = {}) {
  return serve_metrics(records, 10, options, {});
}

// Sent at 1, tokens at 1.5, 1.7 (three at once), 2.1.
RequestRecord merged() {
  return request(1, {{1.5, 1}, {1.7, 3}, {2.1, 1}});
}

TEST_CASE("the latencies of one request") {
  const RequestRecord r = merged();
  REQUIRE(ttft_of(r) == Approx(0.5));
  REQUIRE(e2el_of(r) == Approx(1.1));
  REQUIRE(tpot_of(r) == Approx(0.6 / 4));
  REQUIRE(itls_of(r).size() == 2);
  REQUIRE(itls_of(r)[0] == Approx(0.2));
  REQUIRE(itls_of(r)[1] == Approx(0.4));
  REQUIRE(tpot_of(request(0, {{1, 1}})) == -1);
  REQUIRE(ttft_of(request(0, {})) == -1);
  REQUIRE(e2el_of(RequestRecord{}) == -1);
}

TEST_CASE("merged messages: gaps per message and per token") {
  const ServeMetrics m = metrics_of({merged()});
  REQUIRE(m.itl.count == 2);
  REQUIRE(m.itl.mean == Approx(300));
  REQUIRE(m.itl.max == Approx(400));
  // 0.2 / 3 three times and 0.4.
  REQUIRE(m.itl_per_token.count == 4);
  REQUIRE(m.itl_per_token.mean == Approx(150));
  REQUIRE(m.itl_per_token.median == Approx(200. / 3));
  REQUIRE(m.messages == 3);
  REQUIRE(m.message_tokens == 5);
  REQUIRE(m.bytes == 100);
}

TEST_CASE("throughput counts completed requests over the duration") {
  RequestRecord failed = request(2, {{3, 4}});
  failed.outcome = Outcome::kFailed;
  RequestRecord cancelled = request(2, {{3, 2}});
  cancelled.outcome = Outcome::kCancelled;
  const ServeMetrics m = metrics_of({merged(), failed, request(3, {{4, 1}}), cancelled, {}});
  REQUIRE(m.completed == 2);
  REQUIRE(m.failed == 1);
  REQUIRE(m.cancelled == 1);
  REQUIRE(m.not_sent == 1);
  REQUIRE(m.input_tokens == 20);
  REQUIRE(m.output_tokens == 6);
  REQUIRE(m.partial_output_tokens == 6);
  REQUIRE(m.request_throughput == Approx(0.2));
  REQUIRE(m.output_throughput == Approx(0.6));
  REQUIRE(m.total_token_throughput == Approx(2.6));
  REQUIRE(m.ttft.count == 2);
  REQUIRE(m.tpot.count == 1);
  REQUIRE(m.e2el.count == 2);
  REQUIRE(m.client_queue.count == 4);
}

TEST_CASE("nothing completed: no division by nothing") {
  const ServeMetrics none = serve_metrics({}, 0, {}, {.cpu_s = 1});
  REQUIRE(none.request_throughput == 0);
  REQUIRE(none.ttft.count == 0);
  REQUIRE(none.ttft.percentiles == std::vector<std::pair<double, double>>{{99, 0}});
  REQUIRE(none.max_concurrent_requests == 0);
  REQUIRE(none.client_cpu_us_per_message == -1);
  REQUIRE_FALSE(none.client_bottleneck);
  const ServeMetrics unsent = metrics_of(std::vector<RequestRecord>(3));
  REQUIRE(unsent.not_sent == 3);
  REQUIRE(unsent.failed == 0);
  REQUIRE(unsent.lag.count == 0);
}

TEST_CASE("the peak is the fullest second since the first send") {
  // The clock starts at 0.9: seconds end at 1.9, 2.9, ...
  const ServeMetrics m = metrics_of(
      {request(0.9, {{1.0, 2}, {1.89, 3}, {1.91, 4}}), request(1.5, {{2.0, 1}, {2.95, 1}})});
  REQUIRE(m.max_output_tokens_per_s == 5);
  REQUIRE(metrics_of({request(5, {{5.5, 7}})}).max_output_tokens_per_s == 7);
}

TEST_CASE("peak concurrency by sweep: ends free their place before the next begins") {
  const auto span = [](double sent, double done) {
    RequestRecord r = request(sent, {});
    r.done_s = done;
    return r;
  };
  REQUIRE(metrics_of({span(0, 1), span(1, 2)}).max_concurrent_requests == 1);
  REQUIRE(metrics_of({span(0, 2), span(1, 3), span(2, 4)}).max_concurrent_requests == 2);
  REQUIRE(
      metrics_of({span(0, 9), span(1, 9), span(2, 3), span(4, 5)}).max_concurrent_requests == 3);
  REQUIRE(metrics_of({span(1, 1)}).max_concurrent_requests == 1);
  // One that failed held its place too; one that never ended holds it for ever.
  RequestRecord lost = span(0, 1);
  lost.outcome = Outcome::kFailed;
  lost.done_s = -1;
  REQUIRE(metrics_of({lost, span(5, 6)}).max_concurrent_requests == 2);
}

TEST_CASE("concurrency, peak and distributions agree with plain loops on random runs") {
  const uint64_t seed = GENERATE(1u, 2u, 3u);
  CAPTURE(seed);
  Random random(seed, 0);
  std::vector<RequestRecord> records;
  for (int i = 0; i < 200; ++i) {
    std::vector<MessageTime> messages;
    const double sent = 10 * random.uniform();
    double now = sent;
    const uint64_t count = 1 + random.below(20);
    for (uint64_t k = 0; k < count; ++k) {
      now += 0.2 * random.exponential();
      messages.push_back({now, static_cast<int32_t>(1 + random.below(4))});
    }
    records.push_back(request(sent, messages));
  }
  const ServeMetrics m = metrics_of(records, {.percentiles = {50, 90, 99}});
  int64_t most = 0;
  double first = 1e9;
  for (const RequestRecord& r : records) first = std::min(first, r.sent_s);
  for (const RequestRecord& at : records) {
    int64_t now = 0;
    for (const RequestRecord& r : records) {
      if (r.sent_s <= at.sent_s && at.sent_s < r.done_s) ++now;
    }
    most = std::max(most, now);
  }
  REQUIRE(m.max_concurrent_requests == most);
  int64_t peak = 0;
  for (int second = 0; second < 100; ++second) {
    int64_t tokens = 0;
    for (const RequestRecord& r : records) {
      for (const MessageTime& message : r.messages) {
        const double since = message.at_s - first;
        if (second <= since && since < second + 1) tokens += message.tokens;
      }
    }
    peak = std::max(peak, tokens);
  }
  REQUIRE(m.max_output_tokens_per_s == static_cast<double>(peak));
  std::vector<double> ttft;
  for (const RequestRecord& r : records) ttft.push_back(1000 * ttft_of(r));
  REQUIRE(m.ttft.mean == Approx(mean(ttft)));
  REQUIRE(m.ttft.std == Approx(standard_deviation(ttft)));
  REQUIRE(m.ttft.median == Approx(quantile(ttft, 0.5)));
  for (const auto& [percent, value] : m.ttft.percentiles) {
    REQUIRE(value == Approx(quantile(ttft, percent / 100)));
  }
}

TEST_CASE("waiting in the client's queue is not hidden") {
  RequestRecord r = request(3, {{3.5, 1}});
  r.planned_s = 1;
  r.ready_s = 2.99;
  const ServeMetrics m = metrics_of({r});
  REQUIRE(m.client_queue.mean == Approx(2000));
  REQUIRE(m.e2el.mean == Approx(500));
  REQUIRE(m.e2el_with_queue.mean == Approx(2500));
  REQUIRE(m.lag.max == Approx(10));
  REQUIRE(m.lag_p50_ms == Approx(10));
  REQUIRE(m.lag_p99_ms == Approx(10));
}

TEST_CASE("goodput: every objective, and one token meets any TPOT") {
  // TTFT 500, TPOT 150, E2EL 1100; one token: TTFT and E2EL 500.
  const std::vector<RequestRecord> records = {merged(), request(0, {{0.5, 1}})};
  const auto goodput = [&](double ttft, double tpot, double e2el) {
    MetricOptions options;
    options.objectives = {.ttft_ms = ttft, .tpot_ms = tpot, .e2el_ms = e2el};
    return metrics_of(records, options).request_goodput;
  };
  REQUIRE(goodput(501, -1, -1) == Approx(0.2));
  REQUIRE(goodput(499, -1, -1) == 0);
  REQUIRE(goodput(-1, 100, -1) == Approx(0.1));
  REQUIRE(goodput(-1, 151, -1) == Approx(0.2));
  REQUIRE(goodput(-1, -1, 600) == Approx(0.1));
  REQUIRE(goodput(501, 151, 600) == Approx(0.1));
  REQUIRE(goodput(-1, -1, -1) == 0);
  REQUIRE(goodput(-1, 0, -1) == Approx(0.1));
}

TEST_CASE("a client that sends late or computes all the time is called the bottleneck") {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 100; ++i) {
    records.push_back(request(i, {{i + 0.5, 1}}));
    records.back().ready_s -= 0.0005;
  }
  const auto judge = [&](const ClientUse& client) {
    return serve_metrics(records, 100, {}, client);
  };
  REQUIRE_FALSE(judge({}).client_bottleneck);
  REQUIRE(judge({}).client_cpu_share == -1);
  const ServeMetrics busy = judge({.cpu_s = 190, .threads = 2});
  REQUIRE(busy.client_bottleneck);
  REQUIRE(busy.client_cpu_share == Approx(0.95));
  REQUIRE(busy.client_cpu_us_per_message == Approx(1.9e6));
  REQUIRE(busy.client_verdict == "its threads computed for 95 % of the time (limit 90 %)");
  REQUIRE_FALSE(judge({.cpu_s = 190, .threads = 4}).client_bottleneck);
  // Ten late ones of a hundred.
  for (int i = 0; i < 10; ++i) records[static_cast<size_t>(i)].ready_s -= 0.02;
  const ServeMetrics late = judge({.cpu_s = 10});
  REQUIRE(late.client_bottleneck);
  REQUIRE(
      late.client_verdict == "1 of 100 requests was sent 20.50 ms late or more (limit 1.00 ms)");
  REQUIRE_FALSE(serve_metrics(records, 100, {.lag_limit_ms = 30}, {}).client_bottleneck);
}

TEST_CASE("a burst that is planned for one moment does not make the client late") {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 1000; ++i) {
    records.push_back(request(0.0001 * i, {{1, 1}}));
    records.back().ready_s = records.back().planned_s = 0;
  }
  const ServeMetrics m = metrics_of(records);
  REQUIRE(m.lag.max == Approx(99.9));
  REQUIRE_FALSE(m.client_bottleneck);
}

TEST_CASE("probes: latencies of the completed, counts of the rest") {
  std::vector<RequestRecord> probes;
  for (int i = 1; i <= 100; ++i) probes.push_back(request(i, {{i + 0.01 * i, 1}}));
  probes[99].outcome = Outcome::kFailed;
  probes.push_back({});
  const ProbeFigures figures = probe_figures(probes);
  REQUIRE(figures.completed == 99);
  REQUIRE(figures.failed == 1);
  REQUIRE(figures.median_e2el_ms == Approx(500));
  REQUIRE(figures.p99_e2el_ms == Approx(980.2));
  REQUIRE(figures.max_e2el_ms == Approx(990));
  REQUIRE(probe_figures({}).completed == 0);
  REQUIRE(probe_figures({}).p99_e2el_ms == 0);
}

TEST_CASE("goodput words and percentile lists") {
  const auto goodput = [](std::vector<std::string> words) { return parse_goodput(words); };
  const Objectives objectives = goodput({"ttft:200", "tpot:50.5"}).value();
  REQUIRE(objectives.ttft_ms == 200);
  REQUIRE(objectives.tpot_ms == 50.5);
  REQUIRE(objectives.e2el_ms == -1);
  REQUIRE_FALSE(goodput({}).value().any());
  for (const char* word :
       {"ttft", "ttft:", "ttft:x", "ttft:-1", "ttft:1x", "ttft:nan", "itl:5", ""}) {
    CAPTURE(word);
    const memory::Status status = goodput({word}).status();
    REQUIRE(status.code() == memory::Code::kInvalidArgument);
    REQUIRE(status.message().find("--goodput: expected ") == 0);
    REQUIRE(status.message().find("found \"" + std::string(word) + "\"") != std::string::npos);
  }
  REQUIRE(goodput({"e2el:1", "e2el:2"}).status().message() == "--goodput: e2el is given twice");
  REQUIRE(parse_percentiles("50,99.9,100").value() == std::vector<double>{50, 99.9, 100});
  for (const char* list : {"", "0", "101", "5,", ",5", "a", "5 ", "-1", "inf"}) {
    CAPTURE(list);
    REQUIRE(parse_percentiles(list).status().message().find("--metric-percentiles: expected") == 0);
  }
}

}  // namespace
}  // namespace engram::tools::bench
