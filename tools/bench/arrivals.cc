#include "tools/bench/arrivals.h"

#include <algorithm>
#include <cmath>

#include "tools/bench/random.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Status;

constexpr uint64_t kArrivalStream = 0;

std::string text(double value) {
  std::string digits = std::to_string(value);
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
  return digits;
}

double rate_of(const ArrivalOptions& options, int64_t index, int64_t count) {
  const double share =
      static_cast<double>(index) / static_cast<double>(std::max(count - 1, int64_t{1}));
  const double start = options.ramp_up_start_rps;
  const double end = options.ramp_up_end_rps;
  switch (options.ramp_up) {
    case RampUp::kNone:
      return options.request_rate;
    case RampUp::kLinear:
      return start + (end - start) * share;
    case RampUp::kExponential:
      return start * std::pow(end / start, share);
  }
  return options.request_rate;
}

Status check_ramp_up(const ArrivalOptions& options) {
  if (std::isfinite(options.request_rate)) {
    return invalid_argument(
        "--ramp-up-strategy: expected no --request-rate beside it, found " +
        text(options.request_rate) + " requests/s");
  }
  const double start = options.ramp_up_start_rps;
  const double end = options.ramp_up_end_rps;
  if (!(start > 0 && std::isfinite(start))) {
    return invalid_argument(
        "--ramp-up-start-rps: expected more than 0 requests/s, found " + text(start));
  }
  if (!(end >= start && std::isfinite(end))) {
    return invalid_argument(
        "--ramp-up-end-rps: expected at least the " + text(start) +
        " requests/s of the start, found " + text(end));
  }
  return {};
}

}  // namespace

memory::Result<RampUp> ramp_up_of(const std::string& name) {
  if (name == "linear") return RampUp::kLinear;
  if (name == "exponential") return RampUp::kExponential;
  return invalid_argument(
      "--ramp-up-strategy: expected linear or exponential, found \"" + name + "\"");
}

const char* ramp_up_name(RampUp ramp_up) {
  if (ramp_up == RampUp::kLinear) return "linear";
  return ramp_up == RampUp::kExponential ? "exponential" : "";
}

Status check_arrivals(const ArrivalOptions& options) {
  if (!(options.request_rate > 0)) {
    return invalid_argument(
        "--request-rate: expected more than 0 requests/s or inf, found " +
        text(options.request_rate));
  }
  if (!(options.burstiness > 0)) {
    return invalid_argument(
        "--burstiness: expected more than 0 or inf, found " + text(options.burstiness));
  }
  return options.ramp_up == RampUp::kNone ? Status() : check_ramp_up(options);
}

std::vector<double> arrival_times(const ArrivalOptions& options, int64_t count) {
  ENGRAM_CHECK(check_arrivals(options).ok());
  std::vector<double> times(static_cast<size_t>(count));
  Random random(options.seed, kArrivalStream);
  double now = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double interval =
        std::isinf(options.burstiness) ? 1 : random.gamma(options.burstiness) / options.burstiness;
    now += interval / rate_of(options, i, count);  // nothing at an infinite rate
    times[static_cast<size_t>(i)] = now;
  }
  if (options.ramp_up == RampUp::kNone && now > 0) {
    const double wanted = static_cast<double>(count) / options.request_rate;
    for (double& time : times) time *= wanted / now;
  }
  return times;
}

std::vector<RateChange> rate_changes(const ArrivalOptions& options, std::span<const double> times) {
  std::vector<RateChange> changes;
  if (options.ramp_up == RampUp::kNone) return changes;
  int64_t reached = static_cast<int64_t>(options.ramp_up_start_rps);
  changes.push_back({reached, 0});
  const int64_t count = static_cast<int64_t>(times.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t rate = static_cast<int64_t>(rate_of(options, i, count));
    for (; reached < rate; ++reached) {
      changes.push_back({reached + 1, times[static_cast<size_t>(i)]});
    }
  }
  return changes;
}

void set_arrivals(const ArrivalOptions& options, std::vector<PlannedRequest>* plan) {
  const std::vector<double> times = arrival_times(options, static_cast<int64_t>(plan->size()));
  for (size_t i = 0; i < times.size(); ++i) (*plan)[i].at_s = times[i];
}

void set_replay(double speed, std::vector<PlannedRequest>* plan) {
  ENGRAM_CHECK(speed > 0);
  std::stable_sort(
      plan->begin(), plan->end(),
      [](const PlannedRequest& a, const PlannedRequest& b) { return a.at_s < b.at_s; });
  if (plan->empty()) return;
  const double first = plan->front().at_s;
  for (PlannedRequest& request : *plan) request.at_s = (request.at_s - first) / speed;
}

}  // namespace engram::tools::bench
