#include "tools/bench/serve_report.h"

#include <time.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <set>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;

constexpr int kWidth = 50;

const std::set<std::string>& metric_names() {
  static const std::set<std::string> names = {
      "ttft", "tpot", "itl", "e2el", "client_queue_time", "e2el_including_client_queue"};
  return names;
}

// Shortest digits that read back as `value`.
std::string digits(double value) {
  char text[40];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  ENGRAM_CHECK(error == std::errc());
  return {text, end};
}

class Block {
 public:
  // `title` in the middle; what cannot be halved is longer on the right.
  void header(const std::string& title, char fill) {
    const size_t rest = kWidth - std::min<size_t>(title.size(), kWidth);
    text_ += std::string(rest / 2, fill) + title + std::string(rest - rest / 2, fill) + "\n";
  }
  void count(const char* label, int64_t value) {
    char line[120];
    std::snprintf(line, sizeof line, "%-40s %-10lld\n", label, static_cast<long long>(value));
    text_ += line;
  }
  void number(const std::string& label, double value) {
    char line[160];
    std::snprintf(line, sizeof line, "%-40s %-10.2f\n", label.c_str(), value);
    text_ += line;
  }
  void line(const std::string& text) { text_ += text + "\n"; }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void add_totals(const ServeRun& run, const ServeMetrics& m, Block* block) {
  block->count("Successful requests:", m.completed);
  block->count("Failed requests:", m.failed);
  if (run.max_concurrency > 0) block->count("Maximum request concurrency:", run.max_concurrency);
  if (!run.timed_trace && std::isfinite(run.arrivals.request_rate)) {
    block->number("Request rate configured (RPS):", run.arrivals.request_rate);
  }
  block->number("Benchmark duration (s):", m.duration_s);
  block->count("Total input tokens:", m.input_tokens);
  block->count("Total generated tokens:", m.output_tokens);
  block->number("Request throughput (req/s):", m.request_throughput);
  if (run.objectives.any()) block->number("Request goodput (req/s):", m.request_goodput);
  block->number("Output token throughput (tok/s):", m.output_throughput);
  block->number("Peak output token throughput (tok/s):", m.max_output_tokens_per_s);
  block->number("Peak concurrent requests:", static_cast<double>(m.max_concurrent_requests));
  block->number("Total token throughput (tok/s):", m.total_token_throughput);
}

void add_probes(const ServeRun& run, Block* block) {
  if (run.probe_rate <= 0) return;
  const ProbeFigures probes = probe_figures(run.probes);
  block->header("Probe Requests", '-');
  block->count("Probe requests completed:", probes.completed);
  block->count("Probe requests failed:", probes.failed);
  if (probes.completed == 0) return;
  block->number("Median probe E2EL (ms):", probes.median_e2el_ms);
  block->number("P99 probe E2EL (ms):", probes.p99_e2el_ms);
  block->number("Max probe E2EL (ms):", probes.max_e2el_ms);
}

void add_metric(const ServeRun& run, const NamedMetric& metric, Block* block) {
  const std::string label = metric.label;
  block->header(metric.header, '-');
  block->number("Mean " + label + " (ms):", metric.values->mean);
  block->number("Median " + label + " (ms):", metric.values->median);
  for (const double wanted : run.percentiles) {
    for (const auto& [percent, value] : metric.values->percentiles) {
      if (percent != wanted) continue;
      std::string words(1, 'P');
      words.append(percentile_word(percent)).append(" ").append(label).append(" (ms):");
      block->number(words, value);
      break;
    }
  }
}

void add_client(const ServeMetrics& m, Block* block) {
  block->header("Client", '-');
  if (m.cancelled > 0) block->count("Cancelled requests:", m.cancelled);
  if (m.not_sent > 0) block->count("Requests not sent:", m.not_sent);
  if (m.messages > 0) {
    block->number(
        "Tokens per message:",
        static_cast<double>(m.message_tokens) / static_cast<double>(m.messages));
  }
  if (m.client_cpu_us_per_message >= 0) {
    block->number("Client CPU per message (us):", m.client_cpu_us_per_message);
  }
  block->number("P50 send lag (ms):", m.lag_p50_ms);
  block->number("P99 send lag (ms):", m.lag_p99_ms);
  block->number("Max send lag (ms):", m.lag.max);
}

// "" for what did not happen.
std::string csv_number(double value) {
  return value < 0 ? "" : digits(value);
}

// Quoted where the text would part columns or lines.
std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted(1, '"');
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  quoted += '"';
  return quoted;
}

// As Python prints a float.
std::string rate_word(double rate) {
  if (std::isinf(rate)) return "inf";
  const std::string text = digits(rate);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string without_slashes(std::string text) {
  std::replace(text.begin(), text.end(), '/', '-');
  return text;
}

}  // namespace

memory::Result<std::vector<std::string>> parse_percentile_metrics(const std::string& list) {
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    names.push_back(list.substr(begin, end - begin));
    if (!metric_names().contains(names.back())) {
      return invalid_argument(
          "--percentile-metrics: expected ttft, tpot, itl, e2el, client_queue_time or "
          "e2el_including_client_queue, parted by commas, found \"" +
          names.back() + "\"");
    }
    begin = end + 1;
  }
  return names;
}

memory::Result<std::pair<std::string, std::string>> parse_metadata(const std::string& word) {
  const size_t equals = word.find('=');
  if (equals == 0 || equals == std::string::npos) {
    return invalid_argument("--metadata: expected KEY=VALUE, found \"" + word + "\"");
  }
  return std::pair(word.substr(0, equals), word.substr(equals + 1));
}

std::vector<double> report_percentiles(std::span<const double> console) {
  std::set<double> all = {50, 90, 95, 99};
  all.insert(console.begin(), console.end());
  return {all.begin(), all.end()};
}

std::vector<NamedMetric> named_metrics(const ServeRun& run, const ServeMetrics& m) {
  std::vector<NamedMetric> metrics = {
      {"ttft", "TTFT", "Time to First Token", &m.ttft},
      {"tpot", "TPOT", "Time per Output Token (excl. 1st token)", &m.tpot},
      {"itl", "ITL", "Inter-token Latency", &m.itl},
      {"e2el", "E2EL", "End-to-end Latency", &m.e2el}};
  if (run.max_concurrency == 0) return metrics;
  metrics.push_back(
      {"client_queue_time", "Client Queue Time", "Client Queue Time", &m.client_queue});
  const bool planned = run.timed_trace || run.arrivals.ramp_up != RampUp::kNone ||
                       std::isfinite(run.arrivals.request_rate);
  if (planned) {
    metrics.push_back(
        {"e2el_including_client_queue", "E2EL incl. Client Queue",
         "End-to-end Latency incl. Client Queue", &m.e2el_with_queue});
  }
  return metrics;
}

std::string percentile_word(double percent) {
  return digits(percent);
}

std::string local_time(int64_t unix_s, const char* format) {
  const time_t seconds = static_cast<time_t>(unix_s);
  tm parts{};
  ::localtime_r(&seconds, &parts);
  char text[64];
  return {text, ::strftime(text, sizeof text, format, &parts)};
}

std::string console_block(const ServeRun& run, const ServeMetrics& metrics) {
  Block block;
  block.header(" Serving Benchmark Result ", '=');
  add_totals(run, metrics, &block);
  add_probes(run, &block);
  for (const NamedMetric& metric : named_metrics(run, metrics)) {
    const auto& chosen = run.percentile_metrics;
    if (std::find(chosen.begin(), chosen.end(), metric.name) == chosen.end()) continue;
    add_metric(run, metric, &block);
  }
  add_client(metrics, &block);
  block.header("", '=');
  if (metrics.client_bottleneck) {
    block.line("warning: the client was the bottleneck: " + metrics.client_verdict);
  }
  if (!run.server_lost.empty()) block.line("warning: the server was lost: " + run.server_lost);
  if (run.interrupted) block.line("warning: interrupted; figures are of what was run till then");
  return block.take();
}

std::string records_csv(std::span<const RequestRecord> records) {
  std::string text =
      "request,outcome,planned_s,ready_s,sent_s,first_token_s,done_s,ttft_s,tpot_s,e2el_s,"
      "prompt_tokens,output_tokens,messages,bytes,error\n";
  int64_t number = 0;
  for (const RequestRecord& r : records) {
    const bool sent = was_sent(r);
    const std::string cells[] = {
        std::to_string(number++),
        outcome_name(r.outcome),
        csv_number(r.planned_s),
        csv_number(r.ready_s),
        csv_number(r.sent_s),
        csv_number(r.messages.empty() ? -1 : r.messages.front().at_s),
        csv_number(r.done_s),
        csv_number(sent ? ttft_of(r) : -1),
        csv_number(sent ? tpot_of(r) : -1),
        csv_number(sent ? e2el_of(r) : -1),
        std::to_string(r.prompt_tokens),
        std::to_string(r.output_tokens),
        std::to_string(r.messages.size()),
        std::to_string(r.bytes),
        csv_text(r.error)};
    for (const std::string& cell : cells) {
      text += cell;
      text += &cell == std::end(cells) - 1 ? '\n' : ',';
    }
  }
  return text;
}

std::string result_file_name(const ServeRun& run) {
  std::string name = without_slashes(run.label.empty() ? run.backend : run.label);
  name += '-';
  if (run.arrivals.ramp_up != RampUp::kNone) {
    name += std::string("ramp-up-").append(ramp_up_name(run.arrivals.ramp_up)).append("-");
    name += digits(run.arrivals.ramp_up_start_rps).append("qps-");
    name += digits(run.arrivals.ramp_up_end_rps).append("qps-");
  } else if (run.timed_trace) {
    name += "trace-";
  } else {
    name += rate_word(run.arrivals.request_rate).append("qps-");
  }
  if (run.max_concurrency > 0) {
    name += std::string("concurrency").append(std::to_string(run.max_concurrency)).append("-");
  }
  name += run.model_id.substr(run.model_id.rfind('/') + 1).append("-");
  return name + local_time(run.started_at, "%Y%m%d-%H%M%S") + ".json";
}

}  // namespace engram::tools::bench
