// Reading one result of a load run.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tools/bench/number_text.h"
#include "tools/bench/result_readers.h"
#include "tools/bench/result_values.h"

namespace engram::tools::bench {
namespace {

using engine::JsonCursor;
using memory::Status;
using nlohmann::json;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr std::array<std::string_view, 13> kCounted = {
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
    "request_goodput",
    "request_goodput:",  // as vLLM writes it
    "completed",
    "failed",
    "duration",
    "total_input_tokens",
    "total_output_tokens",
    "max_output_tokens_per_s",
    "max_concurrent_requests",
    "rtfx"};

// Not settings: they differ between any two runs or are read on their own.
constexpr std::array<std::string_view, 11> kOwnFields = {
    "date",
    "label",
    "x_kind",
    "x_schema",
    "x_command",
    "x_client_bottleneck",
    "x_client_verdict",
    "x_interrupted",
    "x_server_lost",
    "x_server_before",
    "x_server_after"};
// Numbers that were asked for, not measured.
constexpr std::array<std::string_view, 2> kNumericSettings = {"x_seed", "x_goodput_ms"};

bool starts_with_any(std::string_view name, std::initializer_list<std::string_view> heads) {
  return std::any_of(
      heads.begin(), heads.end(), [&](std::string_view head) { return name.starts_with(head); });
}

// "p99_ttft_ms", "p99.9_itl_ms".
bool is_percentile(std::string_view name) {
  return name.size() > 2 && name[0] == 'p' && name[1] >= '0' && name[1] <= '9';
}

bool is_metric(std::string_view name) {
  if (std::find(kCounted.begin(), kCounted.end(), name) != kCounted.end()) return true;
  if (name.starts_with("spec_decode_")) return true;
  if (!name.ends_with("_ms")) return false;
  return is_percentile(name) || starts_with_any(name, {"mean_", "median_", "std_", "max_"});
}

Status read_rate(const JsonCursor& at, double* rate) {
  *rate = std::numeric_limits<double>::infinity();
  if (at.is_null()) return {};
  if (at.value().is_string() && at.value() == "inf") return {};
  if (!at.value().is_number()) return at.expected("a number or \"inf\"");
  *rate = at.value().get<double>();
  return *rate > 0 ? Status() : at.expected("a positive number or \"inf\"");
}

Status read_gaps(const JsonCursor& at, std::vector<std::vector<double>>* out) {
  return read_list(at, [&](const JsonCursor& gaps) {
    out->emplace_back();
    return read_numbers(gaps, &out->back());
  });
}

// All lists that are there hold one entry per request; those that are not become NaN.
Status same_length(const JsonCursor& at, size_t requests, std::vector<double>* list) {
  if (list->empty()) list->assign(requests, kNan);
  if (list->size() == requests) return {};
  return memory::invalid_argument(
      at.where() + ": expected " + std::to_string(requests) + " entries, as ttfts has, found " +
      std::to_string(list->size()));
}

// vLLM writes 0 for what a failed request has not.
void drop_failed(const std::vector<bool>& failed, ServeRequests* r) {
  for (size_t i = 0; i < r->size(); ++i) {
    const bool bad = i < failed.size() && failed[i];
    if (bad || !(r->ttft_s[i] > 0)) r->ttft_s[i] = kNan;
    if (bad) r->latency_s[i] = kNan;
    if (!std::isnan(r->latency_s[i])) continue;
    if (bad || r->itl_s.empty() || std::isnan(r->ttft_s[i])) continue;
    r->latency_s[i] = r->ttft_s[i];
    for (const double gap : r->itl_s[i]) r->latency_s[i] += std::isfinite(gap) ? gap : 0;
  }
}

// An error, or an outcome of ours other than "completed": a cancelled request has no error.
Status read_failed(const JsonCursor& root, std::vector<bool>* failed) {
  const Status errors = read_list(root["errors"], [&](const JsonCursor& at) {
    failed->push_back(at.value().is_string() && !at.value().get_ref<const std::string&>().empty());
    return Status();
  });
  if (!errors.ok()) return errors;
  size_t i = 0;
  return read_list(root["x_outcomes"], [&](const JsonCursor& at) {
    std::string outcome;
    ENGRAM_RETURN_IF_ERROR(at.read(outcome));
    if (i == failed->size()) failed->push_back(false);
    if (outcome != "completed") (*failed)[i] = true;
    ++i;
    return Status();
  });
}

Status read_requests(const JsonCursor& root, ServeRequests* r) {
  ENGRAM_RETURN_IF_ERROR(read_numbers(root["ttfts"], &r->ttft_s));
  if (r->ttft_s.empty()) return {};
  ENGRAM_RETURN_IF_ERROR(read_numbers(root["latencies"], &r->latency_s));
  ENGRAM_RETURN_IF_ERROR(read_numbers(root["start_times"], &r->start_s));
  ENGRAM_RETURN_IF_ERROR(read_numbers(root["input_lens"], &r->input_tokens));
  ENGRAM_RETURN_IF_ERROR(read_numbers(root["output_lens"], &r->output_tokens));
  ENGRAM_RETURN_IF_ERROR(read_gaps(root["itls"], &r->itl_s));
  std::vector<bool> failed;
  ENGRAM_RETURN_IF_ERROR(read_failed(root, &failed));
  const size_t n = r->size();
  ENGRAM_RETURN_IF_ERROR(same_length(root["latencies"], n, &r->latency_s));
  ENGRAM_RETURN_IF_ERROR(same_length(root["start_times"], n, &r->start_s));
  ENGRAM_RETURN_IF_ERROR(same_length(root["input_lens"], n, &r->input_tokens));
  ENGRAM_RETURN_IF_ERROR(same_length(root["output_lens"], n, &r->output_tokens));
  if (!r->itl_s.empty() && r->itl_s.size() != n) {
    return root["itls"].expected(std::to_string(n) + " lists, as ttfts has entries");
  }
  drop_failed(failed, r);
  double first = std::numeric_limits<double>::infinity();
  for (const double start : r->start_s) first = start < first ? start : first;
  for (double& start : r->start_s) start -= first;
  return {};
}

// Throughputs, then latencies by kind, then ours: an object has no order of its own.
size_t rank_of(const Metric& metric) {
  const std::string_view name = metric.name;
  const auto counted = std::find(kCounted.begin(), kCounted.end(), name);
  if (counted != kCounted.end()) return static_cast<size_t>(counted - kCounted.begin());
  if (name.starts_with("x_")) return 100;
  constexpr std::array<std::string_view, 4> kKinds = {
      "_ttft_ms", "_tpot_ms", "_itl_ms", "_e2el_ms"};
  size_t rank = kCounted.size();
  for (const std::string_view kind : kKinds) {
    if (name.ends_with(kind)) return rank;
    ++rank;
  }
  return rank;
}

bool is_setting(std::string_view name, const json& value) {
  if (std::find(kNumericSettings.begin(), kNumericSettings.end(), name) != kNumericSettings.end()) {
    return true;
  }
  if (!value.is_object()) return !value.is_number() && !value.is_null();
  return std::any_of(value.begin(), value.end(), [](const json& v) { return v.is_string(); });
}

Status read_scalars(const JsonCursor& root, ServeResult* result) {
  for (const auto& [name, value] : root.value().items()) {
    const bool own = std::find(kOwnFields.begin(), kOwnFields.end(), name) != kOwnFields.end();
    if (own || value.is_array()) continue;
    if (is_metric(name)) {
      std::optional<double> number;
      ENGRAM_RETURN_IF_ERROR(read_number(root[name], &number));
      const bool colon = name.back() == ':';
      result->metrics.push_back({colon ? name.substr(0, name.size() - 1) : name, number});
    } else if (name.starts_with("x_") && !is_setting(name, value)) {
      add_metrics(name, value, &result->metrics);
    } else {
      add_settings(name, value, &result->settings);
    }
  }
  std::stable_sort(
      result->metrics.begin(), result->metrics.end(),
      [](const Metric& a, const Metric& b) { return rank_of(a) < rank_of(b); });
  return {};
}

// What the server counted meanwhile, of its counters before and after.
Status read_server_counts(const JsonCursor& root, ServeResult* result) {
  const JsonCursor before = root["x_server_before"];
  return read_members(root["x_server_after"], [&](const std::string& name, const JsonCursor& at) {
    std::optional<double> end;
    std::optional<double> begin;
    ENGRAM_RETURN_IF_ERROR(read_number(at, &end));
    if (before.value().is_object()) ENGRAM_RETURN_IF_ERROR(read_number(before[name], &begin));
    if (end && begin) result->metrics.push_back({"x_server." + name, *end - *begin});
    return Status();
  });
}

// What makes the run's figures doubtful.
Status read_warnings(const JsonCursor& root, ServeResult* result) {
  bool bottleneck = false;
  std::string verdict;
  ENGRAM_RETURN_IF_ERROR(read_flag(root["x_client_bottleneck"], &bottleneck));
  ENGRAM_RETURN_IF_ERROR(read_text(root["x_client_verdict"], &verdict));
  if (bottleneck) {
    result->warnings.push_back(
        "The client was the bottleneck: these are figures of the load generator, not of the "
        "server." +
        (verdict.empty() ? "" : " " + verdict));
  }
  bool interrupted = false;
  ENGRAM_RETURN_IF_ERROR(read_flag(root["x_interrupted"], &interrupted));
  if (interrupted) result->warnings.push_back("The run was interrupted.");
  std::string lost;
  ENGRAM_RETURN_IF_ERROR(read_text(root["x_server_lost"], &lost));
  if (!lost.empty()) result->warnings.push_back("The server was lost: " + lost);
  const double failed = result->metric("failed").value_or(0);
  if (failed > 0) {
    result->warnings.push_back(
        short_number(failed) + " requests failed: they are in no latency and no throughput.");
  }
  return {};
}

}  // namespace

std::optional<double> ServeResult::metric(std::string_view name) const {
  for (const Metric& m : metrics) {
    if (m.name == name) return m.value;
  }
  return std::nullopt;
}

Status read_serve_result(const JsonCursor& root, ServeResult* result) {
  ENGRAM_RETURN_IF_ERROR(read_text(root["date"], &result->date));
  ENGRAM_RETURN_IF_ERROR(read_text(root["label"], &result->label));
  ENGRAM_RETURN_IF_ERROR(read_text(root["model_id"], &result->model));
  ENGRAM_RETURN_IF_ERROR(read_rate(root["request_rate"], &result->request_rate));
  ENGRAM_RETURN_IF_ERROR(read_number(root["max_concurrency"], &result->max_concurrency));
  ENGRAM_RETURN_IF_ERROR(read_scalars(root, result));
  ENGRAM_RETURN_IF_ERROR(read_server_counts(root, result));
  ENGRAM_RETURN_IF_ERROR(read_requests(root, &result->requests));
  return read_warnings(root, result);
}

}  // namespace engram::tools::bench
