#include "tools/bench/compare_results.h"

#include <algorithm>
#include <cmath>

#include "tools/bench/number_text.h"
#include "tools/bench/overhead_curves.h"
#include "tools/bench/quantile_difference.h"
#include "tools/bench/report_settings.h"
#include "tools/bench/serve_quantiles.h"
#include "tools/bench/serve_quantities.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

// Rounds of different runs share no noise that would cancel, so they are never paired.
constexpr const char* kRounds = "ratio of the medians of the rounds, each run resampled, bootstrap";
constexpr const char* kRequests =
    "ratio of the quantiles of the requests, each run's requests resampled, bootstrap";
constexpr const char* kOverheads =
    "difference of the medians of the rounds' overheads, each run resampled, bootstrap";

Direction direction_of(const std::string& metric) {
  const auto holds = [&](const char* part) { return metric.find(part) != std::string::npos; };
  if (holds("throughput") || holds("goodput") || holds("gbps") || holds("tokens_per_s") ||
      metric == "completed" || metric == "rtfx") {
    return Direction::kHigherBetter;
  }
  if (metric.ends_with("_ms") || holds("exposed_wait") || metric == "failed" ||
      metric == "duration") {
    return Direction::kLowerBetter;
  }
  return Direction::kNeither;
}

MetricDifference plain_difference(
    const std::string& metric, std::optional<double> a, std::optional<double> b) {
  MetricDifference d{.point = "", .metric = metric, .a = a, .b = b, .method = ""};
  d.direction = direction_of(metric);
  if (a && b && *a > 0) d.difference = 100 * (*b / *a - 1);
  if (d.difference && !std::isfinite(*d.difference)) d.difference.reset();
  return d;
}

// A ratio becomes a difference in percent.
void set_interval(const Estimate& ratio, const char* method, MetricDifference* d) {
  d->low = 100 * (ratio.low - 1);
  d->high = 100 * (ratio.high - 1);
  d->method = method;
}

// "median_ttft_ms" and "p99_e2el_ms" are quantiles of what latencies_ms gives; the rest is not.
struct QuantileOf {
  Latency latency;
  double share;
};
std::optional<QuantileOf> quantile_of(const std::string& metric) {
  const size_t cut = metric.find('_');
  if (cut == std::string::npos) return std::nullopt;
  const std::string head = metric.substr(0, cut);
  const std::string tail = metric.substr(cut);
  QuantileOf found{Latency::kTtft, 0.5};
  if (tail == "_tpot_ms") {
    found.latency = Latency::kTpot;
  } else if (tail == "_e2el_ms") {
    found.latency = Latency::kE2el;
  } else if (tail != "_ttft_ms") {
    return std::nullopt;
  }
  if (head == "median") return found;
  char* end = nullptr;
  if (head.size() < 2 || head[0] != 'p') return std::nullopt;
  found.share = std::strtod(head.c_str() + 1, &end) / 100;
  const bool good = *end == '\0' && found.share > 0 && found.share < 1;
  return good ? std::optional<QuantileOf>(found) : std::nullopt;
}

void compare_serve(const ServeResult& a, const ServeResult& b, RunComparison* out) {
  out->kind = "serve";
  out->a = describe_run(a) + " (" + a.file + ")";
  out->b = describe_run(b) + " (" + b.file + ")";
  out->settings = differing_settings({{"A", a.settings}, {"B", b.settings}});
  for (const std::string& warning : a.warnings) out->warnings.push_back("A: " + warning);
  for (const std::string& warning : b.warnings) out->warnings.push_back("B: " + warning);
  for (const Metric& metric : a.metrics) {
    const std::optional<double> of_b = b.metric(metric.name);
    if (!metric.value && !of_b) continue;
    if (metric.name.starts_with("p50_") && a.metric("median_" + metric.name.substr(4))) continue;
    MetricDifference d = plain_difference(metric.name, metric.value, of_b);
    if (const std::optional<QuantileOf> q = quantile_of(metric.name); q && d.difference) {
      const std::optional<Estimate> ratio = compare_quantiles(
          latencies_ms(a.requests, q->latency), latencies_ms(b.requests, q->latency), q->share,
          Between::kRatio);
      if (ratio) set_interval(*ratio, kRequests, &d);
    }
    out->metrics.push_back(std::move(d));
  }
  const bool detailed = a.requests.size() > 0 && b.requests.size() > 0;
  out->notes.push_back(
      detailed ? "Intervals take the requests of a run as independent; what differs from one start "
                 "of the server to the next is not in them. Gaps (ITL) within a request are not "
                 "independent and throughputs are one figure per run: they have no interval."
               : "No intervals: both runs need --save-detailed for those.");
}

// How many percent slower the arm was than its baseline, per round.
std::vector<double> overheads_by_round(const OverheadPoint& p, const OverheadComparison& c) {
  const auto samples_of = [&](const std::string& key) -> const std::vector<double>* {
    for (const ArmResult& arm : p.arms) {
      if (arm.key != key) continue;
      const RoundSamples* rate = arm.rate(c.metric);
      if (rate != nullptr) return &rate->samples;
    }
    return nullptr;
  };
  const std::vector<double>* arm = samples_of(c.arm);
  const std::vector<double>* base = samples_of(c.baseline);
  std::vector<double> percent;
  if (arm == nullptr || base == nullptr || arm->size() != base->size()) return percent;
  const bool higher = direction_of(c.metric) == Direction::kHigherBetter;
  for (size_t i = 0; i < arm->size(); ++i) {
    const double ratio = higher ? (*base)[i] / (*arm)[i] : (*arm)[i] / (*base)[i];
    percent.push_back(100 * (ratio - 1));
  }
  return percent;
}

void compare_overheads(
    const OverheadPoint& a, const OverheadPoint& b, std::vector<MetricDifference>* out) {
  for (const OverheadComparison& of_a : a.comparisons) {
    for (const OverheadComparison& of_b : b.comparisons) {
      const bool same =
          of_a.arm == of_b.arm && of_a.baseline == of_b.baseline && of_a.metric == of_b.metric;
      if (!same) continue;
      MetricDifference d{
          .point = describe_point(a),
          .metric = "overhead of " + of_a.arm + " over " + of_a.baseline + ", " +
                    metric_title(of_a.metric) + " (%)",
          .a = of_a.percent,
          .b = of_b.percent,
          .points = true,
          .direction = Direction::kLowerBetter,
          .method = ""};
      if (d.a && d.b) d.difference = *d.b - *d.a;
      const std::optional<Estimate> difference = compare_quantiles(
          overheads_by_round(a, of_a), overheads_by_round(b, of_b), 0.5, Between::kDifference);
      if (difference && d.difference) {
        d.low = difference->low;
        d.high = difference->high;
        d.method = kOverheads;
      }
      out->push_back(std::move(d));
    }
  }
}

void compare_arms(
    const OverheadPoint& a, const OverheadPoint& b, std::vector<MetricDifference>* out) {
  for (const ArmResult& of_a : a.arms) {
    const auto same = [&](const ArmResult& arm) { return arm.key == of_a.key; };
    const auto of_b = std::find_if(b.arms.begin(), b.arms.end(), same);
    if (of_b == b.arms.end()) continue;
    for (const RoundSamples& rate : of_a.rates) {
      const RoundSamples* other = of_b->rate(rate.metric);
      if (other == nullptr) continue;
      MetricDifference d = plain_difference(rate.metric, rate.median, other->median);
      d.point = describe_point(a);
      d.metric = "arm " + of_a.key + ": " + rate.metric;
      const std::optional<Estimate> ratio =
          compare_quantiles(rate.samples, other->samples, 0.5, Between::kRatio);
      if (ratio && d.difference) set_interval(*ratio, kRounds, &d);
      out->push_back(std::move(d));
    }
    MetricDifference wait =
        plain_difference("exposed_wait_us", of_a.wait.p99_us, of_b->wait.p99_us);
    wait.point = describe_point(a);
    wait.metric = "arm " + of_a.key + ": exposed_wait_us p99";
    if (wait.a && wait.b) out->push_back(std::move(wait));
  }
}

void compare_overhead(const OverheadResult& a, const OverheadResult& b, RunComparison* out) {
  out->kind = a.kind;
  out->a = run_title(a) + " (" + a.file + ")";
  out->b = run_title(b) + " (" + b.file + ")";
  out->settings = differing_settings({{"A", a.settings}, {"B", b.settings}});
  for (const std::string& warning : a.warnings) out->warnings.push_back("A: " + warning);
  for (const std::string& warning : b.warnings) out->warnings.push_back("B: " + warning);
  const auto find = [](const OverheadResult& run, const std::string& name) {
    return std::find_if(run.points.begin(), run.points.end(), [&](const OverheadPoint& p) {
      return describe_point(p) == name;
    });
  };
  for (const OverheadPoint& point : a.points) {
    const auto other = find(b, describe_point(point));
    if (other == b.points.end()) {
      out->notes.push_back("only in A: " + describe_point(point));
      continue;
    }
    compare_overheads(point, *other, &out->metrics);
    compare_arms(point, *other, &out->metrics);
  }
  for (const OverheadPoint& point : b.points) {
    if (find(a, describe_point(point)) == a.points.end()) {
      out->notes.push_back("only in B: " + describe_point(point));
    }
  }
}

// "serve", "overhead", "paper"; `file` is where it was read.
Status kind_of(const ResultSet& set, const char* which, std::string* kind, std::string* file) {
  if (set.size() != 1) {
    return memory::invalid_argument(
        std::string(which) + ": expected one result to compare, found " +
        std::to_string(set.size()));
  }
  *kind = set.serve.empty() ? set.overhead.front().kind : "serve";
  *file = set.serve.empty() ? set.overhead.front().file : set.serve.front().file;
  return {};
}

}  // namespace

std::string MetricDifference::verdict() const {
  if (!low || !high) return "";
  if (*low <= 0 && *high >= 0) return "not distinguishable";
  const bool more = *low > 0;
  if (direction == Direction::kNeither) return more ? "B higher" : "B lower";
  return more == (direction == Direction::kHigherBetter) ? "B better" : "B worse";
}

Result<RunComparison> compare_results(const ResultSet& a, const ResultSet& b) {
  std::string kind_a;
  std::string kind_b;
  std::string file_a;
  std::string file_b;
  ENGRAM_RETURN_IF_ERROR(kind_of(a, "A", &kind_a, &file_a));
  ENGRAM_RETURN_IF_ERROR(kind_of(b, "B", &kind_b, &file_b));
  if (kind_a != kind_b) {
    return memory::invalid_argument(
        "these are results of different kinds: " + file_a + " is of `bench " + kind_a + "`, " +
        file_b + " of `bench " + kind_b + "`");
  }
  RunComparison comparison;
  if (kind_a == "serve") {
    compare_serve(a.serve.front(), b.serve.front(), &comparison);
  } else {
    compare_overhead(a.overhead.front(), b.overhead.front(), &comparison);
  }
  return comparison;
}

}  // namespace engram::tools::bench
