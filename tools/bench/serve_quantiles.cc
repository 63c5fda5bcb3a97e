#include "tools/bench/serve_quantiles.h"

#include <cmath>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

const char* name_of(Latency latency) {
  switch (latency) {
    case Latency::kTtft:
      return "ttft";
    case Latency::kTpot:
      return "tpot";
    case Latency::kE2el:
      return "e2el";
    case Latency::kItl:
      return "itl";
  }
  return "";
}

double one_ms(const ServeRequests& r, Latency latency, size_t i) {
  if (latency == Latency::kTtft) return 1e3 * r.ttft_s[i];
  if (latency == Latency::kE2el) return 1e3 * r.latency_s[i];
  const double tokens = r.output_tokens[i];
  if (!(tokens > 1)) return std::nan("");
  return 1e3 * (r.latency_s[i] - r.ttft_s[i]) / (tokens - 1);
}

}  // namespace

std::vector<double> latencies_ms(const ServeRequests& requests, Latency latency) {
  std::vector<double> values;
  if (latency == Latency::kItl) {
    for (const std::vector<double>& gaps : requests.itl_s) {
      for (const double gap : gaps) {
        if (std::isfinite(gap)) values.push_back(1e3 * gap);
      }
    }
    return values;
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const double value = one_ms(requests, latency, i);
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

std::optional<double> quantile_ms(const ServeResult& run, Latency latency, int percent) {
  if (run.metric("completed").value_or(1) == 0) return std::nullopt;
  const std::string end = std::string("_") + name_of(latency) + "_ms";
  std::optional<double> value;
  if (percent == 50) value = run.metric(std::string("median") + end);
  if (!value) {
    std::string name = "p";
    name.append(std::to_string(percent)).append(end);
    value = run.metric(name);
  }
  if (value) return value;
  const std::vector<double> values = latencies_ms(run.requests, latency);
  if (values.empty()) return std::nullopt;
  return quantile(values, percent / 100.);
}

}  // namespace engram::tools::bench
