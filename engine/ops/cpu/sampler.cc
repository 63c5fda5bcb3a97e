#include "engine/ops/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/ops/cpu/philox.h"

namespace engram::engine::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Candidates are first sought this many units of (logit / temperature) below the top, then further
// down: nearly always within the first reach.
constexpr float kReach = 10.f;
constexpr int kReaches = 3;
constexpr uint32_t kInPrompt = 0x80000000u;

// Larger logits first, lower ids first among equals.
bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

bool lower_id(const Candidate& a, const Candidate& b) {
  return a.id < b.id;
}

double weight_of(float logit, float top, float temperature) {
  return std::exp((static_cast<double>(logit) - top) / temperature);
}

// Orders the candidates so that the first `return value` are the shortest run in descending order
// whose weights sum to `mass`. Linear time: halves the range in which the run may end.
int64_t shortest_run(Candidate* c, int64_t count, double mass) {
  constexpr int64_t kSortable = 256;
  double before = 0.0;
  int64_t low = 0;
  int64_t high = count;
  while (high - low > kSortable) {
    const int64_t middle = low + (high - low) / 2;
    std::nth_element(c + low, c + middle, c + high, comes_before);
    double sum = before;
    for (int64_t i = low; i < middle; ++i) sum += c[i].weight;
    if (sum >= mass) {
      high = middle;
    } else {
      before = sum;
      low = middle;
    }
  }
  std::sort(c + low, c + high, comes_before);
  for (int64_t i = low; i < high; ++i) {
    before += c[i].weight;
    if (before >= mass) return i + 1;
  }
  return high;
}

double sum_of_weights(const Candidate* c, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += c[i].weight;
  return sum;
}

bool in_vocabulary(int32_t id, int64_t vocab) {
  return id >= 0 && id < vocab;
}

}  // namespace

Sampler::Sampler(int64_t max_vocab)
    : max_vocab_(max_vocab),
      logits_(std::make_unique_for_overwrite<float[]>(static_cast<size_t>(max_vocab))),
      seen_(std::make_unique<uint32_t[]>(static_cast<size_t>(max_vocab))),
      candidates_(std::make_unique_for_overwrite<Candidate[]>(static_cast<size_t>(max_vocab))),
      blocks_(std::make_unique<double[]>(static_cast<size_t>(max_vocab / kMassBlock + 1))) {}

void Sampler::sample(const float* row, int64_t vocab, const SampleRow& how, SampleResult& result) {
  result = SampleResult{};
  const RowTop raw_top = find_top(row, vocab);
  result.finite = !raw_top.nan && std::isfinite(raw_top.logit);
  if (!result.finite) return;
  if (how.sample) {
    const float* logits = with_bias_and_penalties(row, vocab, how);
    const RowTop top = logits == row ? raw_top : find_top(logits, vocab);
    result.finite = !top.nan && std::isfinite(top.logit);
    if (!result.finite) return;
    result.id = how.temperature > 0.f ? draw(logits, vocab, top, how) : top.id;
  }
  if (how.logprobs >= 0) log_probabilities(row, vocab, raw_top, how, result);
}

// The row itself if there is nothing to change.
const float* Sampler::with_bias_and_penalties(
    const float* row, int64_t vocab, const SampleRow& how) {
  const bool penalised =
      how.repetition_penalty != 1.f || how.presence_penalty != 0.f || how.frequency_penalty != 0.f;
  if (how.logit_bias.empty() && how.banned.empty() && !penalised) return row;
  std::copy_n(row, vocab, logits_.get());
  for (const auto& [id, bias] : how.logit_bias) {
    if (in_vocabulary(id, vocab)) logits_[static_cast<size_t>(id)] += bias;
  }
  for (const int32_t id : how.banned) {
    if (in_vocabulary(id, vocab)) logits_[static_cast<size_t>(id)] = -kInfinity;
  }
  if (penalised) apply_penalties(vocab, how);
  return logits_.get();
}

// Counts first, then changes each id once: the count doubles as the mark of what is still to do.
void Sampler::apply_penalties(int64_t vocab, const SampleRow& how) {
  for (const int32_t id : how.generated_ids) {
    if (in_vocabulary(id, vocab)) ++seen_[static_cast<size_t>(id)];
  }
  for (const int32_t id : how.prompt_ids) {
    if (in_vocabulary(id, vocab)) seen_[static_cast<size_t>(id)] |= kInPrompt;
  }
  for (const std::span<const int32_t> ids : {how.generated_ids, how.prompt_ids}) {
    for (const int32_t id : ids) {
      if (!in_vocabulary(id, vocab)) continue;
      const uint32_t seen = std::exchange(seen_[static_cast<size_t>(id)], 0u);
      if (seen == 0) continue;
      float& logit = logits_[static_cast<size_t>(id)];
      if (logit > 0.f) {
        logit /= how.repetition_penalty;
      } else {
        logit *= how.repetition_penalty;
      }
      const uint32_t generated = seen & ~kInPrompt;
      if (generated == 0) continue;
      logit -= how.frequency_penalty * static_cast<float>(generated) + how.presence_penalty;
    }
  }
}

// Inverse of the cumulative distribution over ascending ids, among what the filters keep.
int32_t Sampler::draw(const float* row, int64_t vocab, RowTop top, const SampleRow& how) {
  const double u = uniform(how.seed, how.draw_index);
  const bool filtered = how.min_p > 0.f || how.top_p < 1.f || (how.top_k > 0 && how.top_k < vocab);
  Candidate* c = candidates_.get();
  int64_t count = 0;
  double target = 0.0;
  if (filtered) {
    count = kept_by_filters(row, vocab, top, how);
    std::sort(c, c + count, lower_id);
    target = u * sum_of_weights(c, count);
  } else {
    target = u * masses(row, vocab, top.logit, how.temperature, blocks_.get());
    int64_t block = 0;
    const int64_t last = (vocab - 1) / kMassBlock;
    while (block < last && target >= blocks_[static_cast<size_t>(block)]) {
      target -= blocks_[static_cast<size_t>(block++)];
    }
    const int64_t first = block * kMassBlock;
    for (; count < std::min(kMassBlock, vocab - first); ++count) {
      const float logit = row[first + count];
      c[count] = {
          logit, static_cast<int32_t>(first + count), weight_of(logit, top.logit, how.temperature)};
    }
  }
  // Rounding may leave the target just behind the last weight: then the last possible id it is.
  int32_t drawn = top.id;
  for (int64_t i = 0; i < count; ++i) {
    if (c[i].weight > 0.0) drawn = c[i].id;
    target -= c[i].weight;
    if (target < 0.0) break;
  }
  return drawn;
}

// The candidates that min_p, top_k and top_p leave, with their weights. At least one.
int64_t Sampler::kept_by_filters(
    const float* row, int64_t vocab, RowTop top, const SampleRow& how) {
  Candidate* c = candidates_.get();
  const float t = how.temperature;
  const auto weigh = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) c[i].weight = weight_of(c[i].logit, top.logit, t);
  };
  float lowest = -kInfinity;
  if (how.min_p > 0.f) {
    lowest = static_cast<float>(top.logit + t * std::log(static_cast<double>(how.min_p)));
    lowest = std::min(lowest, top.logit);
  }
  const float reach = kReach * t;
  if (how.top_k > 0 && how.top_k < vocab) {
    int64_t count = collect_at_least(row, vocab, top, reach, lowest, how.top_k);
    if (count > how.top_k) {
      std::nth_element(c, c + how.top_k, c + count, comes_before);
      count = how.top_k;
    }
    weigh(count);
    if (how.top_p >= 1.f) return count;
    return shortest_run(c, count, how.top_p * sum_of_weights(c, count));
  }
  if (how.min_p > 0.f) {
    const int64_t count = collect(row, vocab, lowest, c);
    weigh(count);
    if (how.top_p >= 1.f) return count;
    return shortest_run(c, count, how.top_p * sum_of_weights(c, count));
  }
  const double mass = how.top_p * masses(row, vocab, top.logit, t, blocks_.get());
  float limit = top.logit - reach;
  for (int attempt = 1;; ++attempt, limit = top.logit - reach * std::exp2(2.f * attempt)) {
    const bool all = attempt > kReaches;
    const int64_t count = collect(row, vocab, all ? -kInfinity : limit, c);
    weigh(count);
    if (all || sum_of_weights(c, count) >= mass) return shortest_run(c, count, mass);
  }
}

// Candidates from `lowest` up, or only the upper ones of them if those are `wanted` or more.
int64_t Sampler::collect_at_least(
    const float* row, int64_t vocab, RowTop top, float step, float lowest, int64_t wanted) {
  float limit = top.logit - step;
  for (int attempt = 1; attempt <= kReaches && limit > lowest; ++attempt) {
    const int64_t count = collect(row, vocab, limit, candidates_.get());
    if (count >= wanted) return count;
    limit = top.logit - step * std::exp2(2.f * static_cast<float>(attempt));
  }
  return collect(row, vocab, lowest, candidates_.get());
}

void Sampler::log_probabilities(
    const float* row, int64_t vocab, RowTop top, const SampleRow& how, SampleResult& result) {
  const double log_mass = std::log(masses(row, vocab, top.logit, 1.f, blocks_.get()));
  const auto logprob = [&](float logit) {
    return static_cast<float>((static_cast<double>(logit) - top.logit) - log_mass);
  };
  const int32_t id = how.sample ? result.id : how.target;
  if (in_vocabulary(id, vocab)) {
    result.logprob = logprob(row[id]);
    result.rank = static_cast<int32_t>(count_above(row, vocab, row[id]) + 1);
  }
  const int64_t wanted = std::min<int64_t>(how.logprobs, vocab);
  if (wanted == 0) return;
  Candidate* c = candidates_.get();
  const int64_t count = collect_at_least(row, vocab, top, kReach, -kInfinity, wanted);
  std::partial_sort(c, c + wanted, c + count, comes_before);
  result.top.reserve(static_cast<size_t>(wanted));
  for (int64_t i = 0; i < wanted; ++i) result.top.push_back({c[i].id, logprob(c[i].logit)});
}

}  // namespace engram::engine::cpu
