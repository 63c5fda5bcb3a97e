#include "tools/bench/simulated_arms.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "tools/bench/random.h"

namespace engram::tools::bench {
namespace {

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Simulated : public Arm {
 public:
  explicit Simulated(const SimulatedArm& options) : options_(options) {}

  memory::Result<Sample> measure(const Workload& workload, uint64_t seed) override {
    ++measured_;
    const std::vector<PlannedRequest> plan = plan_requests(workload, seed);
    Random shared(mix(options_.seed) ^ seed, 0);
    Random own(mix(mix(options_.seed) + options_.arm) ^ seed, measured_);
    slowness_ = std::exp(options_.round_noise * shared.normal());
    slowness_ *= std::exp(options_.own_noise * own.normal());
    slowness_ *= 1 + options_.overhead_percent / 100;
    // At one place of the measurement, so that a median over its steps does not see it.
    const bool stalls = own.uniform() < options_.stall_probability;
    stall_ = stalls ? options_.longest_stall * own.uniform() : 0;
    Sample sample;
    const std::vector<RequestRecord> records = serve(plan, &sample);
    read_records(workload, records, &sample);
    for (size_t i = 0; i < plan.size(); ++i) {
      std::vector<int32_t>& tokens = sample.tokens.emplace_back();
      const uint64_t text = mix(seed + i) + options_.model;
      for (int64_t t = 0; t < plan[i].max_tokens; ++t) {
        tokens.push_back(static_cast<int32_t>(mix(text + static_cast<uint64_t>(t) * 7919) >> 40));
      }
    }
    return sample;
  }

 private:
  // Step by step as an engine does it: who arrived joins, prompts take their time, and every
  // running request gets a token.
  std::vector<RequestRecord> serve(const std::vector<PlannedRequest>& plan, Sample* sample) const {
    std::vector<RequestRecord> records(plan.size());
    std::vector<size_t> running;
    size_t next = 0;
    double now = 0;
    while (next < plan.size() || !running.empty()) {
      if (running.empty()) now = std::max(now, plan[next].at_s);
      int64_t prefill = 0;
      while (next < plan.size() && plan[next].at_s <= now &&
             static_cast<int64_t>(running.size()) < options_.max_num_seqs) {
        records[next].outcome = Outcome::kCompleted;
        records[next].planned_s = plan[next].at_s;
        records[next].sent_s = plan[next].at_s;
        records[next].prompt_tokens = plan[next].prompt_tokens;
        prefill += plan[next].prompt_tokens;
        running.push_back(next++);
      }
      const double prefill_s = static_cast<double>(prefill) / options_.prefill_tokens_per_second;
      double step_s = slowness_ * (1e-3 * options_.step_ms + prefill_s);
      sample->wait_seconds.push_back(1e-5 * options_.step_ms * options_.wait_percent * slowness_);
      sample->step_seconds.push_back(step_s);
      if (sample->step_seconds.size() == 2) step_s += stall_ * expected_s(plan);
      now += step_s;
      for (const size_t i : running) {
        records[i].messages.push_back({now, 1});
        ++records[i].output_tokens;
        records[i].done_s = now;
      }
      std::erase_if(
          running, [&](size_t i) { return records[i].output_tokens == plan[i].max_tokens; });
    }
    return records;
  }

  // The time without noise when all run together, for the length of stalls.
  double expected_s(const std::vector<PlannedRequest>& plan) const {
    int64_t longest = 0;
    int64_t prompts = 0;
    for (const PlannedRequest& request : plan) {
      longest = std::max(longest, request.max_tokens);
      prompts += request.prompt_tokens;
    }
    return 1e-3 * options_.step_ms * static_cast<double>(longest) +
           static_cast<double>(prompts) / options_.prefill_tokens_per_second;
  }

  const SimulatedArm options_;
  uint64_t measured_ = 0;
  double slowness_ = 1;
  double stall_ = 0;
};

}  // namespace

std::unique_ptr<Arm> make_simulated_arm(const SimulatedArm& options) {
  return std::make_unique<Simulated>(options);
}

}  // namespace engram::tools::bench
