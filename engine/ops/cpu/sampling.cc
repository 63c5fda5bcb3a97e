#include <algorithm>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/sampler.h"
#include "engine/ops/cpu/split_rows.h"

namespace engram::engine::cpu {

void CpuOps::do_sample(
    Stream& stream, View logits, std::span<const SampleRow> rows, std::span<SampleResult> results) {
  ENGRAM_CHECK(logits.cols <= samplers_.front()->max_vocab());
  as_cpu(stream).enqueue([=, this] {
    // A part owns a sampler, hence no more parts than samplers.
    const int64_t parts = std::min<int64_t>(logits.rows, std::ssize(samplers_));
    const auto part = [&](int64_t first) {
      for (int64_t i = first; i < logits.rows; i += parts) {
        const size_t row = static_cast<size_t>(i);
        samplers_[static_cast<size_t>(first)]->sample(
            logits.row<float>(i), logits.cols, rows[row], results[row]);
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
