// Passes over a row of logits, as wide as the vocabulary: the part of sampling that is vectorised.
// None of them sorts. Arrays written to have room for kScanPadding elements more than are counted.
#pragma once

#include <cstdint>

namespace engram::engine::cpu {

// Ids per partial sum of masses(): where a draw continues its search.
constexpr int64_t kMassBlock = 1024;
constexpr int64_t kScanPadding = 16;

struct RowTop {
  float logit = 0.f;
  int32_t id = 0;    // the lowest id that has it
  bool nan = false;  // a NaN somewhere: the rest means nothing
};
RowTop find_top(const float* row, int64_t count);

// Sum of exp((row[i] - top) * sharpness); the sum of each kMassBlock ids in blocks.
double masses(const float* row, int64_t count, float top, float sharpness, double* blocks);

// How many are strictly larger.
int64_t count_above(const float* row, int64_t count, float logit);

// Those at or above the limit, with their ids, ascending ids. Returns their number.
int64_t collect(const float* row, int64_t count, float limit, float* logits, int32_t* ids);

// weights[i] = exp((logits[i] - top) * sharpness). Returns their sum.
float weigh(const float* logits, int64_t count, float top, float sharpness, float* weights);

// Where the best of some candidates end: those above the limit, and of those that equal it the
// first `equals`.
struct Cut {
  float limit = 0.f;
  int64_t equals = 0;
};
// All logits lie in [least, most].
struct Candidates {
  float* logits = nullptr;
  int32_t* ids = nullptr;  // ascending
  float* weights = nullptr;
  int64_t count = 0;
  float least = 0.f;
  float most = 0.f;
};
// The `wanted` largest.  REQUIRES: 1 <= wanted <= count.
Cut cut_at_count(const Candidates& candidates, int64_t wanted);
// The fewest whose weights reach `mass`; all if none do. Weights grow with logits.
Cut cut_at_mass(const Candidates& candidates, float mass);
// Drops what lies behind the cut, in place. Returns how many are left.
int64_t keep(const Candidates& candidates, Cut cut);

}  // namespace engram::engine::cpu
