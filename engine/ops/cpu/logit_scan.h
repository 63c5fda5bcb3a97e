// Passes over a row of logits, as wide as the vocabulary: the part of sampling that is vectorised.
#pragma once

#include <cstdint>

namespace engram::engine::cpu {

// Ids per partial sum of masses(): where a draw continues its search.
constexpr int64_t kMassBlock = 1024;

struct RowTop {
  float logit = 0.f;
  int32_t id = 0;    // the lowest id that has it
  bool nan = false;  // a NaN somewhere: the rest means nothing
};

struct Candidate {
  float logit = 0.f;
  int32_t id = 0;
  double weight = 0.0;
};

RowTop find_top(const float* row, int64_t count);

// Sum of exp((row[i] - top) / temperature); the sum of each kMassBlock ids in blocks.
double masses(const float* row, int64_t count, float top, float temperature, double* blocks);

// How many are strictly larger.
int64_t count_above(const float* row, int64_t count, float logit);

// Those at or above the limit, ascending ids, weights not filled. Returns their number.
int64_t collect(const float* row, int64_t count, float limit, Candidate* to);

}  // namespace engram::engine::cpu
