#include "tools/bench/serve_quantities.h"

#include <cmath>

#include "tools/bench/number_text.h"
#include "tools/bench/serve_quantiles.h"

namespace engram::tools::bench {

std::string series_name(const ServeResult& run) {
  if (!run.label.empty()) return run.label;
  return run.model.empty() ? "run" : run.model;
}

std::string describe_run(const ServeResult& run) {
  std::string text = series_name(run);
  text += std::isfinite(run.request_rate) ? ", " + short_number(run.request_rate) + " requests/s"
                                          : ", no rate limit";
  if (run.max_concurrency) text += ", " + short_number(*run.max_concurrency) + " at once";
  return text;
}

std::optional<double> output_throughput(const ServeResult& run) {
  return run.metric("output_throughput");
}
std::optional<double> total_throughput(const ServeResult& run) {
  return run.metric("total_token_throughput");
}
std::optional<double> request_throughput(const ServeResult& run) {
  return run.metric("request_throughput");
}
std::optional<double> goodput(const ServeResult& run) {
  return run.metric("request_goodput");
}
std::optional<double> ttft_p50(const ServeResult& run) {
  return quantile_ms(run, Latency::kTtft, 50);
}
std::optional<double> ttft_p99(const ServeResult& run) {
  return quantile_ms(run, Latency::kTtft, 99);
}
std::optional<double> tpot_p50(const ServeResult& run) {
  return quantile_ms(run, Latency::kTpot, 50);
}
std::optional<double> tpot_p99(const ServeResult& run) {
  return quantile_ms(run, Latency::kTpot, 99);
}
std::optional<double> tokens_per_user(const ServeResult& run) {
  const std::optional<double> tpot = tpot_p50(run);
  return tpot && *tpot > 0 ? std::optional<double>(1e3 / *tpot) : std::nullopt;
}

}  // namespace engram::tools::bench
