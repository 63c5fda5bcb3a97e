// Codes of f8_e4m3 to bf16 under emulation; see the header of this name in engine/ops/cuda.
#pragma once

#include <cstdint>

#include "memory/base/tensor.h"

namespace engram::engine::cuda {

inline void e4m3_to_bf16(uint32_t codes, uint32_t (&pairs)[2]) {
  for (int i = 0; i < 2; ++i) {
    pairs[i] = 0;
    for (int half = 0; half < 2; ++half) {
      const uint8_t code = static_cast<uint8_t>(codes >> (16 * i + 8 * half));
      const uint32_t bits = memory::Bf16(memory::e4m3_to_float(code)).bits;
      pairs[i] |= bits << (16 * half);
    }
  }
}

}  // namespace engram::engine::cuda
