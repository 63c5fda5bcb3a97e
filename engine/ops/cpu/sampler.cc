#include "engine/ops/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "engine/ops/cpu/philox.h"

namespace engram::engine::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Candidates are sought so many temperatures below the top, then further down, then everywhere: a
// peaked row gives a handful.
constexpr float kReaches[] = {4.f, 12.f};
// Below it the division overflows; there is nothing left to draw then but the top.
constexpr float kLeastTemperature = 1e-30f;
constexpr uint32_t kInPrompt = 0x80000000u;

bool in_vocabulary(int32_t id, int64_t vocab) {
  return id >= 0 && id < vocab;
}

template <typename T>
std::unique_ptr<T[]> array_of(int64_t count) {
  return std::make_unique_for_overwrite<T[]>(static_cast<size_t>(count));
}

// The index at which the running sum of the weights exceeds u times their sum. Rounding may leave
// no such index: then the last that has any weight.
int64_t pick(const float* weights, int64_t count, double u) {
  double target = u * std::accumulate(weights, weights + count, 0.0);
  int64_t picked = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (weights[i] > 0.f) picked = i;
    target -= weights[i];
    if (target < 0.0) break;
  }
  return picked;
}

}  // namespace

Sampler::Sampler(int64_t max_vocab)
    : max_vocab_(max_vocab),
      changed_(array_of<float>(max_vocab)),
      seen_(std::make_unique<uint32_t[]>(static_cast<size_t>(max_vocab))),
      blocks_(array_of<double>(max_vocab / kMassBlock + 1)),
      logits_(array_of<float>(max_vocab + kScanPadding)),
      ids_(array_of<int32_t>(max_vocab + kScanPadding)),
      weights_(std::make_unique<float[]>(static_cast<size_t>(max_vocab + kScanPadding))) {}

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
  std::copy_n(row, vocab, changed_.get());
  for (const auto& [id, bias] : how.logit_bias) {
    if (in_vocabulary(id, vocab)) changed_[static_cast<size_t>(id)] += bias;
  }
  for (const int32_t id : how.banned) {
    if (in_vocabulary(id, vocab)) changed_[static_cast<size_t>(id)] = -kInfinity;
  }
  if (penalised) apply_penalties(vocab, how);
  return changed_.get();
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
      float& logit = changed_[static_cast<size_t>(id)];
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
  const float sharpness = 1.f / std::max(how.temperature, kLeastTemperature);
  const bool filtered = how.min_p > 0.f || how.top_p < 1.f || (how.top_k > 0 && how.top_k < vocab);
  if (!filtered) return draw_from_all(row, vocab, top, sharpness, u);
  collect_kept(row, vocab, top, sharpness, how);
  return candidates_.ids[pick(candidates_.weights, candidates_.count, u)];
}

int32_t Sampler::draw_from_all(
    const float* row, int64_t vocab, RowTop top, float sharpness, double u) {
  const double mass = masses(row, vocab, top.logit, sharpness, blocks_.get());
  double target = u * mass;
  int64_t first = 0;
  const double* block = blocks_.get();
  for (; first + kMassBlock < vocab && target >= *block; first += kMassBlock) target -= *block++;
  const int64_t count = std::min(kMassBlock, vocab - first);
  const float* part = row + first;
  const float sum = weigh(part, count, top.logit, sharpness, weights_.get());
  if (sum == 0.f) return top.id;
  return static_cast<int32_t>(first + pick(weights_.get(), count, std::min(target / sum, 1.0)));
}

// Leaves the candidates that min_p, top_k and top_p leave, with their weights. At least one.
void Sampler::collect_kept(
    const float* row, int64_t vocab, RowTop top, float sharpness, const SampleRow& how) {
  const bool top_k = how.top_k > 0 && how.top_k < vocab;
  if (!top_k && how.min_p <= 0.f) {
    collect_mass(row, vocab, top, sharpness, how.top_p);
    return;
  }
  float lowest = -kInfinity;
  if (how.min_p > 0.f) {
    const double depth = std::log(static_cast<double>(how.min_p)) / sharpness;
    lowest = std::min(static_cast<float>(top.logit + depth), top.logit);
  }
  if (top_k) {
    collect_count(row, vocab, top, sharpness, lowest, how.top_k);
  } else {
    collect_from(row, vocab, top, lowest);
  }
  Candidates& c = candidates_;
  const float mass = weigh(c.logits, c.count, top.logit, sharpness, c.weights);
  if (how.top_p < 1.f) c.count = keep(c, cut_at_mass(c, how.top_p * mass));
}

// The likeliest candidates that have `share` of all mass.
void Sampler::collect_mass(
    const float* row, int64_t vocab, RowTop top, float sharpness, double share) {
  const double all = masses(row, vocab, top.logit, sharpness, blocks_.get());
  const float wanted = static_cast<float>(share * all);
  Candidates& c = candidates_;
  float mass = -1.f;
  for (const float reach : kReaches) {
    collect_from(row, vocab, top, top.logit - reach / sharpness);
    mass = weigh(c.logits, c.count, top.logit, sharpness, c.weights);
    if (mass >= wanted) break;
  }
  if (mass < wanted) {
    collect_from(row, vocab, top, -kInfinity);
    weigh(c.logits, c.count, top.logit, sharpness, c.weights);
  }
  c.count = keep(c, cut_at_mass(c, wanted));
}

// The `wanted` likeliest candidates that are at or above `lowest`, all of those if there are fewer.
void Sampler::collect_count(
    const float* row, int64_t vocab, RowTop top, float sharpness, float lowest, int64_t wanted) {
  Candidates& c = candidates_;
  c.count = 0;
  for (const float reach : kReaches) {
    collect_from(row, vocab, top, std::max(lowest, top.logit - reach / sharpness));
    if (c.count >= wanted) break;
  }
  if (c.count < wanted) collect_from(row, vocab, top, lowest);
  if (c.count > wanted) c.count = keep(c, cut_at_count(c, wanted));
}

void Sampler::collect_from(const float* row, int64_t vocab, RowTop top, float limit) {
  candidates_ = {logits_.get(), ids_.get(), weights_.get(), 0, limit, top.logit};
  candidates_.count = collect(row, vocab, limit, logits_.get(), ids_.get());
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
  collect_count(row, vocab, top, 1.f, -kInfinity, wanted);
  result.top.reserve(static_cast<size_t>(wanted));
  for (int64_t i = 0; i < candidates_.count; ++i) {
    result.top.push_back({candidates_.ids[i], candidates_.logits[i]});
  }
  // Ascending ids so far, and so they stay among equals.
  std::stable_sort(
      result.top.begin(), result.top.end(),
      [](const TokenLogprob& a, const TokenLogprob& b) { return a.logprob > b.logprob; });
  for (TokenLogprob& entry : result.top) entry.logprob = logprob(entry.logprob);
}

}  // namespace engram::engine::cpu
