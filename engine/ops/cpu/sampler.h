// Turns one row of logits into a token, as SampleRow in engine/ops/ops.h says.
//
// A Sampler is the scratch memory for one row at a time; several threads use one each. Nothing but
// the row, its parameters and the width of the vocabulary decides the result.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/ops/cpu/logit_scan.h"
#include "engine/ops/ops.h"

namespace engram::engine::cpu {

class Sampler {
 public:
  explicit Sampler(int64_t max_vocab);

  int64_t max_vocab() const { return max_vocab_; }
  // row [vocab], not changed.  REQUIRES: vocab <= max_vocab().
  void sample(const float* row, int64_t vocab, const SampleRow& how, SampleResult& result);

 private:
  const float* with_bias_and_penalties(const float* row, int64_t vocab, const SampleRow& how);
  void apply_penalties(int64_t vocab, const SampleRow& how);
  int32_t draw(const float* row, int64_t vocab, RowTop top, const SampleRow& how);
  int64_t kept_by_filters(const float* row, int64_t vocab, RowTop top, const SampleRow& how);
  int64_t collect_at_least(
      const float* row, int64_t vocab, RowTop top, float step, float lowest, int64_t wanted);
  void log_probabilities(
      const float* row, int64_t vocab, RowTop top, const SampleRow& how, SampleResult& result);

  // Constant.
  const int64_t max_vocab_;
  // The thread that samples.
  std::unique_ptr<float[]> logits_;          // [V] after bias and penalties
  std::unique_ptr<uint32_t[]> seen_;         // [V] zeros between rows
  std::unique_ptr<Candidate[]> candidates_;  // [V]
  std::unique_ptr<double[]> blocks_;         // [V / kMassBlock + 1]
};

}  // namespace engram::engine::cpu
