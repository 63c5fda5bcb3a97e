#include <algorithm>
#include <vector>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/sampler.h"
#include "engine/ops/cpu/split_rows.h"

namespace engram::engine::cpu {
namespace {

void sample_row(
    Sampler& sampler,
    View logits,
    int64_t i,
    const SampleRow& row,
    const SampledIds& ids,
    SampleResult& result) {
  if (row.newest_on_device) {
    std::vector<int32_t> generated(row.generated_ids.begin(), row.generated_ids.end());
    generated.push_back(ids.before[i]);
    SampleRow whole = row;
    whole.generated_ids = generated;
    sampler.sample(logits.row<float>(i), logits.cols, whole, result);
  } else {
    sampler.sample(logits.row<float>(i), logits.cols, row, result);
  }
  if (ids.now != nullptr) ids.now[i] = result.id;
}

}  // namespace

void CpuOps::do_feed_sampled(Stream& stream, const SampledFeed& feed) {
  as_cpu(stream).enqueue([feed] {
    for (int64_t t = 0; t < feed.tokens; ++t) {
      if (feed.from[t] < 0) continue;
      feed.ids[t] = std::max(feed.sampled[feed.from[t]], 0);
      if (feed.windows == nullptr) continue;
      feed.windows[(t + 1) * feed.window - 1] = feed.canonical[feed.ids[t]];
    }
  });
}

void CpuOps::do_sample(
    Stream& stream,
    View logits,
    std::span<const SampleRow> rows,
    std::span<SampleResult> results,
    const SampledIds& sampled) {
  ENGRAM_CHECK(logits.cols <= samplers_.front()->max_vocab());
  as_cpu(stream).enqueue([=, this] {
    // A part owns a sampler, hence no more parts than samplers.
    const int64_t parts = std::min<int64_t>(logits.rows, std::ssize(samplers_));
    const auto part = [&](int64_t first) {
      for (int64_t i = first; i < logits.rows; i += parts) {
        const size_t row = static_cast<size_t>(i);
        sample_row(
            *samplers_[static_cast<size_t>(first)], logits, i, rows[row], sampled, results[row]);
      }
    };
    if (logits.rows * logits.cols < 2 * kPartElements) {
      for (int64_t i = 0; i < parts; ++i) part(i);
    } else {
      device_.workers().run(parts, part);
    }
  });
}

}  // namespace engram::engine::cpu
