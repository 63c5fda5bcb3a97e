#include "tools/bench/serve_metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;

// `seconds` becomes milliseconds. Sorts once, where quantile() would for each share.
Distribution distribution_of(std::vector<double> seconds, const std::vector<double>& percentiles) {
  Distribution d;
  d.count = static_cast<int64_t>(seconds.size());
  for (double& value : seconds) value *= 1000;
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) {
    if (seconds.empty()) return 0.;
    const double place = share * static_cast<double>(seconds.size() - 1);
    const size_t below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, seconds.size() - 1);
    const double part = place - static_cast<double>(below);
    return seconds[below] + part * (seconds[above] - seconds[below]);
  };
  d.mean = mean(seconds);
  d.median = at(0.5);
  d.std = standard_deviation(seconds);
  d.max = seconds.empty() ? 0 : seconds.back();
  for (const double p : percentiles) d.percentiles.emplace_back(p, at(p / 100));
  return d;
}

int64_t tokens_of(const RequestRecord& record) {
  int64_t tokens = 0;
  for (const MessageTime& message : record.messages) tokens += message.tokens;
  return tokens;
}

bool meets(const RequestRecord& record, const Objectives& objectives) {
  if (objectives.ttft_ms >= 0 && 1000 * ttft_of(record) > objectives.ttft_ms) return false;
  // tpot_of() is -1 for one token, which meets any objective.
  if (objectives.tpot_ms >= 0 && 1000 * tpot_of(record) > objectives.tpot_ms) return false;
  return objectives.e2el_ms < 0 || 1000 * e2el_of(record) <= objectives.e2el_ms;
}

double peak_tokens_per_s(std::span<const RequestRecord> records) {
  double first = -1;
  for (const RequestRecord& r : records) {
    if (r.outcome == Outcome::kCompleted && (first < 0 || r.sent_s < first)) first = r.sent_s;
  }
  std::vector<int64_t> seconds;
  for (const RequestRecord& r : records) {
    if (r.outcome != Outcome::kCompleted) continue;
    for (const MessageTime& message : r.messages) {
      const size_t second = static_cast<size_t>(std::max(0., message.at_s - first));
      if (second >= seconds.size()) seconds.resize(second + 1);
      seconds[second] += message.tokens;
    }
  }
  return seconds.empty() ? 0
                         : static_cast<double>(*std::max_element(seconds.begin(), seconds.end()));
}

int64_t peak_concurrency(std::span<const RequestRecord> records) {
  std::vector<std::pair<double, int>> changes;
  for (const RequestRecord& r : records) {
    if (!was_sent(r)) continue;
    changes.emplace_back(r.sent_s, 1);
    if (r.done_s >= r.sent_s) changes.emplace_back(r.done_s, -1);
  }
  // Ends come before beginnings of the same moment, except that a request of no length counts.
  std::sort(changes.begin(), changes.end());
  int64_t now = 0;
  int64_t most = changes.empty() ? 0 : 1;
  for (const auto& [at, change] : changes) {
    now += change;
    most = std::max(most, now);
  }
  return most;
}

// The lags in seconds of requests that no other was ready together with.
std::vector<double> lags_outside_bursts(std::span<const RequestRecord> records) {
  std::vector<std::pair<double, double>> sends;  // ready, sent
  for (const RequestRecord& r : records) {
    if (was_sent(r) && r.ready_s >= 0) sends.emplace_back(r.ready_s, r.sent_s);
  }
  std::sort(sends.begin(), sends.end());
  std::vector<double> lags;
  for (size_t i = 0; i < sends.size(); ++i) {
    const bool with_last = i > 0 && sends[i - 1].first == sends[i].first;
    const bool with_next = i + 1 < sends.size() && sends[i + 1].first == sends[i].first;
    if (!with_last && !with_next) lags.push_back(sends[i].second - sends[i].first);
  }
  return lags;
}

void judge_client(
    std::span<const RequestRecord> records, const MetricOptions& options, ServeMetrics* m) {
  char text[160];
  const double lag_ms = 1000 * quantile(lags_outside_bursts(records), 0.99);
  if (lag_ms > options.lag_limit_ms) {
    std::snprintf(
        text, sizeof text, "1 of 100 requests was sent %.2f ms late or more (limit %.2f ms)",
        lag_ms, options.lag_limit_ms);
    m->client_verdict = text;
  } else if (m->client_cpu_share > options.cpu_limit) {
    std::snprintf(
        text, sizeof text, "its threads computed for %.0f %% of the time (limit %.0f %%)",
        100 * m->client_cpu_share, 100 * options.cpu_limit);
    m->client_verdict = text;
  }
  m->client_bottleneck = !m->client_verdict.empty();
}

void count_requests(std::span<const RequestRecord> records, ServeMetrics* m) {
  for (const RequestRecord& r : records) {
    const int64_t tokens = tokens_of(r);
    m->messages += static_cast<int64_t>(r.messages.size());
    m->message_tokens += tokens;
    m->bytes += r.bytes;
    switch (r.outcome) {
      case Outcome::kCompleted:
        ++m->completed;
        m->input_tokens += r.prompt_tokens;
        m->output_tokens += r.output_tokens;
        break;
      case Outcome::kFailed:
        ++m->failed;
        m->partial_output_tokens += tokens;
        break;
      case Outcome::kCancelled:
        ++m->cancelled;
        m->partial_output_tokens += tokens;
        break;
      case Outcome::kNotSent:
        ++m->not_sent;
        break;
    }
  }
}

void measure_latencies(
    std::span<const RequestRecord> records,
    const std::vector<double>& percentiles,
    ServeMetrics* m) {
  std::vector<double> ttft, tpot, itl, itl_per_token, e2el, queue, e2el_with_queue, lag;
  for (const RequestRecord& r : records) {
    if (!was_sent(r)) continue;
    if (r.planned_s >= 0) queue.push_back(r.sent_s - r.planned_s);
    if (r.ready_s >= 0) lag.push_back(r.sent_s - r.ready_s);
    if (r.outcome != Outcome::kCompleted) continue;
    if (const double value = ttft_of(r); value >= 0) ttft.push_back(value);
    if (const double value = tpot_of(r); value >= 0) tpot.push_back(value);
    e2el.push_back(e2el_of(r));
    if (r.planned_s >= 0) e2el_with_queue.push_back(r.done_s - r.planned_s);
    for (size_t i = 1; i < r.messages.size(); ++i) {
      const double gap = r.messages[i].at_s - r.messages[i - 1].at_s;
      itl.push_back(gap);
      const int32_t tokens = std::max(r.messages[i].tokens, 1);
      itl_per_token.insert(itl_per_token.end(), static_cast<size_t>(tokens), gap / tokens);
    }
  }
  m->ttft = distribution_of(std::move(ttft), percentiles);
  m->tpot = distribution_of(std::move(tpot), percentiles);
  m->itl = distribution_of(std::move(itl), percentiles);
  m->itl_per_token = distribution_of(std::move(itl_per_token), percentiles);
  m->e2el = distribution_of(std::move(e2el), percentiles);
  m->client_queue = distribution_of(std::move(queue), percentiles);
  m->e2el_with_queue = distribution_of(std::move(e2el_with_queue), percentiles);
  m->lag = distribution_of(lag, percentiles);
  m->lag_p50_ms = m->lag.median;
  m->lag_p99_ms = 1000 * quantile(lag, 0.99);
}

// The whole of `word`; false for anything else.
bool parse_number(std::string_view word, double* out) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *out);
  return error == std::errc() && end == word.data() + word.size() && std::isfinite(*out);
}

}  // namespace

memory::Result<Objectives> parse_goodput(std::span<const std::string> words) {
  Objectives objectives;
  for (const std::string& word : words) {
    const size_t colon = std::min(word.find(':'), word.size());
    const std::string name = word.substr(0, colon);
    double* value = name == "ttft"   ? &objectives.ttft_ms
                    : name == "tpot" ? &objectives.tpot_ms
                    : name == "e2el" ? &objectives.e2el_ms
                                     : nullptr;
    if (value == nullptr) {
      return invalid_argument(
          "--goodput: expected ttft:MS, tpot:MS or e2el:MS, found \"" + word + "\"");
    }
    if (*value >= 0) return invalid_argument("--goodput: " + name + " is given twice");
    const std::string_view number = std::string_view(word).substr(std::min(colon + 1, word.size()));
    if (!parse_number(number, value) || *value < 0) {
      return invalid_argument(
          "--goodput: expected " + name + ":MS with milliseconds of 0 or more, found \"" + word +
          "\"");
    }
  }
  return objectives;
}

memory::Result<std::vector<double>> parse_percentiles(const std::string& list) {
  std::vector<double> percentiles;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, end - begin);
    double value = 0;
    if (!parse_number(word, &value) || value <= 0 || value > 100) {
      return invalid_argument(
          "--metric-percentiles: expected numbers above 0 and up to 100, parted by commas, found "
          "\"" +
          word + "\"");
    }
    percentiles.push_back(value);
    begin = end + 1;
  }
  return percentiles;
}

bool was_sent(const RequestRecord& record) {
  return record.outcome != Outcome::kNotSent && record.sent_s >= 0;
}

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCompleted:
      return "completed";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kCancelled:
      return "cancelled";
    case Outcome::kNotSent:
      break;
  }
  return "not_sent";
}

ProbeFigures probe_figures(std::span<const RequestRecord> probes) {
  ProbeFigures figures;
  std::vector<double> latencies;
  for (const RequestRecord& r : probes) {
    if (!was_sent(r)) continue;
    if (r.outcome == Outcome::kCompleted) {
      latencies.push_back(e2el_of(r));
    } else {
      ++figures.failed;
    }
  }
  const Distribution d = distribution_of(std::move(latencies), {99});
  figures.completed = d.count;
  figures.median_e2el_ms = d.median;
  figures.p99_e2el_ms = d.percentiles[0].second;
  figures.max_e2el_ms = d.max;
  return figures;
}

double ttft_of(const RequestRecord& record) {
  return record.messages.empty() ? -1 : record.messages.front().at_s - record.sent_s;
}

double e2el_of(const RequestRecord& record) {
  return record.done_s < 0 ? -1 : record.done_s - record.sent_s;
}

double tpot_of(const RequestRecord& record) {
  if (record.output_tokens < 2 || record.messages.empty() || record.done_s < 0) return -1;
  return (e2el_of(record) - ttft_of(record)) / static_cast<double>(record.output_tokens - 1);
}

std::vector<double> itls_of(const RequestRecord& record) {
  std::vector<double> gaps;
  for (size_t i = 1; i < record.messages.size(); ++i) {
    gaps.push_back(record.messages[i].at_s - record.messages[i - 1].at_s);
  }
  return gaps;
}

ServeMetrics serve_metrics(
    std::span<const RequestRecord> records,
    double duration_s,
    const MetricOptions& options,
    const ClientUse& client) {
  ServeMetrics m;
  m.duration_s = duration_s;
  count_requests(records, &m);
  measure_latencies(records, options.percentiles, &m);
  int64_t good = 0;
  for (const RequestRecord& r : records) {
    if (r.outcome == Outcome::kCompleted && meets(r, options.objectives)) ++good;
  }
  if (duration_s > 0) {
    m.request_throughput = static_cast<double>(m.completed) / duration_s;
    m.request_goodput = options.objectives.any() ? static_cast<double>(good) / duration_s : 0;
    m.output_throughput = static_cast<double>(m.output_tokens) / duration_s;
    m.total_token_throughput = static_cast<double>(m.input_tokens + m.output_tokens) / duration_s;
  }
  m.max_output_tokens_per_s = peak_tokens_per_s(records);
  m.max_concurrent_requests = peak_concurrency(records);
  m.client_cpu_s = client.cpu_s;
  if (client.cpu_s >= 0) {
    if (m.messages > 0) {
      m.client_cpu_us_per_message = 1e6 * client.cpu_s / static_cast<double>(m.messages);
    }
    if (duration_s > 0) m.client_cpu_share = client.cpu_s / (duration_s * client.threads);
  }
  judge_client(records, options, &m);
  return m;
}

}  // namespace engram::tools::bench
