// The JSON of a serve run.
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/bench/serve_report.h"

namespace engram::tools::bench {
namespace {

using Json = nlohmann::ordered_json;

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

// JSON has no infinity; vLLM writes the word for an infinite rate.
Json number_or_inf(double value) {
  return std::isinf(value) ? Json("inf") : Json(value);
}

// The ends of a ramp are whole numbers there.
Json whole_or_number(double value) {
  return value == std::floor(value) && value < 1e15 ? Json(static_cast<int64_t>(value))
                                                    : Json(value);
}

// For figures of which -1 means: not known.
Json known(double value) {
  return value < 0 ? Json(nullptr) : Json(value);
}

Json measured(bool any, double value) {
  return any ? Json(value) : Json(nullptr);
}

void add_setup(const ServeRun& run, Json* out) {
  Json& j = *out;
  // First, so that ours take the place of a word of the same name.
  for (const auto& [key, value] : run.metadata) j[key] = value;
  j["date"] = local_time(run.started_at, "%Y%m%d-%H%M%S");
  j["endpoint_type"] = run.backend;
  j["backend"] = run.backend;
  j["label"] = text_or_null(run.label);
  j["model_id"] = run.model_id;
  j["tokenizer_id"] = text_or_null(run.tokenizer_id);
  j["num_prompts"] = run.num_prompts;
  j["request_rate"] = number_or_inf(run.arrivals.request_rate);
  j["burstiness"] = number_or_inf(run.arrivals.burstiness);
  j["max_concurrency"] = run.max_concurrency > 0 ? Json(run.max_concurrency) : Json(nullptr);
  if (run.arrivals.ramp_up == RampUp::kNone) return;
  j["ramp_up_strategy"] = ramp_up_name(run.arrivals.ramp_up);
  j["ramp_up_start_rps"] = whole_or_number(run.arrivals.ramp_up_start_rps);
  j["ramp_up_end_rps"] = whole_or_number(run.arrivals.ramp_up_end_rps);
}

void add_totals(const ServeRun& run, const ServeMetrics& m, Json* out) {
  Json& j = *out;
  j["duration"] = m.duration_s;
  j["completed"] = m.completed;
  j["failed"] = m.failed;
  j["total_input_tokens"] = m.input_tokens;
  j["total_output_tokens"] = m.output_tokens;
  j["request_throughput"] = m.request_throughput;
  j["request_goodput"] = measured(run.objectives.any(), m.request_goodput);
  j["output_throughput"] = m.output_throughput;
  j["total_token_throughput"] = m.total_token_throughput;
  j["max_output_tokens_per_s"] = m.max_output_tokens_per_s;
  j["max_concurrent_requests"] = m.max_concurrent_requests;
  j["rtfx"] = 0.;  // of speech recognition
  if (run.probe_rate > 0) {
    const ProbeFigures probes = probe_figures(run.probes);
    j["probe_completed"] = probes.completed;
    j["probe_failed"] = probes.failed;
    j["probe_median_e2el_ms"] = probes.median_e2el_ms;
    j["probe_p99_e2el_ms"] = probes.p99_e2el_ms;
    j["probe_max_e2el_ms"] = probes.max_e2el_ms;
  }
  if (run.rate_changes.empty()) return;
  j["rps_change_events"] = Json::array();
  for (const RateChange& change : run.rate_changes) {
    const double at = static_cast<double>(run.started_at) + change.at_s;
    char fraction[16];
    const double whole = std::floor(at);
    std::snprintf(fraction, sizeof fraction, ".%06d", static_cast<int>(1e6 * (at - whole)));
    const std::string time = local_time(static_cast<int64_t>(whole), "%Y-%m-%dT%H:%M:%S");
    j["rps_change_events"].push_back({{"rps", change.rps}, {"timestamp", time + fraction}});
  }
}

// mean_ttft_ms and so on; `prefix` before each.
void add_distribution(
    const Distribution& d, const std::string& prefix, const std::string& name, Json* out) {
  const std::string key = "_" + name + "_ms";
  (*out)[prefix + "mean" + key] = d.mean;
  (*out)[prefix + "median" + key] = d.median;
  (*out)[prefix + "std" + key] = d.std;
  for (const auto& [percent, value] : d.percentiles) {
    (*out)[prefix + "p" + percentile_word(percent) + key] = value;
  }
}

// -1 in our records is 0 in vLLM's arrays.
double or_zero(double value) {
  return value < 0 ? 0 : value;
}

void add_details(std::span<const RequestRecord> records, Json* out) {
  Json& j = *out;
  for (const char* key :
       {"input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times",
        "generated_texts", "errors", "x_outcomes", "x_planned_times", "x_ready_times",
        "x_message_tokens"}) {
    j[key] = Json::array();
  }
  for (const RequestRecord& r : records) {
    if (!was_sent(r)) continue;
    const bool completed = r.outcome == Outcome::kCompleted;
    j["input_lens"].push_back(r.prompt_tokens);
    j["output_lens"].push_back(completed ? r.output_tokens : 0);
    j["ttfts"].push_back(or_zero(ttft_of(r)));
    j["itls"].push_back(itls_of(r));
    j["latencies"].push_back(or_zero(e2el_of(r)));
    j["start_times"].push_back(r.sent_s);
    j["queue_times"].push_back(r.planned_s < 0 ? 0 : r.sent_s - r.planned_s);
    j["generated_texts"].push_back(r.text);
    j["errors"].push_back(r.error);
    j["x_outcomes"].push_back(outcome_name(r.outcome));
    j["x_planned_times"].push_back(known(r.planned_s));
    j["x_ready_times"].push_back(known(r.ready_s));
    Json tokens = Json::array();
    for (const MessageTime& message : r.messages) tokens.push_back(message.tokens);
    j["x_message_tokens"].push_back(std::move(tokens));
  }
}

void add_run(const ServeRun& run, Json* out) {
  Json& j = *out;
  j["x_kind"] = "serve";
  j["x_schema"] = 1;
  j["x_engram_version"] = run.engram_version;
  j["x_command"] = run.command;
  j["x_dataset"] = run.dataset;
  j["x_timed_trace"] = run.timed_trace;
  j["x_seed"] = run.arrivals.seed;
  j["x_interrupted"] = run.interrupted;
  j["x_server_lost"] = text_or_null(run.server_lost);
  j["x_goodput_ms"] = Json::object();
  if (run.objectives.ttft_ms >= 0) j["x_goodput_ms"]["ttft"] = run.objectives.ttft_ms;
  if (run.objectives.tpot_ms >= 0) j["x_goodput_ms"]["tpot"] = run.objectives.tpot_ms;
  if (run.objectives.e2el_ms >= 0) j["x_goodput_ms"]["e2el"] = run.objectives.e2el_ms;
  j["x_server_before"] = run.server_before;
  j["x_server_after"] = run.server_after;
}

void add_client(const ServeMetrics& m, Json* out) {
  Json& j = *out;
  const double messages = static_cast<double>(m.messages);
  j["x_cancelled"] = m.cancelled;
  j["x_dropped_sends"] = m.not_sent;
  j["x_partial_output_tokens"] = m.partial_output_tokens;
  j["x_messages"] = m.messages;
  j["x_message_tokens_total"] = m.message_tokens;
  j["x_bytes"] = m.bytes;
  j["x_tokens_per_message"] =
      measured(m.messages > 0, static_cast<double>(m.message_tokens) / messages);
  j["x_messages_per_s"] = measured(m.duration_s > 0, messages / m.duration_s);
  j["x_client_cpu_s"] = known(m.client_cpu_s);
  j["x_client_cpu_us_per_message"] = known(m.client_cpu_us_per_message);
  j["x_client_cpu_share"] = known(m.client_cpu_share);
  const bool lags = m.lag.count > 0;
  j["x_lag_mean_ms"] = measured(lags, m.lag.mean);
  j["x_lag_p50_ms"] = measured(lags, m.lag_p50_ms);
  j["x_lag_p99_ms"] = measured(lags, m.lag_p99_ms);
  j["x_lag_max_ms"] = measured(lags, m.lag.max);
  j["x_client_bottleneck"] = m.client_bottleneck;
  j["x_client_verdict"] = text_or_null(m.client_verdict);
}

}  // namespace

std::string result_json(
    const ServeRun& run, const ServeMetrics& metrics, std::span<const RequestRecord> records) {
  Json j;
  add_setup(run, &j);
  add_totals(run, metrics, &j);
  Json counts;
  for (const NamedMetric& metric : named_metrics(run, metrics)) {
    add_distribution(*metric.values, "", metric.name, &j);
    counts[metric.name] = metric.values->count;
  }
  add_run(run, &j);
  j["x_counts"] = counts;
  for (const NamedMetric& metric : named_metrics(run, metrics)) {
    const Distribution& d = *metric.values;
    j[std::string("x_max_") + metric.name + "_ms"] = measured(d.count > 0, d.max);
  }
  add_distribution(metrics.itl_per_token, "x_", "itl_per_token", &j);
  add_client(metrics, &j);
  if (run.save_detailed) add_details(records, &j);
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace engram::tools::bench
