// f8_e4m3 weights on their way to memory: quantising those that are stored wider, checking those
// that are not, and laying out their scales. Start-up, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/ops/ops.h"

namespace engram::engine {

// Sums over weights that were quantised.
struct Fp8Error {
  double squared_error = 0;
  double squared = 0;  // of the weights

  Fp8Error& operator+=(const Fp8Error& other) {
    squared_error += other.squared_error;
    squared += other.squared;
    return *this;
  }
};

// rows [n, K] of bf16, f16 or f32 to codes [n, K], to nearest, ties to even, and the scales
// [ceil(n / 128), ceil(K / 128)] of their blocks: the one that puts the block's largest magnitude
// on the largest code, 1 for zeros. False for rows with a value that is not finite; codes and
// scales mean nothing then. Adds to `error` what every 16th row loses, unless null.
bool quantize_fp8(View rows, uint8_t* codes, float* scales, Fp8Error* error);

// The position of the first NaN code, or -1.
int64_t find_nan_code(const uint8_t* codes, int64_t count);

// scales [ceil(rows / 128), cols] of blocks as Matrix::scales has them: a row of them for every
// scale_rows outputs.
std::vector<float> spread_scales(
    const std::vector<float>& scales, int64_t rows, int64_t scale_cols, int64_t scale_rows);

}  // namespace engram::engine
