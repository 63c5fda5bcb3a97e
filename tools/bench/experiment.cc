#include "tools/bench/experiment.h"

#include <algorithm>
#include <utility>

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr uint64_t kHashBasis = 0xcbf29ce484222325u;

uint64_t hash_token(uint64_t hash, int32_t id) {
  for (int byte = 0; byte < 4; ++byte) {
    hash = (hash ^ (static_cast<uint32_t>(id) >> (8 * byte) & 0xff)) * 0x100000001b3u;
  }
  return hash;
}

uint64_t seed_of_round(uint64_t seed, int round) {
  return (seed + 1) * 0x9e3779b97f4a7c15u +
         static_cast<uint64_t>(round + 1000) * 0xbf58476d1ce4e5b9u;
}

// What is measured in a round, in the order of the first one.
struct Turn {
  size_t arm = 0;
  bool second = false;  // of the arm measured twice
};

// The two turns of the arm measured twice lie as far apart as they can.
std::vector<Turn> make_turns(std::span<const ArmEntry> arms, size_t twice) {
  std::vector<Turn> turns;
  for (size_t i = 0; i < arms.size(); ++i) turns.push_back({(twice + i) % arms.size(), false});
  turns.insert(turns.begin() + static_cast<int64_t>((turns.size() + 1) / 2), {twice, true});
  return turns;
}

std::string token_text(const std::vector<int32_t>& tokens, size_t position) {
  return position < tokens.size() ? std::to_string(tokens[position]) : "none";
}

Status compare_tokens(
    const ArmEntry& arm, const Sample& got, const ArmEntry& first, const Sample& expected) {
  if (got.tokens == expected.tokens) return {};
  const std::string arms = "arm " + arm.key + " answers unlike arm " + first.key;
  if (got.tokens.size() != expected.tokens.size()) {
    return memory::data_loss(
        arms + ": " + std::to_string(got.tokens.size()) + " requests, expected " +
        std::to_string(expected.tokens.size()));
  }
  size_t request = 0;
  while (got.tokens[request] == expected.tokens[request]) ++request;
  const std::vector<int32_t>& a = got.tokens[request];
  const std::vector<int32_t>& b = expected.tokens[request];
  size_t position = 0;
  while (position < std::min(a.size(), b.size()) && a[position] == b[position]) ++position;
  return memory::data_loss(
      arms + ": request " + std::to_string(request) + ", position " + std::to_string(position) +
      ": token " + token_text(a, position) + ", expected " + token_text(b, position));
}

// The rounds of one group.
class Experiment {
 public:
  Experiment(
      const ArmGroup& group,
      const Workload& workload,
      const ExperimentOptions& options,
      const std::function<void()>& on_measured)
      : group_(group), arms_(group.arms), options_(options), on_measured_(on_measured) {
    result_.workload = workload;
    for (size_t i = 0; i < arms_.size(); ++i) {
      if (arms_[i].key == options.twice) twice_ = i;
      result_.arms.push_back({arms_[i].key, arms_[i].name, kHashBasis, {}});
    }
    turns_ = make_turns(arms_, twice_);
  }

  int turns() const { return static_cast<int>(turns_.size()); }

  // Rounds below 0 are not counted. False: it was stopped meanwhile.
  Result<bool> run_round(int round) {
    if (group_.before_round) ENGRAM_RETURN_IF_ERROR(group_.before_round());
    std::vector<Sample> samples(arms_.size());
    Sample again;
    ENGRAM_RETURN_IF_ERROR(measure_all(round, &samples, &again));
    if (!result_.interrupted && round >= 0) keep(std::move(samples), again);
    return !result_.interrupted;
  }

  void interrupt() { result_.interrupted = true; }

  PointResult take_result() {
    const std::string& metric = result_.workload.metric;
    const std::vector<double> first = metric_of(result_.arms[twice_], metric);
    result_.quiet = quietness(first, second_, options_.quiet_limit_percent);
    return std::move(result_);
  }

 private:
  // Each round begins one turn later than the one before, so that no arm always comes first.
  Status measure_all(int round, std::vector<Sample>* samples, Sample* again) {
    const size_t size = turns_.size();
    const size_t begin = static_cast<size_t>(round + options_.warm_ups) % size;
    for (size_t i = 0; i < size; ++i) {
      if (options_.stop != nullptr && options_.stop->load()) {
        result_.interrupted = true;
        return {};
      }
      const Turn& turn = turns_[(begin + i) % size];
      Result<Sample> sample =
          arms_[turn.arm].arm->measure(result_.workload, seed_of_round(options_.seed, round));
      const bool stopped = options_.stop != nullptr && options_.stop->load();
      if (stopped && sample.status().code() == memory::Code::kCancelled) {
        result_.interrupted = true;
        return {};
      }
      if (!sample.ok()) {
        return {
            sample.status().code(),
            "arm " + arms_[turn.arm].key + ": " + sample.status().message()};
      }
      (turn.second ? *again : (*samples)[turn.arm]) = std::move(sample).value();
      on_measured_();
    }
    ENGRAM_RETURN_IF_ERROR(
        compare_tokens(arms_[twice_], *again, arms_[twice_], (*samples)[twice_]));
    const auto same = [](const ArmEntry& arm) { return arm.same_tokens; };
    const auto first = std::ranges::find_if(arms_, same);
    for (size_t i = 0; i < arms_.size(); ++i) {
      if (!arms_[i].same_tokens) continue;
      const size_t expected = static_cast<size_t>(first - arms_.begin());
      ENGRAM_RETURN_IF_ERROR(compare_tokens(arms_[i], (*samples)[i], *first, (*samples)[expected]));
    }
    return {};
  }

  void keep(std::vector<Sample> samples, const Sample& again) {
    for (size_t i = 0; i < samples.size(); ++i) {
      ArmRounds& arm = result_.arms[i];
      for (const std::vector<int32_t>& tokens : samples[i].tokens) {
        for (const int32_t id : tokens) arm.token_hash = hash_token(arm.token_hash, id);
        arm.token_hash = hash_token(arm.token_hash, -1);
      }
      samples[i].tokens.clear();
      arm.samples.push_back(std::move(samples[i]));
    }
    second_.push_back(metric_of(again, result_.workload.metric));
  }

  const ArmGroup& group_;
  const std::span<const ArmEntry> arms_;
  const ExperimentOptions& options_;
  const std::function<void()>& on_measured_;
  size_t twice_ = 0;
  std::vector<Turn> turns_;
  std::vector<double> second_;  // the metric of the second measurement, per round
  PointResult result_;
};

double mean_of_all(const ArmRounds& arm, std::vector<double> Sample::*values) {
  double sum = 0;
  size_t count = 0;
  for (const Sample& sample : arm.samples) {
    for (const double v : sample.*values) sum += v;
    count += (sample.*values).size();
  }
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

}  // namespace

void read_records(
    const Workload& workload, std::span<const RequestRecord> records, Sample* sample) {
  double begin = 1e300;
  double end = 0;
  double last_first = 0;  // when the last request got its first token
  int64_t input = 0;
  int64_t output = 0;
  std::vector<double> ttft;
  std::vector<double> tpot;
  for (const RequestRecord& r : records) {
    if (r.messages.empty()) continue;
    const double first = r.messages.front().at_s;
    const double last = r.messages.back().at_s;
    begin = std::min(begin, r.sent_s);
    end = std::max(end, last);
    last_first = std::max(last_first, first);
    input += r.prompt_tokens;
    output += r.output_tokens;
    ttft.push_back(1e3 * (first - r.sent_s));
    const int64_t later = r.output_tokens - r.messages.front().tokens;
    if (later > 0) tpot.push_back(1e3 * (last - first) / static_cast<double>(later));
  }
  std::vector<double> gaps;
  for (const RequestRecord& r : records) {
    for (size_t i = 1; i < r.messages.size(); ++i) {
      if (workload.decode_only && r.messages[i - 1].at_s < last_first) continue;
      gaps.push_back(1e3 * (r.messages[i].at_s - r.messages[i - 1].at_s));
    }
  }
  if (output > 0 && end > begin) {
    sample->output_throughput = static_cast<double>(output) / (end - begin);
    sample->total_throughput = static_cast<double>(input + output) / (end - begin);
  }
  sample->ttft_ms = quantile(ttft, 0.5);
  sample->ttft_p99_ms = quantile(ttft, 0.99);
  sample->tpot_ms = quantile(tpot, 0.5);
  sample->tpot_p99_ms = quantile(tpot, 0.99);
  sample->step_ms = quantile(gaps, 0.5);
}

const ArmRounds* PointResult::find(const std::string& key) const {
  for (const ArmRounds& arm : arms) {
    if (arm.key == key) return &arm;
  }
  return nullptr;
}

Result<std::vector<PointResult>> run_experiments(
    std::span<const ArmGroup> groups, const Workload& workload, const ExperimentOptions& options) {
  int measured = 0;
  int total = 0;
  const std::function<void()> on_measured = [&] {
    ++measured;
    if (options.on_measured) options.on_measured(measured, total);
  };
  std::vector<Experiment> experiments;
  for (const ArmGroup& group : groups) {
    ENGRAM_CHECK(!group.arms.empty());
    experiments.emplace_back(group, workload, options, on_measured);
    total += (options.rounds + options.warm_ups) * experiments.back().turns();
  }
  bool going_on = true;
  for (int round = -options.warm_ups; going_on && round < options.rounds; ++round) {
    for (Experiment& experiment : experiments) {
      const Result<bool> finished = experiment.run_round(round);
      if (!finished.ok()) return finished.status();
      going_on = going_on && finished.value();
      if (!going_on) break;
    }
  }
  std::vector<PointResult> results;
  for (Experiment& experiment : experiments) {
    if (!going_on) experiment.interrupt();
    results.push_back(experiment.take_result());
  }
  return results;
}

Result<PointResult> run_experiment(
    std::span<const ArmEntry> arms, const Workload& workload, const ExperimentOptions& options) {
  const ArmGroup group = {.arms = {arms.begin(), arms.end()}};
  Result<std::vector<PointResult>> results = run_experiments({&group, 1}, workload, options);
  if (!results.ok()) return results.status();
  return std::move(results.value()[0]);
}

double metric_of(const Sample& sample, const std::string& metric) {
  constexpr double Sample::*kMembers[] = {
      &Sample::output_throughput, &Sample::total_throughput, &Sample::ttft_ms, &Sample::ttft_p99_ms,
      &Sample::tpot_ms,           &Sample::tpot_p99_ms,      &Sample::step_ms};
  const auto found = std::ranges::find(kMetrics, metric);
  ENGRAM_CHECK(found != std::end(kMetrics));
  return sample.*kMembers[found - std::begin(kMetrics)];
}

std::vector<double> metric_of(const ArmRounds& arm, const std::string& metric) {
  std::vector<double> values;
  for (const Sample& sample : arm.samples) values.push_back(metric_of(sample, metric));
  return values;
}

Estimate overhead_of(const ArmRounds& arm, const ArmRounds& base, const std::string& metric) {
  const std::vector<double> a = metric_of(arm, metric);
  const std::vector<double> b = metric_of(base, metric);
  const auto positive = [](double v) { return v > 0; };
  if (std::ssize(a) < kFewestRounds) return {};
  if (!std::ranges::all_of(a, positive) || !std::ranges::all_of(b, positive)) return {};
  const bool rate = metric.ends_with("throughput");
  return overhead_percent(a, b, rate ? Better::kHigher : Better::kLower);
}

CostSplit split_cost(const PointResult& point) {
  CostSplit split;
  const ArmRounds* n = point.find("N");
  const ArmRounds* d = point.find("D");
  const ArmRounds* z = point.find("Z");
  if (n == nullptr || point.rounds() == 0) return split;
  const std::string& metric = point.workload.metric;
  if (z != nullptr && overhead_of(*z, *n, metric).rounds > 0) {
    split.has_projections = true;
    split.projections_and_gate = overhead_of(*z, *n, metric).value;
  }
  const double step = mean_of_all(*n, &Sample::step_seconds);
  const bool timed = d != nullptr && std::ranges::any_of(d->samples, [](const Sample& sample) {
                       return !sample.wait_seconds.empty();
                     });
  if (timed && step > 0) {
    split.has_wait = true;
    split.exposed_wait = 100 * mean_of_all(*d, &Sample::wait_seconds) / step;
  }
  if (split.has_projections && split.has_wait && overhead_of(*d, *n, metric).rounds > 0) {
    split.has_interference = true;
    split.interference =
        overhead_of(*d, *n, metric).value - split.projections_and_gate - split.exposed_wait;
  }
  return split;
}

}  // namespace engram::tools::bench
