// Matrix products of a warp on tensor cores, and the loading of their operands from shared memory.
// All 32 lanes call each function together. The emulation of the tests has a header of this name.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace engram::engine::cuda {

// c += a b for a [16, 16] and b [16, 8] in bf16, c [16, 8] in f32; every lane of the warp holds a
// part of each. With g = lane / 4 and i = 2 * (lane % 4):
//   a: (g, i), (g + 8, i), (g, i + 8), (g + 8, i + 8), each with its right neighbour in the upper
//      half of the word
//   b: (i, g), (i + 8, g), each with the element below
//   c: (g, i), (g, i + 1), (g + 8, i), (g + 8, i + 1)
// Source: PTX ISA, "Matrix fragments for mma.m16n8k16".
__device__ inline void mma_bf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two bf16 in one word, to nearest, ties to even.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Four e4m3 codes, the first in the lowest byte, to two words of bf16; exact. Moved to the place of
// bf16's bits, a code is too small by 2^120, subnormal ones included. A NaN code gives 480.
__device__ inline void widen_codes(uint32_t codes, uint32_t (&pairs)[2]) {
  const uint32_t bytes[2] = {__byte_perm(codes, 0, 0x1404), __byte_perm(codes, 0, 0x3424)};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t small = ((bytes[i] >> 4) & 0x07f007f0u) | (bytes[i] & 0x80008000u);
    asm("fma.rn.bf16x2 %0, %1, %2, %3;"
        : "=r"(pairs[i])
        : "r"(small), "r"(0x7b807b80u), "r"(0x80008000u));  // times 2^120 minus zero
  }
}

// Four matrices [8, 8] of two-byte elements in shared memory. Lane i brings the address of row
// i % 8 of matrix i / 8, a multiple of 16. Of each matrix a lane gets the elements (g, i) and
// (g, i + 1) in one word.
__device__ inline void load_matrices(const void* row, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}
// The same, of each matrix (i, g) and (i + 1, g).
__device__ inline void load_matrices_transposed(const void* row, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
}

}  // namespace engram::engine::cuda
