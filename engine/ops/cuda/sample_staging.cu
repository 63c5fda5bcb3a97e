#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include "engine/ops/cuda/sample_groups.cuh"
#include "engine/ops/cuda/sample_staging.h"

namespace engram::engine::cuda {
namespace {

// Below it the division overflows; there is nothing left to draw then but the top.
constexpr float kLeastTemperature = 1e-30f;
// Room for lists of many rows at once, whatever the limits of one.
constexpr int64_t kLeastWords = int64_t{1} << 18;
constexpr int64_t kLeastBest = int64_t{1} << 13;

// Until the device puts one there.
constexpr int32_t kNoId = -1;

int64_t groups_of(int64_t vocab) {
  return (vocab + kGroup - 1) / kGroup;
}

// The lists of a row that change anything.
struct Lists {
  std::span<const std::pair<int32_t, float>> bias;
  std::span<const int32_t> banned;
  std::span<const int32_t> prompt;
  std::span<const int32_t> generated;
  bool newest_on_device = false;  // has a word after those of `generated`

  int64_t ids() const { return std::ssize(bias) + std::ssize(banned) + penalised(); }
  int64_t penalised() const { return std::ssize(prompt) + generated_words(); }
  int64_t generated_words() const { return std::ssize(generated) + (newest_on_device ? 1 : 0); }
  int64_t words() const { return ids() + std::ssize(bias); }
};

Lists lists_of(const SampleRow& row) {
  Lists lists;
  if (!row.sample) return lists;
  lists.bias = row.logit_bias;
  lists.banned = row.banned;
  const bool repetition = row.repetition_penalty != 1.f;
  if (repetition) lists.prompt = row.prompt_ids;
  if (repetition || row.presence_penalty != 0.f || row.frequency_penalty != 0.f) {
    lists.generated = row.generated_ids;
    lists.newest_on_device = row.newest_on_device;
  }
  return lists;
}

RowParams params_of(const SampleRow& row, const Lists& lists, int64_t vocab) {
  RowParams p;
  p.seed = row.seed;
  p.draw_index = row.draw_index;
  if (row.temperature > 0.f) p.sharpness = 1.f / std::max(row.temperature, kLeastTemperature);
  if (row.min_p > 0.f) p.min_p_depth = std::log(static_cast<double>(row.min_p)) / p.sharpness;
  p.top_p = row.top_p;
  p.min_p = row.min_p;
  p.top_k = row.top_k;
  p.repetition_penalty = row.repetition_penalty;
  p.presence_penalty = row.presence_penalty;
  p.frequency_penalty = row.frequency_penalty;
  p.sample = row.sample ? 1 : 0;
  p.logprobs = static_cast<int32_t>(std::min<int64_t>(row.logprobs, vocab));
  p.target = row.target;
  p.bias = static_cast<int32_t>(lists.bias.size());
  p.banned = static_cast<int32_t>(lists.banned.size());
  p.prompt = static_cast<int32_t>(lists.prompt.size());
  p.generated = static_cast<int32_t>(lists.generated_words());
  p.newest_on_device = lists.newest_on_device ? 1 : 0;
  return p;
}

// In the order of RowParams.
void write_words(const Lists& lists, int32_t* to) {
  for (const auto& [id, bias] : lists.bias) *to++ = id;
  for (const std::span<const int32_t> ids : {lists.banned, lists.prompt, lists.generated}) {
    to = std::copy(ids.begin(), ids.end(), to);
  }
  if (lists.newest_on_device) *to++ = kNoId;
  for (const auto& [id, bias] : lists.bias) *to++ = std::bit_cast<int32_t>(bias);
}

void unpack_row(const RowParams& p, const RowResult& from, uint64_t* best, SampleResult& to) {
  to = SampleResult{};
  to.finite = from.finite != 0;
  if (!to.finite) return;
  to.id = from.id;
  if (p.logprobs < 0) return;
  const double log_mass = std::log(fraction(from.mass));
  const auto logprob = [&](float logit) {
    return static_cast<float>((static_cast<double>(logit) - from.top) - log_mass);
  };
  if (from.rank > 0) {
    to.logprob = logprob(from.logit);
    to.rank = from.rank;
  }
  const std::span<uint64_t> keys(best + p.first_best, static_cast<size_t>(from.best));
  if (!std::ranges::is_sorted(keys, std::greater<>())) std::ranges::sort(keys, std::greater<>());
  to.top.reserve(keys.size());
  for (const uint64_t key : keys) {
    to.top.push_back({id_of(key), logprob(std::bit_cast<float>(logit_bits_of(key)))});
  }
}

}  // namespace

SampleStaging::SampleStaging(memory::Device& device, const OpsLimits& limits)
    : device_(device),
      max_vocab_(std::min(limits.max_rows, kMaxVocab)),
      max_words_(std::max(limits.max_context + 3 * max_vocab_, kLeastWords)),
      max_best_(std::max(max_vocab_, kLeastBest)) {}

SampleStaging::~SampleStaging() {
  for (const Slot& slot : slots_) {
    if (slot.done != nullptr) slot.done->synchronize();
  }
}

memory::Result<std::unique_ptr<SampleStaging>> SampleStaging::make(
    memory::Device& device, const OpsLimits& limits) {
  std::unique_ptr<SampleStaging> staging(new SampleStaging(device, limits));
  ENGRAM_RETURN_IF_ERROR(staging->allocate());
  return std::unique_ptr<SampleStaging>(std::move(staging));
}

memory::Status SampleStaging::allocate() {
  const int64_t input_bytes = kBatchRows * static_cast<int64_t>(sizeof(RowParams)) + 4 * max_words_;
  const int64_t group_bytes = 4 * kBatchRows * groups_of(max_vocab_);
  memory::Result<memory::Buffer> bytes =
      device_.allocate("sampling scratch", input_bytes + 2 * 4 * max_words_ + 4 * group_bytes);
  if (!bytes.ok()) return bytes.status();
  device_bytes_ = std::move(bytes).value();
  const int64_t output_bytes = kBatchRows * static_cast<int64_t>(sizeof(RowResult)) + 8 * max_best_;
  for (Slot& slot : slots_) {
    memory::Result<memory::Buffer> inputs =
        device_.allocate_pinned("arguments of sampling", input_bytes);
    if (!inputs.ok()) return inputs.status();
    slot.inputs = std::move(inputs).value();
    memory::Result<memory::Buffer> outputs =
        device_.allocate_pinned("results of sampling", output_bytes);
    if (!outputs.ok()) return outputs.status();
    slot.outputs = std::move(outputs).value();
    slot.done = device_.make_event();
  }
  return {};
}

SampleArgs SampleStaging::args_of(const Slot& slot, View logits, int64_t rows) const {
  SampleArgs a;
  a.logits = logits.as<float>();
  a.stride = logits.stride;
  a.rows = static_cast<int32_t>(rows);
  a.vocab = static_cast<int32_t>(logits.cols);
  a.groups = static_cast<int32_t>(groups_of(logits.cols));
  a.params = device_bytes_.as<RowParams>();
  int32_t* words = reinterpret_cast<int32_t*>(device_bytes_.as<RowParams>() + kBatchRows);
  a.words = reinterpret_cast<int32_t*>(device_bytes_.as<RowParams>() + rows);
  a.saved = reinterpret_cast<uint32_t*>(words + max_words_);
  a.pending = a.saved + max_words_;
  const int64_t groups = kBatchRows * groups_of(max_vocab_);
  a.raw_tops = reinterpret_cast<float*>(a.pending + max_words_);
  a.raw_masses = a.raw_tops + groups;
  a.tops = a.raw_masses + groups;
  a.masses = a.tops + groups;
  a.results = slot.outputs.as<RowResult>();
  a.best = reinterpret_cast<uint64_t*>(a.results + kBatchRows);
  return a;
}

SampleBatch SampleStaging::upload(Stream& stream, View logits, std::span<const SampleRow> rows) {
  ENGRAM_CHECK(logits.cols > 0);
  ENGRAM_CHECK(logits.cols <= max_vocab_);
  current_ = (current_ + 1) % kSlots;
  Slot& slot = slots_[current_];
  slot.done->synchronize();
  deliver(slot);
  RowParams* params = slot.inputs.as<RowParams>();
  // How many rows fit comes first: the words lie behind their arguments.
  SampleBatch batch;
  int64_t count = 0;
  int64_t words = 0;
  int64_t best = 0;
  for (; count < std::min(std::ssize(rows), kBatchRows); ++count) {
    const SampleRow& row = rows[static_cast<size_t>(count)];
    const Lists lists = lists_of(row);
    RowParams p = params_of(row, lists, logits.cols);
    const int64_t listed = std::max(p.logprobs, 0);
    ENGRAM_CHECK(lists.words() <= max_words_);
    if (words + lists.words() > max_words_ || best + listed > max_best_) break;
    p.first_word = static_cast<int32_t>(words);
    p.first_best = static_cast<int32_t>(best);
    params[count] = p;
    words += lists.words();
    best += listed;
    batch.longest_list = std::max(batch.longest_list, lists.ids());
  }
  int32_t* to = reinterpret_cast<int32_t*>(params + count);
  for (int64_t i = 0; i < count; ++i) {
    write_words(lists_of(rows[static_cast<size_t>(i)]), to + params[i].first_word);
  }
  device_.copy(
      stream, device_bytes_.data(), params,
      count * static_cast<int64_t>(sizeof(RowParams)) + 4 * words);
  batch.args = args_of(slot, logits, count);
  return batch;
}

void SampleStaging::expect(Stream& stream, std::span<SampleResult> results) {
  Slot& slot = slots_[current_];
  slot.expected = results;
  stream.record(*slot.done);
}

void SampleStaging::deliver_all() {
  for (size_t i = 1; i <= kSlots; ++i) {
    Slot& slot = slots_[(current_ + i) % kSlots];
    if (slot.expected.empty()) continue;
    if (!slot.done->done()) return;
    deliver(slot);
  }
}

// REQUIRES: the batch is done. A device that failed left anything there.
void SampleStaging::deliver(Slot& slot) const {
  const std::span<SampleResult> results = std::exchange(slot.expected, {});
  if (results.empty() || !device_.failure().ok()) return;
  const RowParams* params = slot.inputs.as<RowParams>();
  const RowResult* rows = slot.outputs.as<RowResult>();
  uint64_t* best = reinterpret_cast<uint64_t*>(slot.outputs.as<RowResult>() + kBatchRows);
  for (size_t i = 0; i < results.size(); ++i) unpack_row(params[i], rows[i], best, results[i]);
}

}  // namespace engram::engine::cuda
