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
  int32_t draw_from_all(const float* row, int64_t vocab, RowTop top, float sharpness, double u);
  void collect_kept(
      const float* row, int64_t vocab, RowTop top, float sharpness, const SampleRow& how);
  void collect_mass(const float* row, int64_t vocab, RowTop top, float sharpness, double share);
  void collect_count(
      const float* row, int64_t vocab, RowTop top, float sharpness, float lowest, int64_t wanted);
  void collect_from(const float* row, int64_t vocab, RowTop top, float limit);
  void log_probabilities(
      const float* row, int64_t vocab, RowTop top, const SampleRow& how, SampleResult& result);

  // Constant.
  const int64_t max_vocab_;
  // The thread that samples.
  std::unique_ptr<float[]> changed_;  // [V] logits after bias and penalties
  std::unique_ptr<uint32_t[]> seen_;  // [V] zeros between rows
  std::unique_ptr<double[]> blocks_;  // [V / kMassBlock + 1]
  // [V + kScanPadding] each
  std::unique_ptr<float[]> logits_;
  std::unique_ptr<int32_t[]> ids_;
  std::unique_ptr<float[]> weights_;
  Candidates candidates_;  // in these three
};

}  // namespace engram::engine::cpu
