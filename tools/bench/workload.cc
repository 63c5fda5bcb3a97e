#include "tools/bench/workload.h"

#include <cstdio>

#include "memory/base/status.h"
#include "tools/bench/random.h"

namespace engram::tools::bench {
namespace {

int64_t draw(Random& random, const LengthRange& range) {
  const uint64_t choices = static_cast<uint64_t>(range.high - range.low + 1);
  return range.low + static_cast<int64_t>(random.below(choices));
}

std::vector<uint32_t> draw_prompt(Random& random, const Workload& w, int64_t tokens) {
  std::vector<uint32_t> ids;
  ids.reserve(static_cast<size_t>(tokens));
  if (w.text == nullptr) {
    for (int64_t i = 0; i < tokens; ++i) {
      ids.push_back(static_cast<uint32_t>(random.below(static_cast<uint64_t>(w.id_limit))));
    }
    return ids;
  }
  const int64_t places = static_cast<int64_t>(w.text->size()) - tokens;
  ENGRAM_CHECK(places > 0);
  const int64_t first = static_cast<int64_t>(random.below(static_cast<uint64_t>(places)));
  for (int64_t i = first; i < first + tokens; ++i) {
    ids.push_back(static_cast<uint32_t>((*w.text)[static_cast<size_t>(i)]));
  }
  return ids;
}

}  // namespace

bool parse_range(const std::string& text, LengthRange* range) {
  long long low = 0;
  long long high = 0;
  int used = 0;
  const int read = std::sscanf(text.c_str(), "%lld:%lld%n", &low, &high, &used);
  if (read != 2 || static_cast<size_t>(used) != text.size()) return false;
  *range = {low, high};
  return true;
}

std::vector<PlannedRequest> plan_requests(const Workload& workload, uint64_t seed) {
  Random random(seed, 0);
  std::vector<PlannedRequest> plan;
  double at_s = 0;
  for (int i = 0; i < workload.batch; ++i) {
    PlannedRequest& request = plan.emplace_back();
    request.at_s = at_s;
    request.prompt_tokens = draw(random, workload.input);
    request.prompt_ids = draw_prompt(random, workload, request.prompt_tokens);
    request.max_tokens = draw(random, workload.output);
    request.ignore_eos = true;
    if (workload.request_rate > 0) at_s += random.exponential() / workload.request_rate;
  }
  return plan;
}

}  // namespace engram::tools::bench
