// One or more rows of logits sampled by a backend, for the tests of sampling.
#pragma once

#include <limits>
#include <vector>

#include "tests/support/op_rig.h"

namespace engram::testing {

inline constexpr uint64_t kSamplingSeed = 5772156;
inline constexpr int64_t kMaxVocab = 151'936;
inline constexpr double kInf = std::numeric_limits<double>::infinity();

inline std::vector<engine::SampleResult> sample(
    OpRig& rig,
    View logits,
    const std::vector<engine::SampleRow>& rows,
    const engine::SampledIds& ids = {}) {
  std::vector<engine::SampleResult> results(rows.size());
  rig.ops().sample(rig.stream(), logits, rows, results, ids);
  rig.stream().synchronize();
  rig.ops().deliver_samples();
  return results;
}

inline std::vector<engine::SampleResult> sample(
    OpRig& rig, const Rows& logits, const std::vector<engine::SampleRow>& rows) {
  return sample(rig, rig.put(logits, DType::kF32), rows);
}

inline engine::SampleResult sample_one(
    OpRig& rig, const Rows& logits, const engine::SampleRow& row) {
  return sample(rig, logits, {row}).front();
}

// Fewer where the backend has to be emulated.
inline int repeats(int of_cpu, int of_cuda) {
  return backends().front().name == "cuda" ? of_cuda : of_cpu;
}

inline engine::SampleRow greedy() {
  engine::SampleRow row;
  row.temperature = 0.f;
  return row;
}

}  // namespace engram::testing
