#include "tools/bench/load_plan.h"

#include <algorithm>
#include <utility>

#include "tools/bench/random.h"

namespace engram::tools::bench {
namespace {

constexpr int kProbes = 256;
constexpr int64_t kMostProbeTokens = 16;
// Of the numbers drawn from a seed; those of arrivals and datasets are smaller.
enum RandomStream : uint64_t { kCancelled = 100, kSlow = 101, kProbeIds = 102 };

}  // namespace

void disturb(const Disturbances& disturbances, uint64_t seed, std::vector<PlannedRequest>* plan) {
  Random cancelled(seed, kCancelled);
  Random slow(seed, kSlow);
  for (PlannedRequest& request : *plan) {
    if (cancelled.uniform() < disturbances.cancellation_rate) {
      request.cancel_after_s = disturbances.cancellation_delay_s;
    }
    if (slow.uniform() < disturbances.slow_reader_rate) {
      request.read_pause_s = disturbances.slow_reader_pause_s;
    }
  }
}

int64_t leave_out_too_long(int64_t max_model_len, std::vector<PlannedRequest>* plan) {
  return static_cast<int64_t>(std::erase_if(*plan, [max_model_len](const PlannedRequest& request) {
    return request.prompt_tokens >= max_model_len;
  }));
}

std::vector<PlannedRequest> warm_up_plan(const std::vector<PlannedRequest>& plan, int64_t count) {
  std::vector<PlannedRequest> warm_up;
  for (int64_t i = 0; i < count; ++i) {
    PlannedRequest request = plan[static_cast<size_t>(i) % plan.size()];
    request.at_s = 0;
    request.cancel_after_s = -1;
    request.read_pause_s = 0;
    warm_up.push_back(std::move(request));
  }
  return warm_up;
}

std::vector<PlannedRequest> probe_plan(uint32_t vocab_size, int64_t max_model_len, uint64_t seed) {
  Random random(seed, kProbeIds);
  const int64_t tokens = std::clamp<int64_t>(max_model_len - 1, 1, kMostProbeTokens);
  std::vector<PlannedRequest> probes(kProbes);
  for (PlannedRequest& probe : probes) {
    for (int64_t t = 0; t < tokens; ++t) {
      probe.prompt_ids.push_back(static_cast<uint32_t>(random.below(vocab_size)));
    }
    probe.prompt_tokens = tokens;
    probe.max_tokens = 1;
    probe.ignore_eos = true;
  }
  return probes;
}

}  // namespace engram::tools::bench
