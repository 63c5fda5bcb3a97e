// The inner loops of linear layers with f8_e4m3 weights; what linear_kernels.h says of packed rows
// and of which thread does what holds here too.
//
// One result is: the products of the inputs that share a scale are added up from zero, fma over k
// in that order, on codes / 256, which f16 holds exactly; y = fma(sum, 256 * scale, y) over those
// sums, from zero; then the bias. So a weight is never rounded, and a row's bits depend on that row
// and its weights alone.
#pragma once

#include <cstdint>

#include "engine/ops/cpu/linear_kernels.h"

namespace engram::engine::cpu {

// As multiply_streaming(): up to kMaxStreamedRows rows; a panel is decoded once for all of them, a
// piece at a time that stays in the first cache.
constexpr int64_t kMaxStreamedRows = 32;
void multiply_fp8_streaming(const PanelWork& work);

// As multiply_blocked(), with the same scratch memory.
void multiply_fp8_blocked(const PanelWork& work, float* scratch);

}  // namespace engram::engine::cpu
