// Codes of f8_e4m3 as operands of tensor cores. The emulation of the tests has a header of this
// name.
#pragma once

#include <cstdint>

namespace engram::engine::cuda {

// Four codes, none of them NaN, to bf16, exactly: (first, second) and (third, fourth), the earlier
// in the lower half of the word. The bits of a code are moved to the place of bf16's, whose
// exponent has a bias that is 120 larger: a product moves it, and makes subnormal codes normal.
// Arithmetic on pairs of bf16 keeps subnormal inputs unless told not to (PTX ISA, "fma").
__device__ inline void e4m3_to_bf16(uint32_t codes, uint32_t (&pairs)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    // Each code in the upper byte of its half.
    const uint32_t top = __byte_perm(codes, 0u, i == 0 ? 0x1404u : 0x3424u);
    const uint32_t bits = (top & 0x80008000u) | ((top >> 4) & 0x07f007f0u);
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"
        : "=r"(pairs[i])
        : "r"(bits), "r"(0x7b807b80u), "r"(0x80008000u));  // * 2^120, + -0
  }
}

}  // namespace engram::engine::cuda
